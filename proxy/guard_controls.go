package proxy

import (
	"bytes"

	"appbind/wire"
)

// Controls that carry attribute names, filters or entries.
const (
	controlSort         = "1.2.840.113556.1.4.473"       // RFC 2891
	controlVLV          = "2.16.840.1.113730.3.4.9"      // draft-ietf-ldapext-ldapv3-vlv
	controlAssertion    = "1.3.6.1.1.12"                 // RFC 4528
	controlMatched      = "1.2.826.0.1.3344810.2.3"      // RFC 3876
	controlPreRead      = "1.3.6.1.1.13.1"               // RFC 4527
	controlPostRead     = "1.3.6.1.1.13.2"               // RFC 4527
	controlDeref        = "1.3.6.1.4.1.4203.666.5.16"    // draft-masarati-ldap-deref
	controlASQ          = "1.2.840.113556.1.4.1504"      // Active Directory: attribute scoped query
	controlDuplicates   = "2.16.840.1.113719.1.27.101.1" // draft-ietf-ldapext-ldapv3-dupent: an entry for each value
	controlJoin         = "1.3.6.1.4.1.30221.2.5.9"      // PingDirectory: further entries with each entry
	controlAuthzEntry   = "1.3.6.1.4.1.30221.2.5.6"      // PingDirectory: the binder's entry
	controlProxied      = "2.16.840.1.113730.3.4.18"     // RFC 4370
	controlProxiedOld   = "2.16.840.1.113730.3.4.12"     // its first version
	controlIntermediate = "1.3.6.1.4.1.30221.2.5.2"      // PingDirectory: on behalf of whom
)

// controls checks a request's controls. Those not known here pass as they are.
func (g *guard) controls(controls []byte) *refusal {
	if len(controls) == 0 {
		return nil
	}
	var r *refusal
	err := wire.EachControl(controls, func(c wire.Control) bool {
		r = g.control(c)
		return r == nil
	})
	if err != nil {
		return refuseControlValue
	}
	return r
}

// control checks one control of a request.
func (g *guard) control(c wire.Control) *refusal {
	switch string(c.OID) {
	case controlSort:
		return g.sortKeys(c.Value)
	case controlVLV:
		return checkVLV(c.Value)
	case controlAssertion:
		return g.filter(c.Value, refuseControlValue)
	case controlMatched:
		return g.matchedValues(c.Value)
	case controlPreRead, controlPostRead:
		list, err := berWhole(c.Value, wire.TagSequence)
		if err != nil {
			return refuseControlValue
		}
		return g.selection(list)
	case controlDeref:
		return g.deref(c.Value)
	case controlASQ:
		return g.attributeScope(c.Value)
	case controlDuplicates:
		return g.duplicates(c.Value)
	case controlJoin, controlAuthzEntry:
		return refuseCarrier
	}
	return nil
}

// sortKeys checks the value of a sort control (RFC 2891 1.1):
// SEQUENCE OF SEQUENCE { attributeType, orderingRule [0], reverseOrder [1] }.
func (g *guard) sortKeys(value []byte) *refusal {
	keys, err := berWhole(value, wire.TagSequence)
	if err != nil || len(keys) == 0 {
		return refuseControlValue
	}
	var key, name []byte
	for len(keys) > 0 {
		if key, keys, err = wire.Expect(keys, wire.TagSequence); err != nil {
			return refuseControlValue
		}
		if name, key, err = wire.Expect(key, wire.TagOctetString); err != nil || len(name) == 0 {
			return refuseControlValue
		}
		if r := g.asks(name); r != nil {
			return r
		}
		for len(key) > 0 {
			if _, _, key, err = wire.Element(key); err != nil {
				return refuseControlValue
			}
		}
	}
	return nil
}

// checkVLV checks the form of a virtual list view, which names no attribute: it
// looks at the keys of the sort control beside it.
func checkVLV(value []byte) *refusal {
	content, err := berWhole(value, wire.TagSequence)
	if err != nil {
		return refuseControlValue
	}
	for range 2 { // beforeCount, afterCount
		if _, content, err = wire.Expect(content, wire.TagInteger); err != nil {
			return refuseControlValue
		}
	}
	for n := 0; len(content) > 0 || n == 0; n++ { // target, contextID
		if _, _, content, err = wire.Element(content); err != nil || n > 1 {
			return refuseControlValue
		}
	}
	return nil
}

