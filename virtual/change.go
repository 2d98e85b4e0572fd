package virtual

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"appbind/secrets"
	"appbind/wire"
)

// The operations of a change (RFC 4511 4.6).
const (
	opAdd     = 0
	opDelete  = 1
	opReplace = 2

	tagEnumerated = 0x0a
	tagSet        = 0x31
)

// maxValues bounds the values of one modify.
const maxValues = 1000

// Refusal is why a change of an entry is not made: a result and what to do instead.
type Refusal struct {
	Code   int32
	Reason string
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason }

func refusal(code int32, format string, args ...any) error {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

// change is one change of a modify.
type change struct {
	operation byte
	attribute int // one that can be changed
	values    []string
}

// Changes are the changes of one modify, in order.
type Changes []change

// DecodeChanges reads what follows the DN in a ModifyRequest. Errors: *Refusal
// for what an entry of this package cannot become, wire.ErrMalformed.
func DecodeChanges(rest []byte) (Changes, error) {
	list, rest, err := wire.Expect(rest, wire.TagSequence)
	if err != nil || len(rest) != 0 {
		return nil, wire.ErrMalformed
	}
	var out Changes
	values := 0
	for len(list) > 0 {
		var item []byte
		if item, list, err = wire.Expect(list, wire.TagSequence); err != nil {
			return nil, err
		}
		c, err := decodeChange(item)
		if err != nil {
			return nil, err
		}
		if values += len(c.values); values > maxValues {
			return nil, refusal(wire.ResultUnwillingToPerform, "too many values in one request")
		}
		out = append(out, c)
	}
	return out, nil
}

func decodeChange(item []byte) (c change, err error) {
	operation, rest, err := wire.Expect(item, tagEnumerated)
	if err != nil || len(operation) != 1 {
		return c, wire.ErrMalformed
	}
	c.operation = operation[0]
	partial, rest, err := wire.Expect(rest, wire.TagSequence)
	if err != nil || len(rest) != 0 {
		return c, wire.ErrMalformed
	}
	name, rest, err := wire.Expect(partial, wire.TagOctetString)
	if err != nil {
		return c, err
	}
	set, rest, err := wire.Expect(rest, tagSet)
	if err != nil || len(rest) != 0 {
		return c, wire.ErrMalformed
	}
	if err = wire.EachString(set, func(v []byte) bool { c.values = append(c.values, string(v)); return true }); err != nil {
		return c, err
	}
	c.attribute = find(name)
	switch n := c.attribute; {
	case n < 0:
		return c, refusal(wire.ResultUndefinedAttributeType, "the entry of an app password has no such attribute; it has appPasswordLabel, appPasswordExpires, appPasswordService, appPasswordNetwork")
	case n == objectClass:
		return c, refusal(wire.ResultObjectClassModsProhibited, "the class of an app password cannot be changed")
	case n == id:
		return c, refusal(wire.ResultNotAllowedOnRDN, "appPasswordId cannot be changed")
	case specs[n].fixed:
		return c, refusal(wire.ResultConstraintViolation, "%s cannot be changed", specs[n].name)
	case c.operation > opReplace:
		return c, refusal(wire.ResultUnwillingToPerform, "only add, delete and replace are possible")
	case c.operation == opAdd && len(c.values) == 0:
		return c, wire.ErrMalformed
	case slices.ContainsFunc(c.values, func(v string) bool { return !utf8.ValidString(v) }):
		return c, refusal(wire.ResultInvalidAttributeSyntax, "%s is text in UTF-8", specs[n].name)
	}
	return c, nil
}

// Apply makes the changes to an app password, all or none. Errors: *Refusal.
func (list Changes) Apply(p *secrets.Params) error {
	values := ofParams(p)
	before := values
	for _, c := range list {
		var err error
		if values[c.attribute], err = c.apply(slices.Clone(values[c.attribute])); err != nil {
			return err
		}
	}
	out := *p
	if err := setText(&out, values, before); err != nil {
		return err
	}
	if err := setTime(&out, values, before); err != nil {
		return err
	}
	if err := setNetworks(&out, values, before); err != nil {
		return err
	}
	*p = out
	return nil
}

// apply makes one change to the values of its attribute.
func (c *change) apply(values []string) ([]string, error) {
	n, name := c.attribute, specs[c.attribute].name
	switch {
	case c.operation == opDelete && len(c.values) == 0:
		if len(values) == 0 {
			return nil, refusal(wire.ResultNoSuchAttribute, "there is no %s", name)
		}
		return nil, nil
	case c.operation == opReplace:
		values = nil
	}
	for _, v := range c.values {
		at := slices.IndexFunc(values, func(o string) bool { return same(n, o, v) })
		switch {
		case c.operation == opDelete && at < 0:
			return nil, refusal(wire.ResultNoSuchAttribute, "%s has no such value", name)
		case c.operation == opDelete:
			values = slices.Delete(values, at, at+1)
		case at >= 0:
			return nil, refusal(wire.ResultAttributeOrValueExists, "%s has this value already", name)
		default:
			values = append(values, v)
		}
	}
	return values, nil
}

// same reports whether two values of an attribute are one.
func same(n int, a, b string) bool {
	if specs[n].rule == times {
		return equal(n, []string{a}, b) == yes
	}
	return canonical(n, a) == canonical(n, b)
}

// setText takes the label and the services over.
func setText(p *secrets.Params, values, before [attributes][]string) error {
	switch list := values[label]; {
	case slices.Equal(list, before[label]): // as it is, however it came to be
	case len(list) == 0:
		return refusal(wire.ResultConstraintViolation, "an app password needs a label: replace appPasswordLabel, do not delete it")
	case len(list) > 1:
		return single(label)
	default:
		p.Label = list[0]
	}
	if !slices.Equal(values[service], before[service]) {
		p.Services = values[service]
	}
	return nil
}

func single(n int) error {
	return refusal(wire.ResultConstraintViolation, "%s has one value only: replace it", specs[n].name)
}

// setTime takes the expiry over.
func setTime(p *secrets.Params, values, before [attributes][]string) error {
	switch list := values[expires]; {
	case slices.Equal(list, before[expires]):
	case len(list) > 1:
		return single(expires)
	case len(list) == 0:
		p.Expires = time.Time{}
	default:
		t, ok := parseMoment(list[0])
		if !ok {
			return refusal(wire.ResultInvalidAttributeSyntax, "appPasswordExpires is a time such as 20271231235959Z")
		}
		p.Expires = t.UTC().Truncate(time.Second)
	}
	return nil
}

// setNetworks takes the networks over.
func setNetworks(p *secrets.Params, values, before [attributes][]string) error {
	if slices.Equal(values[network], before[network]) {
		return nil
	}
	var list []netip.Prefix
	for _, v := range values[network] {
		n, err := parseNetwork(v)
		if err != nil {
			return refusal(wire.ResultInvalidAttributeSyntax, "appPasswordNetwork is a network such as 192.0.2.0/24 or 2001:db8::/48, or an address: %q", strings.ToValidUTF8(v, "?"))
		}
		list = append(list, n)
	}
	p.Networks = list
	return nil
}
