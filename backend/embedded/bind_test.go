package embedded

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestBind(t *testing.T) {
	t.Parallel()
	f := demo(t)
	stored := one(t, f.admin(t), aliceDN, "userPassword").GetAttributeValue("userPassword")
	for _, test := range []struct {
		name, dn, password string
		code               int
	}{
		{"right", aliceDN, DemoMain, 0},
		{"other spelling", "UID=Alice, OU=People,dc=EXAMPLE,dc=org", DemoMain, 0},
		{"alias and escapes", `userid=\61lice,organizationalUnitName=people,dc=example,dc=org`, DemoMain, 0},
		{"wrong", aliceDN, "alicepW", 49},
		{"prefix", aliceDN, "alicep", 49},
		{"the stored value", aliceDN, stored, 49},
		{"the hash in it", aliceDN, strings.TrimPrefix(stored, "{SSHA256}"), 49},
		{"app password", aliceDN, DemoPhone, 49},
		{"absent entry", "uid=nobody,ou=people,dc=example,dc=org", DemoMain, 49},
		{"no password there", peopleDN, "x", 49},
		{"below the entry", "cn=x," + aliceDN, DemoMain, 49},
		{"no DN", "alice", DemoMain, 34},
		{"not UTF-8 and a NUL", aliceDN, "\xff\x00", 49},
		{"long", aliceDN, strings.Repeat("x", 5000), 49},
	} {
		c := f.connect(t)
		if got := codeOf(c.Bind(test.dn, test.password)); got != test.code {
			t.Errorf("%s: code %d, want %d", test.name, got, test.code)
		}
	}
}

func TestBindWithoutPassword(t *testing.T) {
	t.Parallel()
	f := demo(t)
	c := f.connect(t)
	if err := c.UnauthenticatedBind(""); err != nil {
		t.Errorf("anonymous: %v", err)
	}
	if got := codeOf(c.UnauthenticatedBind(aliceDN)); got != 53 {
		t.Errorf("a name without a password: code %d, want 53", got)
	}
}

// A failed or anonymous bind takes away what the connection was before.
func TestRebindIsAnonymous(t *testing.T) {
	t.Parallel()
	f := demo(t)
	for name, rebind := range map[string]func(*ldap.Conn) error{
		"wrong password": func(c *ldap.Conn) error { return c.Bind(adminDN, "wrong") },
		"no DN":          func(c *ldap.Conn) error { return c.Bind("nonsense", "x") },
		"no password":    func(c *ldap.Conn) error { return c.UnauthenticatedBind(adminDN) },
		"anonymous":      func(c *ldap.Conn) error { return c.UnauthenticatedBind("") },
	} {
		c := f.admin(t)
		one(t, c, aliceDN)
		_ = rebind(c)
		_, err := c.Search(ldap.NewSearchRequest(aliceDN, 0, 0, 0, 0, false, "(objectClass=*)", nil, nil))
		if codeOf(err) != 50 {
			t.Errorf("%s: then a search: %v, want 50", name, err)
		}
	}
}

// The right of an identity ends with its entry.
func TestDeletedIdentity(t *testing.T) {
	t.Parallel()
	f := demo(t)
	bob := f.as(t, bobDN, "bobpw")
	one(t, bob, aliceDN)
	if err := f.admin(t).Del(ldap.NewDelRequest(bobDN, nil)); err != nil {
		t.Fatal(err)
	}
	_, err := bob.Search(ldap.NewSearchRequest(aliceDN, 0, 0, 0, 0, false, "(objectClass=*)", nil, nil))
	if codeOf(err) != 50 {
		t.Errorf("search of a deleted identity: %v, want 50", err)
	}
}

const clearLDIF = `dn: dc=example,dc=org
objectClass: domain
dc: example

# people type these
dn: cn=admin,dc=example,dc=org
objectClass: organizationalRole
cn: admin
userPassword: adminpw
userPassword: {PLAIN}second
userPassword: {cleartext}third
userPassword: $ecret
userPassword: {half
userPassword: {SSHA}tQTKu6RBcSbgyJKCUSF81nlWl3yEmzBX
userPassword: {UNHEARD-OF}x
userPassword: otpauth://totp/x?secret=JBSWY3DPEHPK3PXP
`

