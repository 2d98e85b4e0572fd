package proxy

import (
	"bytes"

	"appbind/virtual"
	"appbind/wire"
)

// The attributes of the subschema (RFC 4512 4.2) to which definitions are added.
const (
	attrTypes   = "attributeTypes"
	oidTypes    = "2.5.21.5"
	attrClasses = "objectClasses"
	oidClasses  = "2.5.21.6"
)

// showsDefinitions reports whether a search reads the subschema for a client that
// may see virtual entries: it is told what they are made of.
func (c *conn) showsDefinitions(s *wire.SearchRequest) bool {
	if s.Scope != wire.ScopeBase || len(s.Base) == 0 {
		return false
	}
	st := c.srv.state.Load()
	if name := st.Upstream.Subschema(); len(name) != len(s.Base) || !bytes.EqualFold(s.Base, []byte(name)) {
		return false
	}
	return c.sess.entry != "" || c.isManager(st)
}

// withDefinitions adds the definitions of virtual entries to the body of the
// subschema's entry, where it has such attributes and not these definitions.
func withDefinitions(body []byte) (out []byte, changed bool, err error) {
	e, err := wire.DecodeEntry(body)
	if err != nil {
		return nil, false, err
	}
	types, class := virtual.Definitions()
	var list []byte
	err = wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
		switch {
		case len(a.Values) == 0: // types only
			list = append(list, a.Raw...)
		case isAttribute(a.Type, attrTypes, oidTypes):
			list, changed = appendDefinitions(list, a, types), true
		case isAttribute(a.Type, attrClasses, oidClasses):
			list, changed = appendDefinitions(list, a, []virtual.Definition{class}), true
		default:
			list = append(list, a.Raw...)
		}
		return true
	})
	if err != nil || !changed {
		return body, false, err
	}
	e.Attributes = list
	return e.Append(nil), true, nil
}

// appendDefinitions appends an attribute with further values.
func appendDefinitions(dst []byte, a wire.Attribute, more []virtual.Definition) []byte {
	var values [][]byte
	_ = wire.EachString(a.Values, func(v []byte) bool { values = append(values, v); return true }) // an attribute that was decoded
	for _, d := range more {
		known := false
		for _, v := range values {
			known = known || bytes.Contains(v, []byte(d.OID+" "))
		}
		if !known {
			values = append(values, []byte(d.Text))
		}
	}
	return wire.AppendAttribute(dst, string(a.Type), values...)
}
