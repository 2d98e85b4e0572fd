package wire

import "bytes"

// The choices of Filter (RFC 4511 4.5.1.7).
const (
	filterAnd            = 0xa0
	filterOr             = 0xa1
	filterNot            = 0xa2
	filterEqual          = 0xa3
	filterSubstrings     = 0xa4
	filterGreaterOrEqual = 0xa5
	filterLessOrEqual    = 0xa6
	filterPresent        = 0x87
	filterApprox         = 0xa8
	filterExtensible     = 0xa9
)

// The parts of a substrings filter (4.5.1.7.2) and of an extensible match (4.5.1.7.7).
const (
	substringInitial = 0x80
	substringAny     = 0x81
	substringFinal   = 0x82

	extensibleRule         = 0x81
	extensibleType         = 0x82
	extensibleValue        = 0x83
	extensibleDNAttributes = 0x84
)

// FilterItem is one leaf of a filter.
type FilterItem struct {
	// Tag is the choice of RFC 4511 4.5.1.7.
	Tag byte
	// Attribute is the attribute description; nil in an extensible match without one.
	Attribute []byte
	// Rule is the matching rule of an extensible match; nil elsewhere.
	Rule []byte
	// Value is the assertion value; nil for present and substrings.
	Value []byte
	// DNAttributes says that an extensible match looks at the DN too.
	DNAttributes bool
}

// EachFilterItem calls f for each leaf of filter (a whole element), in the
// order of the bytes, until f returns false. Errors: ErrMalformed, also for
// more than MaxNesting levels or MaxFilterNodes parts.
func EachFilterItem(filter []byte, f func(FilterItem) bool) error { return walkFilter(filter, f) }

// walkFilter checks a filter and calls f, if there is one, for each leaf. It
// keeps its own stack: the depth is the client's choice, the goroutine's stack
// is not.
func walkFilter(filter []byte, f func(FilterItem) bool) error {
	if !isOneElement(filter) {
		return ErrMalformed
	}
	var open [MaxNesting][]byte // what is left to read, level by level
	open[0] = filter
	for depth, nodes := 1, 0; depth > 0; {
		if len(open[depth-1]) == 0 {
			depth--
			continue
		}
		tag, content, rest, err := Element(open[depth-1])
		if err != nil {
			return err
		}
		open[depth-1] = rest
		nodes++
		switch tag {
		case filterAnd, filterOr, filterNot:
			// An and or an or of nothing is RFC 4526's absolute true or false; a not holds one filter.
			if depth == MaxNesting || tag == filterNot && !isOneElement(content) {
				return ErrMalformed
			}
			open[depth] = content
			depth++
		default:
			item, parts, err := filterItem(tag, content)
			if err != nil {
				return err
			}
			nodes += parts
			if f != nil && !f(item) {
				return nil
			}
		}
		if nodes > MaxFilterNodes {
			return ErrMalformed
		}
	}
	return nil
}

// isOneElement reports whether b is one element and nothing else.
func isOneElement(b []byte) bool {
	_, _, rest, err := Element(b)
	return err == nil && len(rest) == 0
}

// filterItem reads one leaf. parts is the number of its substrings.
func filterItem(tag byte, content []byte) (item FilterItem, parts int, err error) {
	item.Tag = tag
	switch tag {
	case filterEqual, filterGreaterOrEqual, filterLessOrEqual, filterApprox:
		item.Attribute, item.Value, err = assertion(content)
	case filterPresent:
		item.Attribute = content
		if len(content) == 0 {
			err = ErrMalformed
		}
	case filterSubstrings:
		item.Attribute, parts, err = substrings(content)
	case filterExtensible:
		item, err = extensible(content)
	default:
		err = ErrMalformed
	}
	return item, parts, err
}

// assertion reads the contents of an AttributeValueAssertion (RFC 4511 4.1.6).
func assertion(content []byte) (attribute, value []byte, err error) {
	attribute, rest, err := Expect(content, TagOctetString)
	if err != nil || len(attribute) == 0 {
		return nil, nil, ErrMalformed
	}
	if value, rest, err = Expect(rest, TagOctetString); err != nil || len(rest) != 0 {
		return nil, nil, ErrMalformed
	}
	return attribute, value, nil
}

// substrings reads a SubstringFilter: at least one part, the initial one first
// and the final one last (RFC 4511 4.5.1.7.2).
func substrings(content []byte) (attribute []byte, parts int, err error) {
	attribute, rest, err := Expect(content, TagOctetString)
	if err != nil || len(attribute) == 0 {
		return nil, 0, ErrMalformed
	}
	list, rest, err := Expect(rest, TagSequence)
	if err != nil || len(rest) != 0 || len(list) == 0 {
		return nil, 0, ErrMalformed
	}
	for ; len(list) > 0; parts++ {
		var tag byte
		if tag, _, list, err = Element(list); err != nil {
			return nil, 0, err
		}
		switch {
		case tag == substringInitial && parts == 0:
		case tag == substringAny:
		case tag == substringFinal && len(list) == 0:
		default:
			return nil, 0, ErrMalformed
		}
	}
	return attribute, parts, nil
}