// matchedValues checks a ValuesReturnFilter (RFC 3876 2), a SEQUENCE OF filter items.
func (g *guard) matchedValues(value []byte) *refusal {
	items, err := berWhole(value, wire.TagSequence)
	if err != nil || len(items) == 0 {
		return refuseControlValue
	}
	for len(items) > 0 {
		_, _, rest, err := wire.Element(items)
		if err != nil {
			return refuseControlValue
		}
		if r := g.filter(items[:len(items)-len(rest)], refuseControlValue); r != nil {
			return r
		}
		items = rest
	}
	return nil
}

// selection checks an AttributeSelection of attributes that come back outside
// of a search result. They must be named one by one: none, "*", "+" and
// "@class" (RFC 4529) stand for attributes that are not known here.
func (g *guard) selection(list []byte) *refusal {
	var r *refusal
	n := 0
	err := wire.EachString(list, func(s []byte) bool {
		n++
		switch {
		case len(s) == 0 || s[0] == '*' || s[0] == '+' || s[0] == '@' || s[0] == '!':
			r = refuseWide
		case g.hidden(s):
			r = refuseSecrets
		}
		return r == nil
	})
	switch {
	case err != nil:
		return refuseControlValue
	case n == 0:
		return refuseWide
	}
	return r
}

// deref checks a dereference control: SEQUENCE OF SEQUENCE { derefAttr, attributes SEQUENCE OF }.
func (g *guard) deref(value []byte) *refusal {
	specs, err := berWhole(value, wire.TagSequence)
	if err != nil || len(specs) == 0 {
		return refuseControlValue
	}
	var spec, name []byte
	for len(specs) > 0 {
		if spec, specs, err = wire.Expect(specs, wire.TagSequence); err != nil {
			return refuseControlValue
		}
		if name, spec, err = wire.Expect(spec, wire.TagOctetString); err != nil || len(name) == 0 {
			return refuseControlValue
		}
		if r := g.asks(name); r != nil {
			return r
		}
		list, err := berWhole(spec, wire.TagSequence)
		if err != nil {
			return refuseControlValue
		}
		if r := g.selection(list); r != nil {
			return r
		}
	}
	return nil
}

// attributeScope checks an attribute scoped query: SEQUENCE { sourceAttribute }.
func (g *guard) attributeScope(value []byte) *refusal {
	content, err := berWhole(value, wire.TagSequence)
	if err != nil {
		return refuseControlValue
	}
	name, err := berWhole(content, wire.TagOctetString)
	if err != nil || len(name) == 0 {
		return refuseControlValue
	}
	return g.asks(name)
}

// duplicates checks a duplicate entry request: SEQUENCE { SEQUENCE OF
// AttributeDescription, BOOLEAN DEFAULT TRUE }. The number of entries that come
// back is the number of values.
func (g *guard) duplicates(value []byte) *refusal {
	content, err := berWhole(value, wire.TagSequence)
	if err != nil {
		return refuseControlValue
	}
	list, rest, err := wire.Expect(content, wire.TagSequence)
	if err != nil {
		return refuseControlValue
	}
	if len(rest) > 0 {
		if _, err := berWhole(rest, wire.TagBoolean); err != nil {
			return refuseControlValue
		}
	}
	return g.selection(list)
}

// stripIdentityControls takes proxied authorization and its like out of a
// request that goes upstream on a link that is not the client's own: the right
// to act for others is the link's, not the client's. A critical one is refused
// (RFC 4511 4.1.11). If changed, out is dst with the remaining controls
// appended; else it is dst.
func stripIdentityControls(dst, controls []byte) (out []byte, changed bool, r *refusal) {
	start := len(dst)
	err := wire.EachControl(controls, func(c wire.Control) bool {
		switch string(c.OID) {
		case controlProxied, controlProxiedOld, controlIntermediate:
			changed = true
			if c.Critical {
				r = refuseIdentity
			}
			return r == nil
		}
		dst = append(dst, c.Raw...)
		return true
	})
	if err != nil {
		r = refuseControlValue
	}
	if !changed || r != nil {
		return dst[:start], false, r
	}
	return dst, true, nil
}

