package proxy

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"

	"appbind/auth"
	"appbind/wire"
)

// userContext is what a mail server says of its user in a DN:
//
//	uid=alice,ou=people,dc=example,dc=org,svc=imap,rip=192.0.2.7,lip=198.51.100.1,sid=x1,sec=TLS,cn=appbind
//
// A field is empty (an address: the zero Addr) where the context does not say.
type userContext struct {
	// Service is svc, in lower case: imap, smtp, ...
	Service string
	// Session is sid, the mail server's name of the session.
	Session string
	// Secured is sec: secured, TLS or another short word.
	Secured string
	// Addr is rip, the user's address; Local is lip, the mail server's own. An
	// IPv4 address in IPv6 form is IPv4.
	Addr, Local netip.Addr
}

// Limits of the values of a context. Dovecot's session IDs have 16 characters.
const (
	maxContextService = 32
	maxContextSession = 64
	maxContextSecured = 32
)

// What can be wrong with a context. The texts go to the log alone.
var (
	errContextSpelling = errors.New("context: write it as ,svc=..,rip=..,lip=..,sid=..,sec=..,cn=appbind without spaces, quotes and +")
	errContextAlone    = errors.New("context: no name stands before it")
	errContextTwice    = errors.New("context: a part is given twice")
	errContextValue    = errors.New("context: a value has a character that must be escaped, or a malformed escape")
	errContextService  = errors.New("context: svc is not of a-z, 0-9, _ and -, at most 32 of them")
	errContextAddress  = errors.New("context: rip or lip is not an IP address")
	errContextSession  = errors.New("context: sid is not printable ASCII of at most 64 characters")
	errContextSecured  = errors.New("context: sec is not one word of at most 32 characters")
	errContextUserPart = errors.New("context: the name before it is no DN or has parts of a context itself")
)

// splitContext takes the context off a DN (RFC 4514 text). suffix is what was
// taken off, without the leading comma, byte for byte, for appending again with
// ",": rest + "," + suffix is dn.
//
// found is false and err nil when the last RDN is not cn=appbind; rest is then
// dn. An error says that it is, in whatever spelling, and that the whole is not
// of the strict shape: before cn=appbind, each once, next to each other and in
// any order, stand any of svc, rip, lip, sid and sec, single-valued, possibly
// empty; before these stands a name, a DN or a plain name such as a mail
// address, that has no such part itself. The last rule is against user names
// that a mail server did not escape (a,svc=imap for the user part). A context
// without a name before it is an error too, for searches as for binds: taken
// off, it would leave the anonymous name.
func splitContext(dn []byte) (rest, suffix []byte, uc userContext, found bool, err error) {
	head, mark, sep := lastRDN(dn)
	if !isContextMark(mark) {
		return dn, nil, uc, false, nil
	}
	if sep == 0 {
		return dn, nil, uc, false, errContextAlone
	}
	if sep != ',' || !strings.EqualFold(string(mark), "cn=appbind") {
		return dn, nil, uc, false, errContextSpelling
	}
	head, err = uc.read(head)
	if err == nil {
		err = checkUserPart(head)
	}
	if err != nil {
		return dn, nil, userContext{}, false, err
	}
	return head, dn[len(head)+1:], uc, true, nil
}

// TakeContext takes the context off a bind name, as a listener with context: trusted does, and puts what it says of
// the user into cl. context is what was taken off, "" where there is none; the error says why a name with one is 49.
func TakeContext(name string, cl *auth.Client) (rest, context string, err error) {
	head, suffix, uc, found, err := splitContext([]byte(name))
	if !found {
		return name, "", err
	}
	takeContext(cl, &uc)
	return string(head), string(suffix), nil
}

// contextTypes are the attribute types of a context.
var contextTypes = [...]string{"svc", "rip", "lip", "sid", "sec"}

// contextType is the index of an attribute type in contextTypes, -1 for others.
func contextType[T string | []byte](name T) int {
	for i, t := range contextTypes {
		if strings.EqualFold(string(name), t) {
			return i
		}
	}
	return -1
}

