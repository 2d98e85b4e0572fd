package embedded

import (
	"errors"
	"strings"
	"testing"
	"time"

	"appbind/wire"
)

func TestInClear(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]struct {
		password string
		clear    bool
	}{
		"secret":                {"secret", true},
		"{PLAIN}secret":         {"secret", true},
		"{clear}":               {"", true},
		"{ClearText}{SSHA}x":    {"{SSHA}x", true},
		"$ecret":                {"$ecret", true},
		"$":                     {"$", true},
		"$$x":                   {"$$x", true},
		"{":                     {"{", true},
		"{}x":                   {"{}x", true},
		"{a b}x":                {"{a b}x", true},
		"_underscore":           {"_underscore", true},
		"{SSHA}x":               {"", false},
		"{PBKDF2-SHA256}1$x":    {"", false},
		"$6$salt$x":             {"", false},
		"$argon2id$v=19$x":      {"", false},
		"$app$phone${SSHA256}x": {"", false},
		"otpauth://totp/x":      {"", false},
	} {
		password, clear := inClear(value)
		if password != want.password || clear != want.clear {
			t.Errorf("%q: %q %v, want %q %v", value, password, clear, want.password, want.clear)
		}
	}
}

// An app password in userPassword is no password of this directory, and stays as it is.
func TestAppPasswordInUserPassword(t *testing.T) {
	t.Parallel()
	text := strings.Replace(cheap(string(DemoLDIF)), "appPassword: $app$phone", "userPassword: $app$phone", 1)
	f := run(t, text)
	if !strings.Contains(f.text(t), "userPassword: $app$phone;id=") {
		t.Error("the value was changed")
	}
	if got := codeOf(f.connect(t).Bind(aliceDN, DemoPhone)); got != 49 {
		t.Errorf("bind with the app password: %d, want 49", got)
	}
	f.as(t, aliceDN, DemoMain)
}

// Passwords in clear under an attribute option are hashed as well; they are no credential.
func TestClearTextUnderAnOption(t *testing.T) {
	t.Parallel()
	f := run(t, cheap(string(DemoLDIF))+"userPassword;x-old: carol-clear\n")
	if strings.Contains(f.text(t), "carol-clear") {
		t.Error("the file still has the password")
	}
	if got := codeOf(f.connect(t).Bind(carolDN, "carol-clear")); got != 49 {
		t.Errorf("bind: %d, want 49", got)
	}
	if e := one(t, f.as(t, bobDN, "bobpw"), carolDN, "*", "userPassword;x-old"); e.GetAttributeValue("userPassword;x-old") != "" {
		t.Error("another user sees it")
	}
}