// responseControls removes the secrets attribute from the entries that a
// response's controls carry; a control of which the form is not as expected is
// removed. It is a second line: request refuses to let such controls ask for
// the attribute. If changed, out is dst with the contents of the controls
// appended; else it is dst.
func (g *guard) responseControls(dst, controls []byte) (out []byte, changed bool, err error) {
	if len(controls) == 0 {
		return dst, false, nil
	}
	carrier := false
	err = wire.EachControl(controls, func(c wire.Control) bool {
		carrier = carrier || carriesEntries(c.OID)
		return !carrier
	})
	if err != nil || !carrier {
		return dst, false, err
	}
	start := len(dst)
	err = wire.EachControl(controls, func(c wire.Control) bool {
		if !carriesEntries(c.OID) {
			dst = append(dst, c.Raw...)
			return true
		}
		value, dirty, err := g.carried(c)
		switch {
		case err != nil:
			changed = true
		case dirty:
			changed = true
			dst = wire.AppendControl(dst, string(c.OID), c.Critical, value)
		default:
			dst = append(dst, c.Raw...)
		}
		return true
	})
	if err != nil || !changed {
		return dst[:start], false, err
	}
	return dst, true, nil
}

// carriesEntries reports whether a response control carries attributes of entries.
func carriesEntries(oid []byte) bool {
	switch string(oid) {
	case controlPreRead, controlPostRead, controlDeref, controlJoin, controlAuthzEntry:
		return true
	}
	return false
}

// carried cleans the value of one response control. An error means that it must go.
func (g *guard) carried(c wire.Control) (value []byte, dirty bool, err error) {
	switch string(c.OID) {
	case controlPreRead, controlPostRead:
		body, err := berWhole(c.Value, byte(wire.OpSearchResultEntry))
		if err != nil {
			return nil, false, err
		}
		out, dirty, err := g.entry(nil, body)
		if err != nil || !dirty {
			return nil, false, err
		}
		return wire.AppendElement(nil, byte(wire.OpSearchResultEntry), out), true, nil
	case controlDeref:
		return g.carriedDeref(c.Value)
	}
	return nil, false, wire.ErrMalformed // joined entries are nested freely
}

// derefAttributes is attrVals [0] of a dereference response, the contents of a PartialAttributeList.
const derefAttributes = 0xa0

// carriedDeref cleans SEQUENCE OF SEQUENCE { derefAttr, derefVal, attrVals [0] OPTIONAL }.
func (g *guard) carriedDeref(value []byte) (out []byte, dirty bool, err error) {
	results, err := berWhole(value, wire.TagSequence)
	if err != nil {
		return nil, false, err
	}
	for len(results) > 0 {
		result, rest, err := wire.Expect(results, wire.TagSequence)
		if err != nil {
			return nil, false, err
		}
		raw := results[:len(results)-len(rest)]
		results = rest
		_, tail, err := wire.Expect(result, wire.TagOctetString)
		if err == nil {
			_, tail, err = wire.Expect(tail, wire.TagOctetString)
		}
		if err != nil {
			return nil, false, err
		}
		head := result[:len(result)-len(tail)]
		if len(tail) == 0 {
			out = append(out, raw...)
			continue
		}
		list, err := berWhole(tail, derefAttributes)
		if err != nil {
			return nil, false, err
		}
		cleaned, changed, err := g.attributes(nil, list)
		if err != nil {
			return nil, false, err
		}
		if !changed {
			out = append(out, raw...)
			continue
		}
		dirty = true
		out = wire.AppendElement(out, wire.TagSequence, wire.AppendElement(bytes.Clone(head), derefAttributes, cleaned))
	}
	return wire.CloseElement(out, 0, wire.TagSequence), dirty, nil
}
