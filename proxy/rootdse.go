package proxy

import (
	"cmp"
	"slices"

	"appbind/wire"
)

// Attributes of the root DSE (RFC 4512 5.1) and extensions of which appbind, not
// the upstream, decides.
const (
	attrMechanisms    = "supportedSASLMechanisms"
	oidMechanisms     = "1.3.6.1.4.1.1466.101.120.14"
	attrExtensions    = "supportedExtension"
	oidExtensions     = "1.3.6.1.4.1.1466.101.120.7"
	extensionStartTLS = "1.3.6.1.4.1.1466.20037"
	extensionWhoAmI   = "1.3.6.1.4.1.4203.1.11.3"
)

// rewriteRootDSE appends the body of a root DSE entry as appbind serves it:
// supportedSASLMechanisms is EXTERNAL (external) or nothing, since no other
// mechanism is ever forwarded; supportedExtension has Who am I, which is answered
// here, and StartTLS exactly when the listener offers it (startTLS). Order and
// the rest are the upstream's.
//
// s is the client's search: an attribute that the upstream has not at all is
// added only if s asks for it (by name, by OID, or by "+", RFC 3673), so that the
// answer to any other selection stays the upstream's.
func rewriteRootDSE(dst, body []byte, external, startTLS bool, s *wire.SearchRequest) ([]byte, error) {
	e, err := wire.DecodeEntry(body)
	if err != nil {
		return dst, err
	}
	list := make([]byte, 0, len(e.Attributes)+128)
	mechanisms, extensions := false, false
	var valueErr error
	err = wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool {
		switch {
		case isAttribute(a.Type, attrMechanisms, oidMechanisms):
			list = appendMechanisms(list, string(a.Type), external && !mechanisms, s.TypesOnly)
			mechanisms = true
		case isAttribute(a.Type, attrExtensions, oidExtensions) && !extensions:
			extensions = true
			list, valueErr = appendExtensions(list, a, startTLS, s.TypesOnly)
		default:
			list = append(list, a.Raw...)
		}
		return valueErr == nil
	})
	if err = cmp.Or(err, valueErr); err != nil {
		return dst, err
	}
	if !mechanisms && asksFor(s, attrMechanisms, oidMechanisms) {
		list = appendMechanisms(list, attrMechanisms, external, s.TypesOnly)
	}
	if !extensions && asksFor(s, attrExtensions, oidExtensions) {
		if list, err = appendExtensions(list, wire.Attribute{Type: []byte(attrExtensions)}, startTLS, s.TypesOnly); err != nil {
			return dst, err
		}
	}
	e.Attributes = list
	return e.Append(dst), nil
}

// isAttribute compares an attribute description with a name and an OID.
func isAttribute(description []byte, name, oid string) bool {
	return equalFoldASCII(description, name) || string(description) == oid
}

// asksFor reports whether a search selects an operational attribute.
func asksFor(s *wire.SearchRequest, name, oid string) bool {
	found := false
	err := wire.EachString(s.Attributes, func(a []byte) bool {
		found = string(a) == "+" || isAttribute(a, name, oid)
		return !found
	})
	return err == nil && found
}

// appendMechanisms appends supportedSASLMechanisms: EXTERNAL, or no attribute at all.
func appendMechanisms(dst []byte, name string, external, typesOnly bool) []byte {
	switch {
	case !external:
		return dst
	case typesOnly:
		return wire.AppendAttribute(dst, name)
	}
	return wire.AppendAttribute(dst, name, []byte("EXTERNAL"))
}

// appendExtensions appends supportedExtension: the upstream's, and ours behind
// them where they are missing.
func appendExtensions(dst []byte, a wire.Attribute, startTLS, typesOnly bool) ([]byte, error) {
	if typesOnly {
		return wire.AppendAttribute(dst, string(a.Type)), nil
	}
	var values [][]byte
	missing := []string{extensionWhoAmI}
	if startTLS {
		missing = append(missing, extensionStartTLS)
	}
	err := wire.EachString(a.Values, func(v []byte) bool {
		if i := slices.Index(missing, string(v)); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		} else if string(v) == extensionStartTLS || string(v) == extensionWhoAmI {
			return true
		}
		values = append(values, v)
		return true
	})
	for _, o := range missing {
		values = append(values, []byte(o))
	}
	return wire.AppendAttribute(dst, string(a.Type), values...), err
}
