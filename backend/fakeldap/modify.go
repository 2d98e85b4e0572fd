package fakeldap

import (
	"fmt"
	"slices"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"

	"appbind/wire"
)

// The result codes and the control of a modify that package wire has no use for.
const (
	attributeOrValueExists = 20
	assertionFailed        = 122
	assertionControl       = "1.3.6.1.1.12"
)

// Modify carries out a modify, whole or not at all, and answers it: values are
// compared octet by octet, the assertion control (RFC 4528) is honoured, and an
// entry that has entryCSN gets a new one. Directory.Handle answers a modify
// without doing anything; a Handler that wants more calls this.
func (d *Directory) Modify(c *Conn, m wire.Message) { c.Answer(m, d.Apply(m)) }

// Apply is Modify without the answer: the result code.
func (d *Directory) Apply(m wire.Message) int32 {
	dn, rest, err := wire.DecodeTarget(m.Body)
	if err != nil {
		return wire.ResultProtocolError
	}
	changes, err := ber.DecodePacketErr(rest)
	if err != nil {
		return wire.ResultProtocolError
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.findLocked(string(dn))
	if e == nil {
		return wire.ResultNoSuchObject
	}
	if !e.asserted(m.Controls) {
		return assertionFailed
	}
	after := slices.Clone(e.attributes)
	for _, change := range changes.Children {
		operation, _ := change.Children[0].Value.(int64)
		attribute := change.Children[1]
		name := attribute.Children[0].Data.String()
		var values []string
		for _, v := range attribute.Children[1].Children {
			values = append(values, v.Data.String())
		}
		var code int32
		if after, code = apply(after, operation, name, values); code != wire.ResultSuccess {
			return code
		}
	}
	d.writes++
	for i := 0; i+1 < len(after); i += 2 {
		if after[i] == "entryCSN" {
			after[i+1] = fmt.Sprintf("20260101000000.000000Z#%06d#000#000000", d.writes)
		}
	}
	// A new entry: searches under way look at the old one.
	d.entries[slices.Index(d.entries, e)] = &entry{dn: e.dn, parsed: e.parsed, password: e.password, attributes: after}
	return wire.ResultSuccess
}

// Values are the values that an entry has now.
func (d *Directory) Values(dn, name string) []string {
	e := d.find(dn)
	if e == nil {
		return nil
	}
	return e.values(name)
}

// asserted evaluates an assertion control; without one it holds.
func (e *entry) asserted(controls []byte) bool {
	holds := true
	_ = wire.EachControl(controls, func(c wire.Control) bool { // validated by the reader's tests
		if string(c.OID) == assertionControl {
			filter, err := ber.DecodePacketErr(c.Value)
			holds = err == nil && e.matches(filter)
		}
		return true
	})
	return holds
}

// apply makes one change (RFC 4511 4.6) in a list of names and values.
func apply(list []string, operation int64, name string, values []string) ([]string, int32) {
	at := func(value string) int {
		for i := 0; i+1 < len(list); i += 2 {
			if strings.EqualFold(list[i], name) && list[i+1] == value {
				return i
			}
		}
		return -1
	}
	if operation == 2 || operation == 1 && len(values) == 0 {
		list = dropAll(list, name)
	}
	for _, v := range values {
		switch i := at(v); {
		case operation == 1 && i < 0:
			return nil, wire.ResultNoSuchAttribute
		case operation == 1:
			list = slices.Delete(list, i, i+2)
		case i >= 0:
			return nil, attributeOrValueExists
		default:
			list = append(list, name, v)
		}
	}
	return list, wire.ResultSuccess
}

// dropAll removes every value of an attribute.
func dropAll(list []string, name string) []string {
	var kept []string
	for i := 0; i+1 < len(list); i += 2 {
		if !strings.EqualFold(list[i], name) {
			kept = append(kept, list[i], list[i+1])
		}
	}
	return kept
}
