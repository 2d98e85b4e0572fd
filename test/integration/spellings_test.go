package integration

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// speller writes a user's DN in ways that some server might take for it, and in
// ways that none should. A fixed seed makes it write the same ones each time.
type speller struct{ *rand.Rand }

// one is one of the list.
func (s speller) one(list ...string) string { return list[s.IntN(len(list))] }

// rarely is true once in n times.
func (s speller) rarely(n int) bool { return s.IntN(n) == 0 }

// typeNames are the names of the attribute types of a DN, right and nearly right.
var typeNames = map[string][]string{
	"uid": {"UID", "Uid", "userid", "0.9.2342.19200300.100.1.1", "OID.0.9.2342.19200300.100.1.1", "oid.0.9.2342.19200300.100.1.1", "0.9.2342.19200300.100.1.01", "uid;lang-de", "uid;x", "cn", "\\75id", " uid", "uid ", "\"uid\"", "u\u0131d"},
	"ou":  {"OU", "organizationalUnitName", "ORGANIZATIONALUNITNAME", "2.5.4.11", "OID.2.5.4.11", "02.5.4.11", "2.5.4.011", "ou;binary", "o", "2.5.4.11 "},
	"dc":  {"DC", "domainComponent", "0.9.2342.19200300.100.1.25", "OID.0.9.2342.19200300.100.1.25", "dc;x-y", "o"},
}

// odd are characters that some parsers drop, fold, take for an end or for another one.
var odd = []string{"\x00", "\\00", "\x01", "\x7f", "\t", "\n", "\r", "\x1b", "\u00ad", "\u200b", "\u200d", "\ufeff", "\u00a0", "\u3000", "\u2028", "\u0301", "\u0131", "\u017f", "\u212a",
	"\xff", "\xc3", "\xc0\xaf", "\\", "\\\\", "\\,", "\\2C", "\\20", "\\ ", "\\g1", "\\6", "\"", "#", "+", "=", ";", ",", "<", ">", "*", "(", ")", "'", "/", " ", "  "}

// attribute is a type.
func (s speller) attribute(name string) string {
	if !s.rarely(5) {
		return name
	}
	return s.one(typeNames[name]...)
}

// value is a value in some form.
func (s speller) value(v string) string {
	switch s.IntN(16) {
	case 0:
		return strings.ToUpper(v)
	case 1: // hex pairs for some characters
		var b strings.Builder
		for i := range len(v) {
			if s.rarely(2) {
				fmt.Fprintf(&b, s.one("\\%02x", "\\%02X"), v[i])
			} else {
				b.WriteByte(v[i])
			}
		}
		return b.String()
	case 2:
		return `"` + v + `"`
	case 3: // BER, the tag and the length right or not
		return "#" + s.one("04", "0c", "13", "16", "02", "24") + fmt.Sprintf("%02x", len(v)+s.IntN(4)/3) + s.one("", "", "00") + hex.EncodeToString([]byte(v))
	case 4:
		return s.one(" ", "  ", "\\ ", "\\20") + v
	case 5:
		return v + s.one(" ", "  ", "\\ ", "\\20")
	case 6: // full-width letters
		wide := []rune(v)
		for i, r := range wide {
			if r > ' ' && r < 0x7f && s.rarely(2) {
				wide[i] = r + 0xfee0
			}
		}
		return string(wide)
	case 7, 8: // something odd within
		i := s.IntN(len(v) + 1)
		return v[:i] + s.one(odd...) + v[i:]
	case 9: // an escape that needs none
		i := s.IntN(len(v))
		return v[:i] + "\\" + v[i:]
	case 10:
		return v + s.one("+cn=Alice Example", "+cn=alice", "+mail=alice@example.org", "+uid=alice", "+ou=people", "+", "+=", "+sn=Example")
	}
	return v
}

