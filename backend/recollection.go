package backend

import (
	"strings"

	"appbind/wire"
)

// recollection is a table as searches in an outage look at it: all records, and
// the records by the values of an attribute. It is made when it is asked for
// and thrown away with the next change of the table, of which there are few in an outage.
type recollection struct {
	all  []*record
	seen map[*copiedAttribute]bool // some record has a value of it
	by   map[*copiedAttribute]*valueIndex
}

// valueIndex is the records by the canonical values of one attribute.
type valueIndex struct {
	equal map[string][]*record
	// undecided have a value of which memory does not know what it equals.
	undecided []*record
}

// recollect is the recollection of a table, with the given attributes indexed.
func (t *table) recollect(indexed []*copiedAttribute) *recollection {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.index == nil {
		t.index = &recollection{seen: map[*copiedAttribute]bool{}, by: map[*copiedAttribute]*valueIndex{}}
		t.index.all = make([]*record, 0, len(t.byID))
		for _, r := range t.byID {
			t.index.all = append(t.index.all, r)
			t.copied.each(r, func(a *copiedAttribute, _ wire.Attribute) { t.index.seen[a] = true })
		}
	}
	x := t.index
	for _, a := range indexed {
		if x.by[a] == nil {
			// Others look at this one without the lock: never changed, made anew.
			more := &recollection{all: x.all, seen: x.seen, by: map[*copiedAttribute]*valueIndex{a: t.indexValues(a, x.all)}}
			for known, v := range x.by {
				more.by[known] = v
			}
			x, t.index = more, more
		}
	}
	return x
}

// indexValues indexes one attribute; the caller holds t.mu.
func (t *table) indexValues(a *copiedAttribute, all []*record) *valueIndex {
	x := &valueIndex{equal: map[string][]*record{}}
	for _, r := range all {
		undecided := false
		t.copied.each(r, func(have *copiedAttribute, values wire.Attribute) {
			if have != a {
				return
			}
			_ = wire.EachString(values.Values, func(v []byte) bool { // checked when it was taken in
				key, ok := a.rule.canonical(v)
				undecided = undecided || !ok
				if list := x.equal[key]; ok && (len(list) == 0 || list[len(list)-1] != r) {
					x.equal[key] = append(list, r)
				}
				return true
			})
		})
		if undecided {
			x.undecided = append(x.undecided, r)
		}
	}
	return x
}

// each calls f for each attribute that is held of a record.
func (c *copiedAttributes) each(r *record, f func(a *copiedAttribute, values wire.Attribute)) {
	_ = wire.EachAttribute(r.copied, func(v wire.Attribute) bool { // checked when it was taken in
		name := v.Type
		if i := strings.IndexByte(string(name), ';'); i >= 0 {
			name = name[:i]
		}
		if a := c.find(name); a != nil {
			f(a, v)
		}
		return true
	})
}

// truth is the value of a filter (RFC 4511 4.5.1.7), in the order in which AND
// is the least of its parts, OR the greatest, and NOT the opposite.
type truth int8

const (
	isFalse   truth = -1
	undefined truth = 0
	isTrue    truth = 1
)

// node is one part of a filter, prepared for many records.
type node struct {
	tag       byte
	parts     []*node          // of and, or, not
	attribute *copiedAttribute // nil: memory does not hold it
	value     string           // what is asserted, canonical
	decided   bool             // value is known to be comparable
	pieces    []piece          // of substrings
}

// piece is one part of a substrings filter.
type piece struct {
	tag  byte
	text string
}

// The tags of filters that memory looks into (RFC 4511 4.5.1.7).
const (
	tagAnd        = 0xa0
	tagOr         = 0xa1
	tagNot        = 0xa2
	tagEqual      = 0xa3
	tagSubstrings = 0xa4
	tagPresent    = 0x87

	tagInitial = 0x80
	tagAny     = 0x81
	tagFinal   = 0x82
)

// prepare makes a node of a filter that wire has validated.
func (c *copiedAttributes) prepare(filter []byte) (*node, error) {
	tag, content, _, err := wire.Element(filter)
	if err != nil {
		return nil, err
	}
	n := &node{tag: tag}
	switch tag {
	case tagAnd, tagOr, tagNot:
		for len(content) > 0 {
			_, _, rest, err := wire.Element(content)
			if err != nil {
				return nil, err
			}
			part, err := c.prepare(content[:len(content)-len(rest)])
			if err != nil {
				return nil, err
			}
			n.parts = append(n.parts, part)
			content = rest
		}
	case tagSubstrings:
		err = c.prepareSubstrings(n, content)
	default:
		err = wire.EachFilterItem(filter, func(i wire.FilterItem) bool {
			if n.attribute = c.find(i.Attribute); n.attribute != nil && tag == tagEqual {
				n.value, n.decided = n.attribute.rule.canonical(i.Value)
			}
			return true
		})
	}
	return n, err
}