// extensible reads a MatchingRuleAssertion. One without a rule must have a
// type (RFC 4511 4.5.1.7.7).
func extensible(content []byte) (FilterItem, error) {
	item := FilterItem{Tag: filterExtensible}
	var err error
	if len(content) > 0 && content[0] == extensibleRule {
		if item.Rule, content, err = Expect(content, extensibleRule); err != nil || len(item.Rule) == 0 {
			return item, ErrMalformed
		}
	}
	if len(content) > 0 && content[0] == extensibleType {
		if item.Attribute, content, err = Expect(content, extensibleType); err != nil || len(item.Attribute) == 0 {
			return item, ErrMalformed
		}
	}
	if item.Rule == nil && item.Attribute == nil {
		return item, ErrMalformed
	}
	if item.Value, content, err = Expect(content, extensibleValue); err != nil {
		return item, err
	}
	if len(content) > 0 {
		dn, rest, err := Expect(content, extensibleDNAttributes)
		if err != nil || len(dn) != 1 || len(rest) != 0 {
			return item, ErrMalformed
		}
		item.DNAttributes = dn[0] != 0
	}
	return item, nil
}

// placeholder is what AppendExpandedFilter replaces.
const placeholder = "%s"

// AppendExpandedFilter appends filter with each occurrence of %s in an
// assertion value replaced by name, the parts of substrings and the values of
// extensible matches included; attribute descriptions and matching rules stay
// as they are. It works on the encoded filter, so that no character of name can
// change the filter's structure. Errors: ErrMalformed, see EachFilterItem.
func AppendExpandedFilter(dst, filter []byte, name string) ([]byte, error) {
	if err := walkFilter(filter, nil); err != nil {
		return dst, err
	}
	return appendExpanded(dst, filter, name), nil
}

// appendExpanded appends a list of filters that walkFilter has passed, and so is at most MaxNesting deep.
func appendExpanded(dst, list []byte, name string) []byte {
	for len(list) > 0 {
		tag, content, rest, err := Element(list)
		if err != nil {
			panic("appbind: internal error: a filter that was checked does not parse")
		}
		start := len(dst)
		switch tag {
		case filterAnd, filterOr, filterNot:
			dst = CloseElement(appendExpanded(dst, content, name), start, tag)
		case filterPresent:
			dst = append(dst, list[:len(list)-len(rest)]...)
		default:
			dst = CloseElement(appendExpandedItem(dst, tag, content, name), start, tag)
		}
		list = rest
	}
	return dst
}

// appendExpandedItem appends the contents of one leaf, its values expanded:
// what follows the attribute description, or the [3] of an extensible match.
func appendExpandedItem(dst []byte, filter byte, content []byte, name string) []byte {
	for first := true; len(content) > 0; first = false {
		tag, part, rest, err := Element(content)
		if err != nil {
			panic("appbind: internal error: a filter that was checked does not parse")
		}
		start := len(dst)
		switch {
		case filter == filterExtensible && tag != extensibleValue, filter != filterExtensible && first:
			dst = append(dst, content[:len(content)-len(rest)]...)
		case tag == TagSequence:
			for len(part) > 0 {
				var sub []byte
				at := len(dst)
				if tag, sub, part, err = Element(part); err != nil {
					panic("appbind: internal error: a filter that was checked does not parse")
				}
				dst = CloseElement(appendReplaced(dst, sub, name), at, tag)
			}
			dst = CloseElement(dst, start, TagSequence)
		default:
			dst = CloseElement(appendReplaced(dst, part, name), start, tag)
		}
		content = rest
	}
	return dst
}

// appendReplaced appends value with each placeholder replaced.
func appendReplaced(dst, value []byte, name string) []byte {
	for {
		i := bytes.Index(value, []byte(placeholder))
		if i < 0 {
			return append(dst, value...)
		}
		dst = append(append(dst, value[:i]...), name...)
		value = value[i+len(placeholder):]
	}
}

// AppendAnd appends (&(a)(b)...) of whole filter elements; empty ones are left
// out, a single one stands alone, and of none nothing is appended.
func AppendAnd(dst []byte, filters ...[]byte) []byte {
	start, n := len(dst), 0
	for _, f := range filters {
		if len(f) > 0 {
			dst = append(dst, f...)
			n++
		}
	}
	if n < 2 {
		return dst
	}
	return CloseElement(dst, start, filterAnd)
}
