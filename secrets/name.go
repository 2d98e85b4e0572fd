package secrets

import (
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// What can be wrong with NAME. The words in these texts are ours, never the value's.
var (
	errSpelling  = errors.New("label or parameter with wrong percent-encoding: only ; = , % $ and control characters are encoded, as %XX with capital letters")
	errSection   = errors.New("a parameter of the name is not word=value")
	errUnknown   = errors.New("unknown parameter in the name; it may be a restriction, so the value is not used (extensions begin with x-)")
	errDuplicate = errors.New("a parameter stands twice in the name")
	errID        = errors.New("id is not four characters of 0-9 a-z without i l o u")
	errExp       = errors.New("exp is not a time of the form YYYYMMDDhhmmssZ from 1970 on")
	errCrt       = errors.New("crt is not a time of the form YYYYMMDDhhmmssZ from 1970 on")
	errSvc       = errors.New("svc is not a list of different lower-case service names, such as imap,smtp")
	errNet       = errors.New("net is not a list of different networks without host bits, such as 192.0.2.0/24,2001:db8::/48")
)

// timeLayout is the one spelling of GeneralizedTime (RFC 4517, 3.3.13) that is read and written here.
const timeLayout = "20060102150405Z"

// parseName reads NAME: ours with metadata, Stalwart's base64, or a plain label.
func (v *Value) parseName() error {
	label, sections, found := strings.Cut(v.Name, ";")
	if !found || !strings.Contains(sections, "=") {
		// Opaque to us: "iPhone; work" is a label. An "=" behind a ";" is not: "phone; exp=20270101000000Z", with
		// the space that a person may type, must not become a value without expiry.
		v.Label, v.Created = decodeStalwartName(v.Name)
		return nil
	}
	text, ok := unescape(label)
	if !ok {
		return errSpelling
	}
	v.Label = text
	var seen [len(words)]bool
	for more := true; more; {
		var section string
		section, sections, more = strings.Cut(sections, ";")
		if err := v.parseSection(section, &seen); err != nil {
			return err
		}
	}
	return nil
}

// words are the parameters that we know, in the order in which New writes them.
var words = [...]string{"id", "exp", "svc", "net", "crt"}

// parseSection reads one word=value of NAME. seen marks the words that stood before.
func (v *Value) parseSection(section string, seen *[len(words)]bool) error {
	word, value, found := strings.Cut(section, "=")
	if !found {
		return errSection
	}
	if strings.HasPrefix(word, "x-") {
		return v.addExtension(section, word, value)
	}
	i := slices.Index(words[:], word)
	if i < 0 {
		return errUnknown
	}
	if seen[i] {
		return errDuplicate
	}
	seen[i] = true
	var ok bool
	switch word {
	case "id":
		if !isSelector(value) {
			return errID
		}
		v.ID = value
		return nil
	case "exp":
		v.Expires, ok = parseTime(value)
		return failUnless(ok, errExp)
	case "svc":
		v.Services, ok = parseServices(value)
		return failUnless(ok, errSvc)
	case "net":
		v.Networks, ok = parseNetworks(value)
		return failUnless(ok, errNet)
	default: // crt, the last of words
		v.Created, ok = parseTime(value)
		return failUnless(ok, errCrt)
	}
}

func failUnless(ok bool, err error) error {
	if ok {
		return nil
	}
	return err
}

// addExtension keeps an x- parameter: it restricts nothing, so nothing but its spelling is judged.
func (v *Value) addExtension(section, word, value string) error {
	if !isWord(word[len("x-"):]) {
		return errSection
	}
	for item := range strings.SplitSeq(value, ",") {
		if _, ok := unescape(item); !ok {
			return errSpelling
		}
	}
	for _, e := range v.extensions {
		if strings.HasPrefix(e, word+"=") {
			return errDuplicate
		}
	}
	v.extensions = append(v.extensions, section)
	return nil
}

// isWord says whether s is one or more of a-z, 0-9 and "-", not beginning with "-".
func isWord(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0) {
			return false
		}
	}
	return s != ""
}

// parseTime reads timeLayout and nothing else: the layout alone would take a fraction. Years before 1970
// are refused because the zero time means "no expiry".
func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.Year() < 1970 || t.Format(timeLayout) != s {
		return time.Time{}, false
	}
	return t, true
}

// parseServices reads a list of names. An alias is a name like any other here: Allows compares the canonical ones.
func parseServices(s string) ([]string, bool) {
	list := strings.Split(s, ",")
	for i, name := range list {
		if !isWord(name) || slices.Contains(list[:i], name) {
			return nil, false
		}
	}
	return list, true
}

// parseNetworks reads a list of prefixes, each in its one spelling. A prefix of IPv4-mapped addresses is
// refused: addresses are compared unmapped, so that it would never fit.
func parseNetworks(s string) ([]netip.Prefix, bool) {
	list := make([]netip.Prefix, 0, 1+strings.Count(s, ","))
	for item := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(item)
		if err != nil || p.Masked() != p || p.String() != item || p.Addr().Is4In6() || slices.Contains(list, p) {
			return nil, false
		}
		list = append(list, p)
	}
	return list, true
}

// mustEscape says whether r cannot stand in NAME as it is.
func mustEscape(r rune) bool {
	switch r {
	case ';', '=', ',', '%', '$':
		return true
	}
	return unicode.IsControl(r)
}

// escape writes s, which is UTF-8, for NAME.
func escape(s string) string {
	if strings.IndexFunc(s, mustEscape) < 0 {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+8)
	for i, r := range s {
		size := utf8.RuneLen(r)
		for _, c := range []byte(s[i : i+size]) {
			if mustEscape(r) {
				b = append(b, '%', hex[c>>4], hex[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return string(b)
}

// unescape reads what escape writes, and only that: there is no second spelling of a label.
func unescape(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, utf8.ValidString(s) && strings.IndexFunc(s, mustEscape) < 0
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			i += 2
		}
		b = append(b, c)
	}
	text := string(b)
	// What unhex made of other characters is found here: it is not how escape would write it.
	return text, utf8.ValidString(text) && escape(text) == s
}

// unhex is the value of a capital hexadecimal digit, and anything for other characters.
func unhex(c byte) byte {
	if c >= 'A' {
		return (c - 'A' + 10) & 15
	}
	return (c - '0') & 15
}

// decodeStalwartName shows the names of Stalwart's old web admin, the base64 of label$RFC3339, decoded.
// Any other name is its own label.
func decodeStalwartName(name string) (label string, created time.Time) {
	if len(name)%4 != 0 || strings.ContainsAny(name, "\r\n") {
		return name, time.Time{}
	}
	text, err := base64.StdEncoding.Strict().DecodeString(name)
	if err != nil || !utf8.Valid(text) {
		return name, time.Time{}
	}
	i := strings.LastIndexByte(string(text), '$')
	if i < 0 {
		return name, time.Time{}
	}
	t, err := time.Parse(time.RFC3339, string(text[i+1:]))
	if err != nil {
		return name, time.Time{}
	}
	return string(text[:i]), t.UTC()
}