// prepareSubstrings takes pieces of which it is certain what they match: ASCII, without spaces at their ends.
func (c *copiedAttributes) prepareSubstrings(n *node, content []byte) error {
	name, rest, err := wire.Expect(content, wire.TagOctetString)
	if err != nil {
		return err
	}
	list, _, err := wire.Expect(rest, wire.TagSequence)
	if err != nil {
		return err
	}
	a := c.find(name)
	if a == nil || !a.substr {
		return nil
	}
	n.attribute, n.decided = a, true
	for len(list) > 0 {
		var tag byte
		var value []byte
		if tag, value, list, err = wire.Element(list); err != nil {
			return err
		}
		text, ok := a.rule.canonical(value)
		n.decided = n.decided && ok && isASCII(text) && len(text) == len(value) && text != ""
		n.pieces = append(n.pieces, piece{tag, text})
	}
	return nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 0x7f }) < 0
}

// evaluate is the value of a filter for a record.
func (n *node) evaluate(c *copiedAttributes, x *recollection, r *record) truth {
	switch n.tag {
	case tagAnd:
		v := isTrue // RFC 4526: the and of nothing
		for _, p := range n.parts {
			if v = min(v, p.evaluate(c, x, r)); v == isFalse {
				break
			}
		}
		return v
	case tagOr:
		v := isFalse
		for _, p := range n.parts {
			if v = max(v, p.evaluate(c, x, r)); v == isTrue {
				break
			}
		}
		return v
	case tagNot:
		return -n.parts[0].evaluate(c, x, r)
	}
	// An attribute that no user shows may be one that upstream.bind_dn cannot read.
	if n.attribute == nil || !x.seen[n.attribute] {
		return undefined
	}
	return n.item(c, r)
}

// item is evaluate for a leaf on an attribute that memory holds.
func (n *node) item(c *copiedAttributes, r *record) truth {
	v := isFalse
	c.each(r, func(a *copiedAttribute, values wire.Attribute) {
		if a != n.attribute {
			return
		}
		_ = wire.EachString(values.Values, func(value []byte) bool { // checked when it was taken in
			v = max(v, n.matches(value))
			return v != isTrue
		})
	})
	if v == isFalse && n.tag == tagEqual && n.attribute.rule == ruleOID {
		return undefined // inetOrgPerson is a person too
	}
	return v
}

// matches compares one value.
func (n *node) matches(value []byte) truth {
	switch {
	case n.tag == tagPresent:
		return isTrue
	case n.tag != tagEqual && n.tag != tagSubstrings, !n.decided:
		return undefined
	}
	have, ok := n.attribute.rule.canonical(value)
	switch {
	case !ok:
		return undefined
	case n.tag == tagSubstrings:
		return substringsMatch(n.pieces, have)
	case have == n.value:
		return isTrue
	case n.attribute.rule.decides():
		return isFalse
	}
	return undefined
}

// substringsMatch finds the pieces in their order. Of a value beyond ASCII it is not known where its characters end.
func substringsMatch(pieces []piece, have string) truth {
	if !isASCII(have) {
		return undefined
	}
	for _, p := range pieces {
		switch i := strings.Index(have, p.text); {
		case p.tag == tagInitial && !strings.HasPrefix(have, p.text), p.tag == tagFinal && !strings.HasSuffix(have, p.text), i < 0:
			return isFalse
		case p.tag == tagInitial:
			have = have[len(p.text):]
		case p.tag == tagAny:
			have = have[i+len(p.text):]
		}
	}
	return isTrue
}

// indexable appends the attributes by which candidates of a filter can be found.
func (n *node) indexable(list []*copiedAttribute) []*copiedAttribute {
	if n.tag == tagEqual && n.attribute != nil && n.decided && n.attribute.rule.decides() {
		return append(list, n.attribute)
	}
	if n.tag == tagAnd || n.tag == tagOr {
		for _, p := range n.parts {
			list = p.indexable(list)
		}
	}
	return list
}

// candidates are records beside which the filter is FALSE for all; false: it does not come down to values that were asked for.
func (n *node) candidates(x *recollection) ([]*record, bool) {
	switch {
	case n.tag == tagEqual && n.attribute != nil && x.seen[n.attribute] && x.by[n.attribute] != nil && n.decided:
		v := x.by[n.attribute]
		return append(v.equal[n.value][:len(v.equal[n.value]):len(v.equal[n.value])], v.undecided...), true
	case n.tag == tagAnd:
		var best []*record
		found := false
		for _, p := range n.parts {
			if list, ok := p.candidates(x); ok && (!found || len(list) < len(best)) {
				best, found = list, true
			}
		}
		return best, found
	case n.tag == tagOr && len(n.parts) > 0:
		var all []*record
		for _, p := range n.parts {
			list, ok := p.candidates(x)
			if !ok {
				return nil, false
			}
			all = append(all, list...)
		}
		return all, true
	}
	return nil, false
}
