package wire

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a DN.
const (
	// MaxDN bounds the octets of a DN's string form.
	MaxDN = 8 << 10
	// MaxRDNs bounds the RDNs of a DN.
	MaxRDNs = 128
)

// DN is a distinguished name taken apart, the first RDN being the leaf's. The
// empty DN is the root's.
type DN []RDN

// RDN is one relative distinguished name.
type RDN []AVA

// AVA is one attribute type and value of an RDN, the value unescaped.
type AVA struct {
	Type  string
	Value string
	// Hex says that the value was written as #hexstring; Value then holds the octets of the BER element.
	Hex bool
}

// ParseDN reads the string form of RFC 4514, strictly, but for what servers
// take besides: white space around separators (RFC 2253 section 4, and tabs and
// line ends as OpenLDAP does), ";" as a separator, quoted values, "OID." before
// an OID, and values that are empty. What servers read in different ways is
// refused: hexadecimal escapes within quotes (OpenLDAP takes \20 there for "20"),
// attribute options, and octets that are UTF-8 only together with an escape. A
// name that is refused here must not be compared or taken for another one.
// Errors: ErrMalformed.
func ParseDN(s string) (DN, error) { return parseDN(s, nil) }

// CutDN cuts the last n RDNs off a DN, byte for byte: head is what stands before
// them, without the separator between. A DN of n RDNs or fewer is all tail.
// Errors: ErrMalformed.
func CutDN(s string, n int) (head, tail string, err error) {
	var starts []int
	dn, err := parseDN(s, func(at int) { starts = append(starts, at) })
	if err != nil {
		return "", "", err
	}
	switch at := len(dn) - n; {
	case at <= 0:
		return "", s, nil
	case at >= len(dn):
		return s, "", nil
	default:
		// White space before the cut belongs to the separator: at its left there is
		// the unescaped "," or ";" itself.
		head = strings.TrimRight(s[:starts[at]], spaces)
		return head[:len(head)-1], s[starts[at]:], nil
	}
}

// spaces are the octets that may stand around separators.
const spaces = " \t\r\n"

// parseDN is ParseDN that also tells, unless start is nil, where each RDN starts in s.
func parseDN(s string, start func(at int)) (DN, error) {
	if len(s) > MaxDN || !utf8.ValidString(s) {
		return nil, ErrMalformed
	}
	if s == "" {
		return DN{}, nil
	}
	var (
		p     = dnParser{s: s}
		dn    = make(DN, 0, 8)
		avas  = make([]AVA, 0, 8) // of all RDNs, one allocation for most DNs
		first = 0                 // where the RDN at hand begins in avas
	)
	p.skipSpaces()
	for {
		if start != nil && first == len(avas) {
			start(p.at)
		}
		a, ok := p.ava()
		if !ok {
			return nil, ErrMalformed
		}
		avas = append(avas, a)
		separator, more := p.separator()
		if more && separator == '+' {
			continue
		}
		dn = append(dn, RDN(avas[first:len(avas):len(avas)]))
		first = len(avas)
		switch {
		case !more && p.at == len(s):
			return dn, nil
		case !more || len(dn) == MaxRDNs:
			return nil, ErrMalformed
		}
	}
}

// dnParser reads a DN from left to right.
type dnParser struct {
	s  string
	at int
}

func (p *dnParser) skipSpaces() {
	for p.at < len(p.s) && strings.IndexByte(spaces, p.s[p.at]) >= 0 {
		p.at++
	}
}

// separator reads one of , ; + with the white space around it.
func (p *dnParser) separator() (byte, bool) {
	p.skipSpaces()
	if p.at == len(p.s) || strings.IndexByte(",;+", p.s[p.at]) < 0 {
		return 0, false
	}
	c := p.s[p.at]
	p.at++
	p.skipSpaces()
	return c, true
}

// ava reads type = value.
func (p *dnParser) ava() (a AVA, ok bool) {
	if a.Type, ok = p.attributeType(); !ok {
		return a, false
	}
	p.skipSpaces()
	if p.at == len(p.s) || p.s[p.at] != '=' {
		return a, false
	}
	p.at++
	p.skipSpaces()
	switch {
	case p.at < len(p.s) && p.s[p.at] == '#':
		a.Hex = true
		a.Value, ok = p.hexString()
		return a, ok
	case p.at < len(p.s) && p.s[p.at] == '"':
		a.Value, ok = p.quoted()
	default:
		a.Value, ok = p.plain()
	}
	return a, ok && utf8.ValidString(a.Value)
}

// attributeType reads a descr or a numericoid (RFC 4512 1.4).
func (p *dnParser) attributeType() (string, bool) {
	start := p.at
	for p.at < len(p.s) && (isAlnum(p.s[p.at]) || p.s[p.at] == '-' || p.s[p.at] == '.') {
		p.at++
	}
	t := p.s[start:p.at]
	if len(t) > 4 && strings.EqualFold(t[:4], "OID.") { // RFC 1779 2.3
		t = t[4:]
		return t, isOID(t)
	}
	if t == "" || isAlpha(t[0]) && strings.IndexByte(t, '.') < 0 {
		return t, t != ""
	}
	return t, isOID(t)
}

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isAlnum(c byte) bool { return isAlpha(c) || isDigit(c) }

// isOID reports whether s is a numericoid: two numbers or more, none with a leading zero.
func isOID(s string) bool {
	numbers := 0
	for {
		number, rest, more := strings.Cut(s, ".")
		if number == "" || len(number) > 1 && number[0] == '0' {
			return false
		}
		for i := range len(number) {
			if !isDigit(number[i]) {
				return false
			}
		}
		numbers++
		if !more {
			return numbers > 1
		}
		s = rest
	}
}