func TestClearTextIsHashed(t *testing.T) {
	t.Parallel()
	f := run(t, clearLDIF)
	text := f.text(t)
	for _, clear := range []string{": adminpw", "second", "third", "$ecret", "{half"} {
		if strings.Contains(text, clear) {
			t.Errorf("the file still has %q", clear)
		}
	}
	for _, kept := range []string{"# people type these\n", "{SSHA}tQTKu6RBcSbgyJKCUSF81nlWl3yEmzBX", "{UNHEARD-OF}x", "otpauth://totp/x"} {
		if !strings.Contains(text, kept) {
			t.Errorf("the file lacks %q", kept)
		}
	}
	for _, password := range []string{"adminpw", "second", "third", "$ecret", "{half"} {
		f.as(t, adminDN, password)
	}
	c := f.connect(t)
	for _, wrong := range []string{"{PLAIN}second", "x", "{UNHEARD-OF}x", "otpauth://totp/x?secret=JBSWY3DPEHPK3PXP"} {
		if codeOf(c.Bind(adminDN, wrong)) != 49 {
			t.Errorf("%q fits", wrong)
		}
	}
	if !strings.Contains(f.log.String(), "no scheme that appbind knows") {
		t.Error("the unknown scheme is not logged")
	}
	before := text
	f.Close()
	if again := runFile(t, f.file); again.text(t) != before {
		t.Error("a second start changed the file")
	}
}

func TestPasswordTooLongToHash(t *testing.T) {
	t.Parallel()
	f := demo(t)
	m := ldap.NewModifyRequest(bobDN, nil)
	m.Replace("userPassword", []string{strings.Repeat("p", 73)})
	if err := f.admin(t).Modify(m); codeOf(err) != 19 {
		t.Errorf("73 bytes: %v, want 19", err)
	}
	f.as(t, bobDN, "bobpw")
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	if got := one(t, admin, bobDN, "pwdChangedTime").GetAttributeValue("pwdChangedTime"); got != "" {
		t.Errorf("pwdChangedTime before: %q", got)
	}
	m := ldap.NewModifyRequest(bobDN, nil)
	m.Replace("userPassword", []string{"new secret"})
	if err := admin.Modify(m); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(f.text(t), "new secret") {
		t.Error("the new password is in the file in clear")
	}
	if got := one(t, admin, bobDN, "pwdChangedTime").GetAttributeValue("pwdChangedTime"); got != "20260701120000Z" {
		t.Errorf("pwdChangedTime after: %q", got)
	}
	f.as(t, bobDN, "new secret")
	if codeOf(f.connect(t).Bind(bobDN, "bobpw")) != 49 {
		t.Error("the old password still fits")
	}
	m = ldap.NewModifyRequest(bobDN, nil)
	m.Delete("userPassword", nil)
	if err := admin.Modify(m); err != nil {
		t.Fatal(err)
	}
	if codeOf(f.connect(t).Bind(bobDN, "new secret")) != 49 {
		t.Error("a password that was deleted still fits")
	}
}

// The hash that stands in for an absent one must cost what a real one costs.
func TestAbsentHash(t *testing.T) {
	t.Parallel()
	v := parseHash(absentHash)
	if v.Err != nil {
		t.Fatal(v.Err)
	}
	if _, slow := v.Cost(); !slow {
		t.Error("the hash is not slow")
	}
}

// Nothing that a client sends as a password, and no hash, is ever logged.
func TestLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	f := demo(t)
	c := f.connect(t)
	_ = c.Bind(aliceDN, "canary-password")
	_ = c.Bind("canary-dn", "canary-password")
	m := ldap.NewModifyRequest(bobDN, nil)
	m.Replace("userPassword", []string{"canary-password"})
	_ = c.Modify(m)
	_ = f.admin(t).Modify(m)
	f.Close()
	for _, s := range []string{"canary", "{CRYPT}", "$2a$", "{SSHA256}"} {
		if strings.Contains(f.log.String(), s) {
			t.Errorf("the log has %q", s)
		}
	}
}