// The marked identities are marked by their place, not by their name alone.
func TestRoles(t *testing.T) {
	t.Parallel()
	const more = `
dn: cn=admin,ou=people,dc=example,dc=org
objectClass: x
cn: admin

dn: cn=appbind,dc=example,dc=org
objectClass: x
cn: appbind

dn: cn=x,cn=admin,dc=example,dc=org
objectClass: x
cn: x

dn: cn=x,cn=appbind,ou=services,dc=example,dc=org
objectClass: x
cn: x
`
	tr, err := parse("f", string(DemoLDIF)+more)
	if err != nil {
		t.Fatal(err)
	}
	for dn, want := range map[string]role{
		adminDN: manager, "CN=Admin,DC=example,DC=org": manager, serviceDN: service, dovecotDN: user, aliceDN: user, suffixDN: user,
		"cn=admin," + peopleDN: user, "cn=appbind," + suffixDN: user, "cn=x," + adminDN: user, "cn=x," + serviceDN: user,
		"cn=none," + suffixDN: anonymous,
	} {
		name, err := wire.ParseDN(dn)
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.roleOf(name.Key()); got != want {
			t.Errorf("%s: role %d, want %d", dn, got, want)
		}
	}
	if tr.roleOf("") != anonymous {
		t.Error("no identity is not anonymous")
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"CN": "cn", "commonName": "cn", "2.5.4.3": "cn", "userid": "uid", "Mail;Lang-DE": "mail;lang-de",
		"surname;x-b;x-a;x-b": "sn;x-a;x-b", "unknown": "unknown", "1.2.3": "1.2.3", appPasswordOID: "apppassword",
	} {
		if got := canonical(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for _, test := range []struct {
		want, have string
		covers     bool
	}{
		{"cn", "cn", true}, {"cn", "cn;x-a", true}, {"cn;x-a", "cn", false}, {"cn;x-a", "cn;x-a;x-b", true},
		{"cn;x-a;x-b", "cn;x-a", false}, {"cn", "sn", false}, {"cn", "cnx;x-a", false},
	} {
		if got := covers(test.want, test.have); got != test.covers {
			t.Errorf("%s covers %s: %v", test.want, test.have, got)
		}
	}
}

func TestOrdered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"2", "10", -1}, {"10", "2", 1}, {"-1", "0", -1}, {"7", "07", 0}, {"a", "b", -1}, {"a", "1", 1},
		{"20260101000000Z", "20260701000000Z", -1}, {strings.Repeat("9", 100), "1", 1},
	} {
		if got := ordered(test.a, test.b); got != test.want {
			t.Errorf("%.20q against %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// What the gate lets through to gldap, and what it replaces.
func TestSearchable(t *testing.T) {
	t.Parallel()
	for filter, kept := range map[string]bool{
		"\x87\x02cn":                                    true,  // (cn=*)
		"\xa3\x07\x04\x02cn\x04\x01x":                   true,  // (cn=x)
		"\xa0\x00":                                      true,  // (&)
		"\xa9\x07\x82\x02cn\x83\x01x":                   true,  // (cn:=x), which the handler refuses
		"\xa9\x0a\x82\x02cn\x83\x01x\x84\x01\xff":       false, // (cn:dn:=x)
		"\xa9\x06\x83\x01x\x84\x01\xff":                 false, // (:dn:=x)
		"\xa3\x09\x04\x04cn=y\x04\x01x":                 false, // a description that is none
		"\xa2\x0b\xa3\x09\x04\x04c)(n\x04\x01x":         false,
		"\x87\x00":                                      false,
		"\xa4\x0c\x04\x05cn=y*\x30\x03\x80\x01x":        false,
		"\xa3\x0b\x04\x06c\x00n;xx\x04\x01x":            false,
		"\xa1\x0d\x87\x02cn\xa3\x07\x04\x02cn\x04\x01x": true, // (|(cn=*)(cn=x))
	} {
		s := wire.SearchRequest{Filter: []byte(filter)}
		raw := wire.AppendMessage(nil, 9, wire.OpSearchRequest, s.Append(nil), nil)
		m, err := wire.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		out, err := wire.Parse(searchable(m))
		if err != nil || out.ID != 9 || out.Op != wire.OpSearchRequest {
			t.Fatalf("%q: %v", filter, err)
		}
		if got := string(out.Raw) == string(raw); got != kept {
			t.Errorf("%q kept: %v, want %v", filter, got, kept)
		}
		if !kept && !strings.Contains(string(out.Raw), refusedOID) {
			t.Errorf("%q: replaced by %q", filter, out.Raw)
		}
	}
}

// An error that is none of ours becomes "other" and tells the client nothing.
func TestOutcome(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want failure
	}{
		{nil, failure{code: 0}},
		{fail(32, "x"), failure{code: 32, text: "x"}},
		{errors.Join(errors.New("a"), fail(16, "y")), failure{code: 16, text: "y"}},
		{errors.New("open /secret/path: denied"), failure{code: 80, text: "internal error"}},
	} {
		if got := outcome(test.err); got != test.want {
			t.Errorf("%v: %+v, want %+v", test.err, got, test.want)
		}
	}
}

// No more hashes are computed at once than there are slots.
func TestVerifyingIsBounded(t *testing.T) {
	t.Parallel()
	v := make(verifying, 1)
	v <- struct{}{} // the only slot is taken
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		v.any([]string{"{SSHA}tQTKu6RBcSbgyJKCUSF81nlWl3yEmzBX"}, "x")
	}()
	select {
	case <-ended:
		t.Error("a hash was computed without a slot")
	case <-time.After(50 * time.Millisecond):
	}
	<-v
	<-ended
	if len(v) != 0 {
		t.Error("the slot was not given back")
	}
}

func TestNewUUID(t *testing.T) {
	t.Parallel()
	a, b := newUUID(), newUUID()
	if a == b || len(a) != 36 || a[14] != '4' || !strings.Contains("89ab", a[19:20]) {
		t.Errorf("%s, %s", a, b)
	}
}