// isSpecial reports whether c may follow a backslash as itself: special, ESC,
// SPACE, SHARP and EQUALS of RFC 4514 section 3.
func isSpecial(c byte) bool { return strings.IndexByte("\"+,;<>\\ #=", c) >= 0 }

// plain reads an unquoted value up to a separator or the end.
func (p *dnParser) plain() (string, bool) {
	start, end := p.at, p.at // end: behind the last octet that is not white space
	var unescaped []byte     // the value so far, once there was an escape
	escaped := false
	for p.at < len(p.s) {
		c, n := p.s[p.at], 1
		switch c {
		case ',', ';', '+':
			n = 0
		case 0, '"', '<', '>':
			return "", false
		case '\\':
			if c, n = p.escape(); n == 0 {
				return "", false
			}
			if !escaped {
				unescaped = append(make([]byte, 0, len(p.s)-start), p.s[start:p.at]...)
				escaped = true
			}
		}
		if n == 0 {
			break
		}
		p.at += n
		if escaped {
			unescaped = append(unescaped, c)
		}
		if n > 1 || strings.IndexByte(spaces, c) < 0 {
			end = p.at
		}
	}
	if !escaped {
		return p.s[start:end], true
	}
	return string(unescaped[:len(unescaped)-(p.at-end)]), true
}

// escape reads the pair at p.at without moving there: the octet that it stands
// for and its length, 0 when it is none.
func (p *dnParser) escape() (c byte, n int) {
	rest := p.s[p.at+1:]
	if rest != "" && isSpecial(rest[0]) {
		return rest[0], 2
	}
	if len(rest) >= 2 && hexDigit(rest[0]) >= 0 && hexDigit(rest[1]) >= 0 {
		return byte(hexDigit(rest[0])<<4 | hexDigit(rest[1])), 3
	}
	return 0, 0
}

// quoted reads a quoted value (RFC 2253 section 4).
func (p *dnParser) quoted() (string, bool) {
	var v []byte
	for p.at++; p.at < len(p.s); p.at++ {
		switch c := p.s[p.at]; c {
		case '"':
			p.at++
			return string(v), true
		case 0:
			return "", false
		case '\\':
			p.at++
			if p.at == len(p.s) || !isSpecial(p.s[p.at]) {
				return "", false
			}
			v = append(v, p.s[p.at])
		default:
			v = append(v, c)
		}
	}
	return "", false
}

// hexString reads # and the octets of one BER element (RFC 4514 2.4).
func (p *dnParser) hexString() (string, bool) {
	var v []byte
	for p.at++; p.at+1 < len(p.s); p.at += 2 {
		high, low := hexDigit(p.s[p.at]), hexDigit(p.s[p.at+1])
		if high < 0 || low < 0 {
			break
		}
		v = append(v, byte(high<<4|low))
	}
	return string(v), isOneElement(v)
}

func hexDigit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// String writes the DN in the form of RFC 4514: types as they were spelled,
// control characters in hexadecimal.
func (d DN) String() string {
	var b []byte
	for i, rdn := range d {
		if i > 0 {
			b = append(b, ',')
		}
		for j, a := range rdn {
			if j > 0 {
				b = append(b, '+')
			}
			b = append(append(b, a.Type...), '=')
			if a.Hex {
				b = appendHex(append(b, '#'), a.Value)
			} else {
				b = appendEscaped(b, a.Value)
			}
		}
	}
	return string(b)
}

const hexDigits = "0123456789abcdef"

func appendHex(dst []byte, s string) []byte {
	for i := range len(s) {
		dst = append(dst, hexDigits[s[i]>>4], hexDigits[s[i]&0xf])
	}
	return dst
}

// appendEscaped appends a value in the form of RFC 4514 2.4.
func appendEscaped(dst []byte, v string) []byte {
	for i := range len(v) {
		c := v[i]
		switch {
		case c < ' ' || c == 0x7f:
			dst = appendHex(append(dst, '\\'), v[i:i+1])
			continue
		case c == ' ' && (i == 0 || i == len(v)-1), c == '#' && i == 0, strings.IndexByte("\"+,;<>\\", c) >= 0:
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

// Key is a form for comparisons: types without case and by their short names
// (those of RFC 4519, and mail and email, by name, alias or OID), values without
// case and with runs of spaces as one and none at the ends, values in
// hexadecimal as the string they hold if they hold one, the AVAs of an RDN in
// order. A key is itself a DN with that key. Equal keys do not prove equal
// names, nor different keys different ones (OpenLDAP takes full-width letters
// for ASCII): never grant anything by them alone that the spelled name would
// not get from the upstream.
func (d DN) Key() string {
	var room [256]byte
	b := room[:0]
	for i, rdn := range d {
		if i > 0 {
			b = append(b, ',')
		}
		b = rdn.appendKey(b)
	}
	return string(b)
}

// HasSuffix reports whether d is base or stands below it, by Key.
func (d DN) HasSuffix(base DN) bool {
	if len(base) > len(d) {
		return false
	}
	for i, rdn := range d[len(d)-len(base):] {
		// Mostly both come from one server, spelled alike.
		if !slices.Equal(rdn, base[i]) && string(rdn.appendKey(nil)) != string(base[i].appendKey(nil)) {
			return false
		}
	}
	return true
}
