package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// totpSecret is the secret of the test's second factors.
const totpSecret = "JBSWY3DPEHPK3PXPJBSWY3DPEH"

// otpauth is a second factor as a value of the secrets attribute.
func otpauth(uid string) string {
	return "otpauth://totp/Example:" + uid + "?secret=" + totpSecret + "&issuer=Example"
}

// person is a user of the test's own, in LDIF.
func person(uid, password string) string {
	return fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: %s\ncn: %s\nsn: Example\nuserPassword: %s\n\n",
		userDN(uid), uid, uid, password)
}

// otpCode is the code of a time step, counted from now: 0 and 1 are good for
// half a minute at least, whenever the test runs.
func otpCode(t testing.TB, step int) string {
	t.Helper()
	code, err := totp.GenerateCode(totpSecret, time.Now().Add(time.Duration(step)*30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// wrongCode is a code that is not good now.
func wrongCode(t testing.TB) string {
	t.Helper()
	good := map[string]bool{}
	for step := -2; step <= 3; step++ {
		good[otpCode(t, step)] = true
	}
	for n := 111111; ; n++ {
		if code := fmt.Sprint(n); !good[code] {
			return code
		}
	}
}

// TestTOTP: PASSWORD$CODE for who has enrolled, once; and what never reaches the directory.
func TestTOTP(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{LDIF: person("erin", "erin-main") + person("frank", "frank-main") + person("grace", "gr$123456") + person("heidi", "heidi-main")})
	phone := newPassword(t, "phone")
	tablet := newPassword(t, "tablet", "--algorithm", "bcrypt")
	chosen := "$app$old$" + bcryptOf(t, "chosen by a person", 4)
	for _, uid := range []string{"alice", "bob", "dave", "erin", "frank"} {
		s.addSecret(uid, phone.Value)
	}
	s.addSecret("alice", tablet.Value)
	s.addSecret("alice", chosen)
	for _, uid := range []string{"alice", "erin", "frank"} {
		s.addSecret(uid, otpauth(uid))
	}
	s.addSecret("dave", "otpauth://totp/Example:dave?secret=short&issuer=Example")
	a := startAppbind(t, baseConfig(s, `  - url: ldap://127.0.0.1:0
  - url: ldap://127.0.0.1:0
    totp: required
  - url: ldap://127.0.0.1:0
    totp: ignore
`, ""))
	enrolled, required, ignored := a.urls[0], a.urls[1], a.urls[2]
	good := otpCode(t, 0)
	for _, test := range []struct {
		name, uri, uid, password string
		code, forwarded          int // forwarded: binds that reach the directory
	}{
		{"main password and code", enrolled, "alice", "alice-main$" + good, 0, 1},
		{"the same code again", enrolled, "alice", "alice-main$" + good, 49, 0},
		{"the same code with a wrong password", enrolled, "alice", "wrong$" + good, 49, 0},
		{"main password alone", enrolled, "alice", "alice-main", 49, 0},
		{"app password alone", enrolled, "alice", phone.Password, 0, 0},
		{"bcrypt app password alone", enrolled, "alice", tablet.Password, 0, 0},
		{"chosen app password alone", enrolled, "alice", "chosen by a person", 0, 0},
		{"app password with a code", enrolled, "alice", phone.Password + "$" + otpCode(t, 1), 49, 0},
		{"bcrypt app password with a code", enrolled, "alice", tablet.Password + "$" + otpCode(t, 1), 49, 0},
		{"chosen app password with a code", enrolled, "alice", "chosen by a person$" + otpCode(t, 1), 49, 0},
		{"revoked app password with a code", enrolled, "alice", newPassword(t, "revoked").Password + "$" + otpCode(t, 1), 49, 0},
		{"stored value with a code", enrolled, "alice", phone.Value + "$" + otpCode(t, 1), 49, 0},
		{"second factor as a password", enrolled, "alice", otpauth("alice"), 49, 0},
		{"second factor with a code", enrolled, "alice", otpauth("alice") + "$" + otpCode(t, 1), 49, 0},
		{"digits alone", enrolled, "alice", "$123456", 49, 0},
		{"code alone", enrolled, "alice", "$" + otpCode(t, 1), 49, 0},
		{"wrong code", enrolled, "alice", "alice-main$" + wrongCode(t), 49, 0},
		{"the next code is still good", enrolled, "alice", "alice-main$" + otpCode(t, 1), 0, 1},

		{"wrong password, right code", enrolled, "erin", "wrong$" + otpCode(t, 0), 49, 1},
		{"right password, code spent on a wrong one", enrolled, "erin", "erin-main$" + otpCode(t, 0), 49, 0},
		{"enrolled, required here", required, "erin", "erin-main$" + otpCode(t, 1), 0, 1},
		{"enrolled, required here, no code", required, "erin", "erin-main", 49, 0},
		{"enrolled, ignored here", ignored, "erin", "erin-main", 0, 1},

		{"not enrolled", enrolled, "bob", "bob-main", 0, 1},
		{"not enrolled, required", required, "bob", "bob-main", 49, 0},
		{"not enrolled, required, some code", required, "bob", "bob-main$123456", 49, 0},
		{"not enrolled, required, app password", required, "bob", phone.Password, 0, 0},
		{"not enrolled, a password that looks like one with a code", enrolled, "grace", "gr$123456", 0, 1},

		{"malformed second factor", enrolled, "dave", "dave-main", 49, 0},
		{"malformed second factor, some code", enrolled, "dave", "dave-main$123456", 49, 0},
		{"malformed second factor, app password", enrolled, "dave", phone.Password, 0, 0},
		{"malformed second factor, required", required, "dave", "dave-main", 49, 0},
		{"malformed second factor, ignored here", ignored, "dave", "dave-main", 0, 1},
	} {
		before := s.bindsOf(userDN(test.uid))
		if got := simpleBind(t, test.uri, userDN(test.uid), test.password); got != test.code {
			t.Errorf("%s: code %d, want %d", test.name, got, test.code)
		}
		if n := s.bindsOf(userDN(test.uid)) - before; n != test.forwarded {
			t.Errorf("%s: %d binds reach the directory, want %d", test.name, n, test.forwarded)
		}
	}
	testWrongCodes(t, s, a, phone.Password)
	canaryFree(t, a.output(), totpSecret, "alice-main", "chosen by a person", phone.Password)
}

// testWrongCodes: after five wrong codes not even the right one is looked at.
func testWrongCodes(t *testing.T, s *slapd, a *appbind, appPassword string) {
	t.Helper()
	before := s.bindsOf(userDN("frank"))
	for i := range 5 {
		expectBind(t, a.urls[0], userDN("frank"), "frank-main$"+wrongCode(t), 49)
		if i == 1 { // a right one between them takes none of them back
			expectBind(t, a.urls[0], userDN("frank"), "frank-main$"+otpCode(t, 0), 0)
		}
	}
	expectBind(t, a.urls[0], userDN("frank"), "frank-main$"+otpCode(t, 1), 49)
	expectBind(t, a.urls[0], userDN("frank"), appPassword, 0)
	expectBind(t, a.urls[2], userDN("frank"), "frank-main", 0) // where codes are ignored
	if n := s.bindsOf(userDN("frank")) - before; n != 2 {
		t.Errorf("%d binds of frank reach the directory, want 2", n)
	}
	eventually(t, "the log says why", func() bool {
		return strings.Count(a.output(), `reason="too many wrong one-time codes"`) == 1
	})
}