// read takes the parts of the context off the end of head, from the last to the first.
func (uc *userContext) read(head []byte) (rest []byte, err error) {
	var seen [len(contextTypes)]bool
	for {
		before, rdn, sep := lastRDN(head)
		name, value, _ := bytes.Cut(rdn, []byte("="))
		i := contextType(name)
		if i < 0 {
			return head, nil
		}
		switch {
		case sep == 0:
			return nil, errContextAlone
		case sep != ',':
			return nil, errContextSpelling
		case seen[i]:
			return nil, errContextTwice
		}
		seen[i] = true
		text, err := contextValue(value)
		if err != nil {
			return nil, err
		}
		if err := uc.set(contextTypes[i], text); err != nil {
			return nil, err
		}
		head = before
	}
}

// set checks one value and keeps it. Empty is allowed everywhere: Dovecot's
// variables are empty where the protocol does not tell.
func (uc *userContext) set(name, value string) error {
	switch name {
	case "svc":
		uc.Service = strings.ToLower(value)
		if len(value) > maxContextService || !printable(value) || !consistsOf(uc.Service, "abcdefghijklmnopqrstuvwxyz0123456789_-") {
			return errContextService
		}
	case "sid":
		uc.Session = value
		if !isSession(value) {
			return errContextSession
		}
	case "sec":
		uc.Secured = value
		if len(value) > maxContextSecured || !printable(value) || strings.Contains(value, " ") {
			return errContextSecured
		}
	case "rip":
		return setAddress(&uc.Addr, value)
	case "lip":
		return setAddress(&uc.Local, value)
	}
	return nil
}

// isSession reports whether a session ID can stand in a log line as it is.
func isSession(s string) bool { return len(s) <= maxContextSession && printable(s) }

// setAddress reads an address. A zone (fe80::1%eth0) means nothing outside of
// the mail server's host.
func setAddress(dst *netip.Addr, value string) error {
	if value == "" {
		return nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" {
		return errContextAddress
	}
	*dst = a.Unmap()
	return nil
}

func consistsOf(s, set string) bool { return strings.Trim(s, set) == "" }

// printable reports whether s is printable ASCII.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// contextValue reads an attribute value of RFC 4514 section 3: \HH with digits
// of both cases (Dovecot 2.3 writes \2E, 2.4 \2e) and \ before a special
// character; what must be escaped and is not, is an error.
func contextValue(v []byte) (string, error) {
	if last := len(v) - 1; last >= 0 && (v[0] == ' ' || v[0] == '#' || v[last] == ' ' && !isEscaped(v, last)) {
		return "", errContextValue
	}
	var buf [128]byte
	out := buf[:0]
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c == '\\' {
			n := 0
			if c, n = escaped(v[i:]); n == 0 {
				return "", errContextValue
			}
			i += n - 1
		} else if strings.IndexByte("\"+,;<>\x00", c) >= 0 {
			return "", errContextValue
		}
		out = append(out, c)
	}
	return string(out), nil
}

// escaped reads the escape that v begins with, n octets long; n is 0 if it is none.
func escaped(v []byte) (c byte, n int) {
	if len(v) > 2 {
		var b [1]byte
		if _, err := hex.Decode(b[:], v[1:3]); err == nil {
			return b[0], 3
		}
	}
	if len(v) > 1 && strings.IndexByte(" \"#+,;<=>\\", v[1]) >= 0 {
		return v[1], 2
	}
	return 0, 0
}

// lastRDN splits a DN before its last RDN. sep is the separator between the
// two, 0 when there is one RDN only. The semicolon of RFC 2253 counts, since
// OpenLDAP takes it; quotes do not, so that nothing hides between them.
func lastRDN(dn []byte) (head, rdn []byte, sep byte) {
	for i := len(dn) - 1; i >= 0; i-- {
		if (dn[i] == ',' || dn[i] == ';') && !isEscaped(dn, i) {
			return dn[:i], dn[i+1:], dn[i]
		}
	}
	return nil, dn, 0
}

// isEscaped reports whether an odd number of backslashes stands before dn[i].
func isEscaped(dn []byte, i int) bool {
	n := 0
	for i > n && dn[i-n-1] == '\\' {
		n++
	}
	return n%2 == 1
}

// isContextMark reports whether an RDN is, or has, cn=appbind in any spelling
// that a directory takes for it.
func isContextMark(rdn []byte) bool {
	for len(rdn) > 0 {
		ava, rest := rdn, []byte(nil)
		for i := range rdn {
			if rdn[i] == '+' && !isEscaped(rdn, i) {
				ava, rest = rdn[:i], rdn[i+1:]
				break
			}
		}
		name, value, ok := bytes.Cut(ava, []byte("="))
		if ok && isCommonName(bytes.TrimSpace(name)) && isAppbind(bytes.TrimSpace(value)) {
			return true
		}
		rdn = rest
	}
	return false
}

