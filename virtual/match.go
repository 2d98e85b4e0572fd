package virtual

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"appbind/secrets"
	"appbind/wire"
)

// truth is the outcome of a filter (RFC 4511 4.5.1.7).
type truth int8

const (
	no        truth = -1
	undefined truth = 0
	yes       truth = 1
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// The choices of a filter.
const (
	filterAnd        = 0xa0
	filterOr         = 0xa1
	filterNot        = 0xa2
	filterEqual      = 0xa3
	filterSubstrings = 0xa4
	filterGreater    = 0xa5
	filterLess       = 0xa6
	filterPresent    = 0x87
	filterApprox     = 0xa8
	filterExtensible = 0xa9

	substringInitial = 0x80
	substringFinal   = 0x82
)

// Matches reports whether a filter, as a whole element that wire.EachFilterItem
// has found well formed, selects the entry. What it asks about an attribute that the
// entry cannot have is Undefined.
func (e *Entry) Matches(filter []byte) bool { return e.match(filter, 0) == yes }

func (e *Entry) match(filter []byte, depth int) truth {
	tag, content, _, err := wire.Element(filter)
	if err != nil || depth > wire.MaxNesting {
		return undefined
	}
	switch tag {
	case filterAnd, filterOr:
		// The least of an AND, the most of an OR; of nothing absolutely true and false (RFC 4526).
		result, pick := yes, func(a, b truth) truth { return min(a, b) }
		if tag == filterOr {
			result, pick = no, func(a, b truth) truth { return max(a, b) }
		}
		for len(content) > 0 {
			_, _, rest, err := wire.Element(content)
			if err != nil {
				return undefined
			}
			result = pick(result, e.match(content[:len(content)-len(rest)], depth+1))
			content = rest
		}
		return result
	case filterNot:
		return -e.match(content, depth+1)
	}
	result := undefined
	_ = wire.EachFilterItem(filter, func(i wire.FilterItem) bool { // malformed: Undefined
		result = e.item(i, content)
		return false
	})
	return result
}

// item is match for a leaf.
func (e *Entry) item(i wire.FilterItem, content []byte) truth {
	n := find(i.Attribute)
	if n < 0 || isUse(n) && !e.recalled {
		return undefined
	}
	values := e.values[n]
	switch i.Tag {
	case filterPresent:
		return truthOf(len(values) > 0)
	case filterEqual, filterApprox:
		return equal(n, values, string(i.Value))
	case filterSubstrings:
		return substrings(n, values, content)
	case filterGreater, filterLess:
		return ordered(n, values, string(i.Value), i.Tag == filterLess)
	case filterExtensible:
		r := &rules[specs[n].rule]
		if len(i.Rule) == 0 || equalFold(r.name, i.Rule) || string(i.Rule) == r.oid {
			return equal(n, values, string(i.Value))
		}
	}
	return undefined
}

// equal reports whether one of the values of an attribute is the asserted one.
func equal(n int, values []string, asserted string) truth {
	if specs[n].rule == times {
		want, ok := parseMoment(asserted)
		if !ok {
			return undefined
		}
		return truthOf(slices.ContainsFunc(values, func(v string) bool { t, ok := parseMoment(v); return ok && t.Equal(want) }))
	}
	want := canonical(n, asserted)
	return truthOf(slices.ContainsFunc(values, func(v string) bool { return canonical(n, v) == want }))
}

// canonical is a value in the form for comparisons.
func canonical(n int, v string) string {
	switch {
	case n == network:
		if p, err := parseNetwork(v); err == nil {
			return p.String()
		}
	case n == service:
		return secrets.CanonicalService(fold(v))
	case specs[n].rule == objects && v == classOID:
		v = Class
	case specs[n].rule == objects && v == "2.5.6.0":
		v = "top"
	}
	return fold(v)
}

// ordered compares the values of an attribute that has times with the asserted one.
func ordered(n int, values []string, asserted string, less bool) truth {
	want, ok := parseMoment(asserted)
	if specs[n].rule != times || !ok {
		return undefined
	}
	return truthOf(slices.ContainsFunc(values, func(v string) bool {
		t, ok := parseMoment(v)
		return ok && (t.Equal(want) || t.Before(want) == less)
	}))
}

// parseMoment reads a GeneralizedTime (RFC 4517 3.3.13).
func parseMoment(s string) (time.Time, bool) {
	for _, form := range [...]string{"20060102150405Z0700", "200601021504Z0700", "2006010215Z0700"} {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// parseNetwork reads a network, or an address as the network of it alone.
func parseNetwork(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// substrings compares the values of an attribute with the parts of a substrings filter.
func substrings(n int, values []string, content []byte) truth {
	if r := specs[n].rule; r != text && r != ascii {
		return undefined
	}
	_, rest, err := wire.Expect(content, wire.TagOctetString)
	if err != nil {
		return undefined
	}
	parts, _, err := wire.Expect(rest, wire.TagSequence)
	if err != nil {
		return undefined
	}
	return truthOf(slices.ContainsFunc(values, func(v string) bool { return hasParts(fold(v), parts) }))
}

// hasParts reports whether a value has the parts one after the other.
func hasParts(v string, parts []byte) bool {
	for len(parts) > 0 {
		tag, content, rest, err := wire.Element(parts)
		if err != nil {
			return false
		}
		part := foldInner(string(content))
		switch tag {
		case substringInitial:
			if !strings.HasPrefix(v, part) {
				return false
			}
			v = v[len(part):]
		case substringFinal:
			return strings.HasSuffix(v, part)
		default:
			at := strings.Index(v, part)
			if at < 0 {
				return false
			}
			v = v[at+len(part):]
		}
		parts = rest
	}
	return true
}

// fold writes a value without case, with runs of spaces as one and none at the ends.
func fold(v string) string { return strings.Trim(foldInner(v), " ") }

// foldInner is fold that leaves a space at each end.
func foldInner(v string) string {
	space := false
	return strings.Map(func(r rune) rune {
		before := space
		if space = r == ' '; space && before {
			return -1
		}
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, v)
}
