package proxy

import (
	"bytes"
	"encoding/base64"

	"appbind/wire"
)

// entry rewrites the body of a SearchResultEntry: the secrets attribute is
// removed, and from the entries of a log the values that hold values of it. An
// attribute that has no value left is removed. Spelling and order of what
// remains are the upstream's. If changed, out is dst with the new body appended;
// else it is dst and the body goes on as it is.
func (g *guard) entry(dst, body []byte) (out []byte, changed bool, err error) {
	e, err := wire.DecodeEntry(body)
	if err != nil {
		return dst, false, err
	}
	dirty, err := g.anyDirty(e.Attributes)
	if err != nil || !dirty {
		return dst, false, err
	}
	begin := len(dst)
	dst = wire.AppendTarget(dst, e.DN, nil)
	start := len(dst)
	dst, _, err = g.attributes(dst, e.Attributes)
	if err != nil {
		return dst[:begin], false, err
	}
	return wire.CloseElement(dst, start, wire.TagSequence), true, nil
}

// attributes is entry for a list of attributes alone.
func (g *guard) attributes(dst, list []byte) (out []byte, changed bool, err error) {
	dirty, err := g.anyDirty(list)
	if err != nil || !dirty {
		return dst, false, err
	}
	start := len(dst)
	err = wire.EachAttribute(list, func(a wire.Attribute) bool {
		dst = g.appendClean(dst, a)
		return true
	})
	if err != nil {
		return dst[:start], false, err
	}
	return dst, true, nil
}

// anyDirty reports whether something must be removed from a list of
// attributes. This is what nearly every entry costs.
func (g *guard) anyDirty(list []byte) (bool, error) {
	dirty := false
	err := wire.EachAttribute(list, func(a wire.Attribute) bool {
		dirty = dirty || g.dirty(a)
		return true
	})
	return dirty, err
}

// dirty reports whether an attribute, or a value of it, must be removed.
func (g *guard) dirty(a wire.Attribute) bool {
	switch c := g.care(a.Type); c {
	case careNone:
		return false
	case careAll:
		return true
	default:
		found := false
		err := wire.EachString(a.Values, func(v []byte) bool {
			found = g.removes(c, v)
			return !found
		})
		return found || err != nil
	}
}

// appendClean appends what remains of an attribute. Values that cannot be read
// go with what must go.
func (g *guard) appendClean(dst []byte, a wire.Attribute) []byte {
	if !g.dirty(a) {
		return append(dst, a.Raw...)
	}
	c := g.care(a.Type)
	if c == careAll {
		return dst
	}
	var keep [][]byte
	err := wire.EachString(a.Values, func(v []byte) bool {
		if !g.removes(c, v) {
			keep = append(keep, v)
		}
		return true
	})
	if err != nil || len(keep) == 0 {
		return dst
	}
	return wire.AppendAttribute(dst, string(a.Type), keep...)
}

// care says what to look for in the values of an attribute.
type care int

const (
	careNone     care = iota
	careAll           // the secrets attribute: all values go
	careOurs          // the secrets attribute, shared: our values go
	careMod           // reqMod, reqOld: "attribute:+ value"
	careText          // reqFilter, reqAssertion: a name anywhere
	careRDN           // reqNewRDN and the like
	careLDIF          // changes: lines of LDIF
	careControls      // reqControls, reqRespControls: "{OID controlValue "hex"}"
	careData          // reqData: the octets of an extended operation
)

// care of an attribute, by its description.
func (g *guard) care(description []byte) care {
	if g.schema.Secrets(description) {
		if g.shared {
			return careOurs
		}
		return careAll
	}
	return logCare(description)
}

// logAttributes are attributes that hold values of others as text: those of cn=accesslog (OpenLDAP's slapo-accesslog) and of
// cn=changelog (draft-good-ldap-changelog), and one of 389 DS that is in each entry.
var logAttributes = [...]struct {
	name, oid string
	care      care
}{
	{"reqMod", "1.3.6.1.4.1.4203.666.11.5.1.16", careMod},
	{"reqOld", "1.3.6.1.4.1.4203.666.11.5.1.17", careMod},
	{"reqAssertion", "1.3.6.1.4.1.4203.666.11.5.1.15", careText},
	{"reqFilter", "1.3.6.1.4.1.4203.666.11.5.1.24", careText},
	{"reqNewRDN", "1.3.6.1.4.1.4203.666.11.5.1.18", careRDN},
	{"reqNewDN", "1.3.6.1.4.1.4203.666.11.5.1.33", careRDN},
	{"reqData", "1.3.6.1.4.1.4203.666.11.5.1.29", careData},
	{"reqControls", "1.3.6.1.4.1.4203.666.11.5.1.10", careControls},
	{"reqRespControls", "1.3.6.1.4.1.4203.666.11.5.1.11", careControls},
	{"changes", "2.16.840.1.113730.3.1.8", careLDIF},
	{"newRDN", "2.16.840.1.113730.3.1.9", careRDN},
	// Not of a log: the whole entry as lines of LDIF, which 389 DS shows to its root.
	{"nscpEntryWSI", "", careLDIF},
}