// isCommonName reports whether an attribute type is cn (RFC 4519 2.3), by any of its names.
func isCommonName(name []byte) bool {
	for _, n := range [...]string{"cn", "commonName", "2.5.4.3", "oid.2.5.4.3"} {
		if strings.EqualFold(string(name), n) {
			return true
		}
	}
	return false
}

// isAppbind reports whether a value is appbind in any spelling: quoted, with
// escapes, as #hexstring.
func isAppbind(v []byte) bool {
	if len(v) > 0 && v[0] == '#' {
		b := make([]byte, hex.DecodedLen(len(v)-1))
		if _, err := hex.Decode(b, v[1:]); err != nil {
			return false
		}
		_, content, _, err := wire.Element(b)
		return err == nil && strings.EqualFold(string(content), "appbind")
	}
	if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	var buf [128]byte
	out := buf[:0]
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c == '\\' {
			n := 0
			if c, n = escaped(v[i:]); n == 0 {
				continue
			}
			i += n - 1
		}
		out = append(out, c)
	}
	return strings.EqualFold(string(bytes.TrimSpace(out)), "appbind")
}

// checkUserPart refuses what stands before a context if it is no name, or has
// parts of a context itself.
func checkUserPart(rest []byte) error {
	if len(rest) == 0 {
		return errContextAlone
	}
	if !bytes.ContainsAny(rest, "=,;+\"\\<>#") {
		return nil // a plain name: alice@example.org
	}
	dn, err := wire.ParseDN(string(rest))
	if err != nil || len(dn) == 0 {
		return errContextUserPart
	}
	for _, rdn := range dn {
		for _, ava := range rdn {
			if contextType(ava.Type) >= 0 {
				return errContextUserPart
			}
		}
	}
	if _, last, _ := lastRDN(rest); isContextMark(last) {
		return errContextUserPart
	}
	return nil
}

// Choices of Filter (RFC 4511 4.5.1.7).
const (
	filterAnd        = 0xa0
	filterOr         = 0xa1
	filterNot        = 0xa2
	filterEquality   = 0xa3
	filterPresent    = 0x87
	filterExtensible = 0xa9
	// filterMatchValue is matchValue [3] of an extensible match.
	filterMatchValue = 0x83
)

// stripFilterContext rewrites assertion values of a filter that are DNs with a
// context, since clients put returned DNs into (member=...). A value that only
// resembles one is left alone. If changed, out is dst with the new filter
// appended; else it is dst.
func stripFilterContext(dst, filter []byte) (out []byte, changed bool, err error) {
	start := len(dst)
	out, changed, err = appendStripped(dst, filter, 0)
	if err != nil || !changed {
		return out[:start], false, err
	}
	return out, true, nil
}

// appendStripped appends one part of a filter.
func appendStripped(dst, filter []byte, depth int) (out []byte, changed bool, err error) {
	tag, content, rest, err := wire.Element(filter)
	if err != nil || len(rest) != 0 || depth > wire.MaxNesting {
		return dst, false, wire.ErrMalformed
	}
	value := byte(0)
	switch tag {
	case filterAnd, filterOr, filterNot:
	case filterEquality:
		value = wire.TagOctetString
	case filterExtensible:
		value = filterMatchValue
	default:
		return append(dst, filter...), false, nil
	}
	start, n := len(dst), 0
	for ; len(content) > 0; n++ {
		part, body, rest, err := wire.Element(content)
		if err != nil {
			return dst, false, err
		}
		raw, c := content[:len(content)-len(rest)], false
		switch {
		case value == 0:
			dst, c, err = appendStripped(dst, raw, depth+1)
		case part == value && (n > 0 || tag == filterExtensible):
			dst, c = appendWithoutContext(dst, part, body)
		default:
			dst = append(dst, raw...)
		}
		if err != nil {
			return dst, false, err
		}
		changed = changed || c
		content = rest
	}
	return wire.CloseElement(dst, start, tag), changed, nil
}

// appendWithoutContext appends an assertion value, without its context if it has one.
func appendWithoutContext(dst []byte, tag byte, value []byte) (out []byte, changed bool) {
	if rest, _, _, found, err := splitContext(value); found && err == nil {
		return wire.AppendElement(dst, tag, rest), true
	}
	return wire.AppendElement(dst, tag, value), false
}
