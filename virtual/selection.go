package virtual

import (
	"bytes"

	"appbind/wire"
)

// Selection is which attributes a search asks for (RFC 4511 4.5.1.8).
type Selection struct {
	wanted    [attributes]bool
	typesOnly bool
}

// NewSelection reads the attribute selection of a search.
func NewSelection(s *wire.SearchRequest) Selection {
	sel := Selection{typesOnly: s.TypesOnly}
	if len(s.Attributes) == 0 {
		sel.all(false)
	}
	_ = wire.EachString(s.Attributes, func(a []byte) bool { // validated before
		switch name, isClassName := bytes.CutPrefix(a, []byte("@")); {
		case string(a) == "*", isClassName && isClass(name): // RFC 4529
			sel.all(false)
		case string(a) == "+": // RFC 3673
			sel.all(true)
		default:
			if n := find(a); n >= 0 {
				sel.wanted[n] = true
			}
		}
		return true
	})
	return sel
}

func (s *Selection) all(operational bool) {
	for i := range specs {
		s.wanted[i] = s.wanted[i] || specs[i].operational == operational
	}
}

// Append appends the body of a SearchResultEntry. dn is the entry's DN as the client is to see it.
func (e *Entry) Append(dst []byte, dn []byte, sel Selection) []byte {
	entry := wire.SearchEntry{DN: dn}
	for i, values := range e.values {
		if !sel.wanted[i] || len(values) == 0 {
			continue
		}
		var list [][]byte
		for _, v := range values {
			if !sel.typesOnly {
				list = append(list, []byte(v))
			}
		}
		entry.Attributes = wire.AppendAttribute(entry.Attributes, specs[i].name, list...)
	}
	return entry.Append(dst)
}

// Compare is the result of a compare (RFC 4511 4.10) of an attribute of the entry.
func (e *Entry) Compare(attribute, value []byte) int32 {
	n := find(attribute)
	switch {
	case n < 0:
		return wire.ResultUndefinedAttributeType
	case len(e.values[n]) == 0:
		return wire.ResultNoSuchAttribute
	}
	switch equal(n, e.values[n], string(value)) {
	case yes:
		return wire.ResultCompareTrue
	case no:
		return wire.ResultCompareFalse
	}
	return wire.ResultInvalidAttributeSyntax
}