// logCare is the care for an attribute of a log, careNone for all others.
func logCare(description []byte) care {
	name, _, _ := bytes.Cut(description, []byte(";"))
	if len(name) < len("reqMod") {
		return careNone
	}
	switch name[0] | 0x20 {
	case 'r', 'c', 'n', '1' | 0x20, '2' | 0x20:
	default:
		return careNone
	}
	for i := range logAttributes {
		l := &logAttributes[i]
		if equalFoldASCII(name, l.name) || string(name) == l.oid {
			return l.care
		}
	}
	return careNone
}

// equalFoldASCII compares without case and without an allocation.
func equalFoldASCII(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// removes reports whether a value must go.
func (g *guard) removes(c care, v []byte) bool {
	switch c {
	case careNone:
		return false
	case careOurs:
		return ours(v)
	case careMod:
		name, _, _ := bytes.Cut(v, []byte(":"))
		return g.schema.Secrets(bytes.TrimSpace(name)) && (!g.shared || marked(v))
	case careText:
		return marked(v) || !g.shared && g.mentions(v)
	case careRDN:
		return g.namedIn(v) && (!g.shared || marked(v))
	case careLDIF:
		return g.inLDIF(v)
	case careControls:
		return namesCarrier(v)
	case careData:
		return marked(v)
	}
	return true
}

// ours reports whether a value is an app password or a TOTP secret of ours.
func ours(v []byte) bool {
	v = bytes.TrimSpace(v)
	return bytes.HasPrefix(v, []byte(appPrefix)) ||
		len(v) >= len(totpPrefix) && equalFoldASCII(v[:len(totpPrefix)], totpPrefix)
}

// marked reports whether a text has one of our values somewhere, as it is or as
// filters escape it (RFC 4515 3 lets any octet be escaped; clients escape none of these).
func marked(v []byte) bool {
	return bytes.Contains(v, []byte(appPrefix)) || bytes.Contains(v, []byte(totpPrefix))
}

// The beginnings of our values.
const (
	appPrefix  = "$app$"
	totpPrefix = "otpauth://"
)

// mentions reports whether a word of a text is a name of the secrets attribute.
func (g *guard) mentions(v []byte) bool {
	for len(v) > 0 {
		n := 0
		for n < len(v) && isNameByte(v[n]) {
			n++
		}
		if n > 0 && g.schema.Secrets(v[:n]) {
			return true
		}
		v = v[min(n+1, len(v)):]
	}
	return false
}

// isNameByte reports whether c can stand in an attribute description (RFC 4512 2.5).
func isNameByte(c byte) bool {
	c = lower(c)
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == ';' || c == '_'
}

// inLDIF reports whether a line of LDIF (RFC 2849) carries the secrets attribute.
func (g *guard) inLDIF(v []byte) bool {
	// A line that begins with a space continues the one before.
	if bytes.Contains(v, []byte("\n ")) {
		v = bytes.ReplaceAll(v, []byte("\r\n "), nil)
		v = bytes.ReplaceAll(v, []byte("\n "), nil)
	}
	for len(v) > 0 {
		line, rest, _ := bytes.Cut(v, []byte("\n"))
		if g.lineCarries(line) {
			return true
		}
		v = rest
	}
	return false
}

// lineCarries reports whether one line of LDIF carries a value of the secrets
// attribute; of a shared one, a value of ours.
func (g *guard) lineCarries(line []byte) bool {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return false
	}
	name = bytes.TrimSpace(name)
	if equalFoldASCII(name, "newrdn") {
		return g.namedIn(value) && (!g.shared || marked(value))
	}
	if !g.schema.Secrets(name) {
		return false
	}
	if !g.shared {
		return true
	}
	if len(value) > 0 && value[0] == ':' {
		return oursInBase64(bytes.TrimSpace(value[1:]))
	}
	return ours(value)
}

// oursInBase64 is ours for a value in base64; its first octets tell.
func oursInBase64(v []byte) bool {
	const enough = 16
	var out [enough]byte
	v = v[:min(len(v), enough)]
	n, err := base64.StdEncoding.Decode(out[:], v)
	return err != nil || ours(out[:n])
}

// namesCarrier reports whether a logged control is one that carries attribute
// values, a filter or an entry, of which the log has the octets in hexadecimal.
func namesCarrier(v []byte) bool {
	for len(v) > 0 {
		n := 0
		for n < len(v) && isNameByte(v[n]) {
			n++
		}
		switch string(v[:n]) {
		case controlAssertion, controlMatched, controlPreRead, controlPostRead, controlDeref, controlVLV, controlJoin, controlAuthzEntry:
			return true
		}
		v = v[min(n+1, len(v)):]
	}
	return false
}
