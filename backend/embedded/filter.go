package embedded

import (
	"math/big"
	"strings"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// truth is the three-valued logic of RFC 4511 4.5.1.7.
type truth int8

const (
	no truth = iota
	undefined
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// filter is one node of a filter.
type filter struct {
	tag   ber.Tag   // ldap.Filter...
	subs  []*filter // of and, or, not
	key   string    // canonical attribute
	value string    // the assertion, in the attribute's normal form
	parts []part    // of substrings
}

// part is one piece of a substring assertion.
type part struct {
	tag  ber.Tag // ldap.FilterSubstrings...
	text string
}

// parseFilter reads the string form of a filter, which is what gldap makes of the wire form.
func parseFilter(s string) (*filter, error) {
	p, err := ldap.CompileFilter(s)
	if err != nil {
		return nil, fail(resultProtocolError, "the filter cannot be read")
	}
	return newFilter(p)
}

func newFilter(p *ber.Packet) (*filter, error) {
	f := &filter{tag: p.Tag}
	switch p.Tag {
	case ldap.FilterAnd, ldap.FilterOr, ldap.FilterNot:
		for _, c := range p.Children {
			sub, err := newFilter(c)
			if err != nil {
				return nil, err
			}
			f.subs = append(f.subs, sub)
		}
	case ldap.FilterExtensibleMatch:
		return nil, fail(resultUnwilling, "extensible matching is not supported")
	case ldap.FilterPresent:
		f.key = canonical(text(p))
	case ldap.FilterSubstrings:
		f.key = canonical(text(p.Children[0]))
		for _, c := range p.Children[1].Children {
			// Spaces at the ends of a piece count; the case does not.
			f.parts = append(f.parts, part{c.Tag, strings.ToLower(text(c))})
		}
	default:
		f.key = canonical(text(p.Children[0]))
		f.value = typeOf(f.key).normal(text(p.Children[1]))
	}
	return f, nil
}

func text(p *ber.Packet) string { return ber.DecodeString(p.Data.Bytes()) }

// matches evaluates the filter on an entry as a role sees it.
func (f *filter) matches(t *tree, e *entry, r role) truth {
	switch f.tag {
	case ldap.FilterAnd:
		result := yes
		for _, sub := range f.subs {
			result = min(result, sub.matches(t, e, r))
		}
		return result
	case ldap.FilterOr:
		result := no
		for _, sub := range f.subs {
			result = max(result, sub.matches(t, e, r))
		}
		return result
	case ldap.FilterNot:
		return yes - f.subs[0].matches(t, e, r)
	}
	if !r.sees(f.key) {
		return undefined
	}
	values := t.values(e, f.key)
	if f.tag == ldap.FilterPresent {
		return truthOf(len(values) > 0)
	}
	if typeOf(f.key).secret {
		// Nobody needs to search by a stored secret: only its presence can be asked for.
		return undefined
	}
	for _, v := range values {
		if f.holds(v) {
			return yes
		}
	}
	return no
}

// holds compares one value.
func (f *filter) holds(value string) bool {
	t := typeOf(f.key)
	switch f.tag {
	case ldap.FilterSubstrings:
		return f.substrings(strings.ToLower(strings.Join(strings.Fields(value), " ")))
	case ldap.FilterGreaterOrEqual:
		return ordered(t.normal(value), f.value) >= 0
	case ldap.FilterLessOrEqual:
		return ordered(t.normal(value), f.value) <= 0
	}
	return t.normal(value) == f.value
}

func (f *filter) substrings(v string) bool {
	for _, p := range f.parts {
		switch p.tag {
		case ldap.FilterSubstringsInitial:
			rest, ok := strings.CutPrefix(v, p.text)
			if !ok {
				return false
			}
			v = rest
		case ldap.FilterSubstringsFinal:
			return strings.HasSuffix(v, p.text)
		default:
			_, rest, ok := strings.Cut(v, p.text)
			if !ok {
				return false
			}
			v = rest
		}
	}
	return true
}

// ordered compares two values: integers by size, everything else by octets,
// which is the order of GeneralizedTime too.
func ordered(a, b string) int {
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			return x.Cmp(y)
		}
	}
	return strings.Compare(a, b)
}

// maxInteger bounds the digits of a number, for the time of reading it.
const maxInteger = 64

func integer(s string) (*big.Int, bool) {
	if len(s) > maxInteger {
		return nil, false
	}
	return new(big.Int).SetString(s, 10)
}