// dn is a spelling of a user's DN.
func (s speller) dn(uid string) string {
	var b strings.Builder
	for i, rdn := range [][2]string{{"uid", uid}, {"ou", "people"}, {"dc", "example"}, {"dc", "org"}} {
		if i > 0 {
			sep := ","
			if s.rarely(9) {
				sep = s.one(";", ", ", " ,", " ; ", ",\n", "\t,", "+", ",,", "/", "\\,", ",\x00")
			}
			b.WriteString(sep)
		}
		value := rdn[1]
		if s.rarely(4) {
			value = s.value(value)
		}
		b.WriteString(s.attribute(rdn[0]))
		if s.rarely(20) {
			b.WriteString(s.one(" ", "\n", "="))
		}
		b.WriteString("=")
		b.WriteString(value)
	}
	if s.rarely(12) {
		b.WriteString(s.one(",", " ", "\x00", ",cn=appbind", ",svc=imap,cn=appbind", ";", ",dc=", ",=", "\\", "\"", ",dc=org", ",+", "\n", "#", ",x"))
	}
	text := b.String()
	if s.rarely(10) { // bytes changed, lost or added at random
		i := s.IntN(len(text))
		text = text[:i] + s.one(append([]string{""}, odd...)...) + text[i+s.IntN(2):]
	}
	if s.rarely(40) {
		text = s.one(" ", "\n", "dn:", "dn: ", "ldap:///", "<", "\ufeff") + text
	}
	return text
}

// option finds an attribute option in a DN. RFC 4514 has none there and
// OpenLDAP ignores it; we refuse such a DN.
var option = regexp.MustCompile(`;[A-Za-z-]+\s*=`)

// taken is the code of a bind, and who the client is after it.
func taken(t testing.TB, c *ldap.Conn, dn, password string) (int, string) {
	t.Helper()
	got := codeOf(c.Bind(dn, password))
	if got == -1 {
		t.Fatalf("bind as %q: the connection is lost", dn)
	}
	if got != 0 {
		return got, ""
	}
	who, err := c.WhoAmI(nil)
	if err != nil {
		t.Fatal(err)
	}
	return got, strings.TrimPrefix(who.AuthzID, "dn:")
}

// TestSpellingsDiffer: whatever a DN looks like, appbind takes it for a user's
// where the directory does, and nowhere else; a disabled user is let in under no spelling.
func TestSpellingsDiffer(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	s.addSecret("carol", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	direct, through := dial(t, s.uri()), dial(t, a.uri())

	const spellings = 3000
	seen, accepted, withOption, refused := map[string]bool{}, 0, 0, map[int]int{}
	speller := speller{rand.New(rand.NewPCG(4, 2))}
	for len(seen) < spellings {
		dn := speller.dn("alice")
		if seen[dn] {
			continue
		}
		seen[dn] = true
		want, who := taken(t, direct, dn, "alice-main")
		isAlice := want == 0 && strings.EqualFold(who, userDN("alice"))
		if isAlice {
			accepted++
		} else {
			refused[want]++
		}
		for _, password := range []string{"alice-main", phone.Password} {
			got, who := taken(t, through, dn, password)
			switch {
			case got == 0 && !isAlice:
				t.Errorf("%q with %.5q: we accept, the directory refuses with %d", dn, password, want)
			case got == 49 && isAlice && option.MatchString(dn):
				withOption++
			case got != 0 && isAlice:
				t.Errorf("%q with %.5q: the directory accepts, we refuse with %d", dn, password, got)
			case got == 0 && who != userDN("alice"):
				t.Errorf("%q with %.5q: we take it for %s", dn, password, who)
			case got != 0 && got != 49:
				t.Errorf("%q with %.5q: code %d, want 49", dn, password, got)
			}
		}
		carol := strings.ReplaceAll(strings.ReplaceAll(dn, "alice", "carol"), "ALICE", "CAROL")
		if carol == dn {
			carol = speller.dn("carol")
		}
		for _, password := range []string{"carol-main", phone.Password} {
			if got, _ := taken(t, through, carol, password); got != 49 {
				t.Errorf("disabled user as %q with %.5q: code %d, want 49", carol, password, got)
			}
		}
	}
	t.Logf("%d spellings: %d are alice's, refused by code %v; %d binds refused for an option in the DN", spellings, accepted, refused, withOption)
	if accepted < spellings/10 || accepted > spellings*9/10 {
		t.Errorf("%d of %d are alice's: the speller is not of much use", accepted, spellings)
	}
}
