package integration

import (
	"fmt"
	"strings"
	"testing"
)

// TestBinds is the main job: who gets in with which password, seen by ldapwhoami.
func TestBinds(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	revoked := newPassword(t, "revoked")
	tablet := newPassword(t, "tablet", "--algorithm", "bcrypt")
	smtp := newPassword(t, "smtp only", "--service", "smtp")
	office := newPassword(t, "office", "--net", "192.0.2.0/24")
	other := newPassword(t, "other user")
	for _, p := range []appPassword{phone, tablet, smtp, office} {
		s.addSecret("alice", p.Value)
	}
	s.addSecret("carol", phone.Value)
	s.addSecret("bob", other.Value)
	expired := strings.Replace(phone.Value, "$app$phone;", "$app$old;", 1)
	s.addSecret("dave", setExpiry(t, expired, "20200101000000Z"))

	a := startAppbind(t, baseConfig(s, `  - url: ldap://127.0.0.1:0
  - url: ldap://127.0.0.1:0
    service: smtp
  - url: ldap://127.0.0.1:0
    fallback: deny
`, ""))
	plain, submission, appOnly := a.urls[0], a.urls[1], a.urls[2]
	loud := strings.ToUpper(strings.ReplaceAll(phone.Password, "-", " "))
	for _, test := range []struct {
		name, uri, dn, password string
		code                    int
	}{
		{"app password", plain, userDN("alice"), phone.Password, 0},
		{"as a phone's keyboard writes it", plain, userDN("alice"), loud, 0},
		{"bcrypt", plain, userDN("alice"), tablet.Password, 0},
		{"main password", plain, userDN("alice"), "alice-main", 0},
		{"main password, denied here", appOnly, userDN("alice"), "alice-main", 49},
		{"app password where main ones are denied", appOnly, userDN("alice"), phone.Password, 0},
		{"wrong password", plain, userDN("alice"), "alice-wrong", 49},
		{"revoked", plain, userDN("alice"), revoked.Password, 49},
		{"expired", plain, userDN("dave"), phone.Password, 49},
		{"another user's", plain, userDN("alice"), other.Password, 49},
		{"scoped, on its service", submission, userDN("alice"), smtp.Password, 0},
		{"scoped, service unknown", plain, userDN("alice"), smtp.Password, 49},
		{"bound to a network, address unknown", plain, userDN("alice"), office.Password, 49},
		{"disabled user, app password", plain, userDN("carol"), phone.Password, 49},
		{"disabled user, main password", plain, userDN("carol"), "carol-main", 49},
		{"unknown user", plain, userDN("nobody"), phone.Password, 49},
		{"unknown user, other password", plain, userDN("nobody"), "alice-main", 49},
		{"stored value as password", plain, userDN("alice"), phone.Value, 49},
		{"hash part as password", plain, userDN("alice"), phone.Value[strings.LastIndex(phone.Value, "$")+1:], 49},
		{"service account", plain, mailDN, mailPW, 0},
		{"service account, wrong", plain, mailDN, "wrong", 49},
		{"manager", plain, adminDN, adminPW, 0},
		{"entry outside the user bases", plain, serviceDN, servicePW, 0},
		{"no DN", plain, "alice", "alice-main", 49},
		{"syntax", plain, "uid=alice,,", "alice-main", 49},
	} {
		if got, _ := whoami(t, test.uri, test.dn, test.password); got != test.code {
			t.Errorf("%s: code %d, want %d", test.name, got, test.code)
		}
	}
	if code, dn := whoami(t, plain, userDN("alice"), phone.Password); code != 0 || dn != "dn:"+userDN("alice") {
		t.Errorf("who am I after an app password: %d %q", code, dn)
	}
	eventually(t, "the log names the app password that fitted", func() bool {
		return strings.Contains(a.output(), "label=tablet id="+tablet.ID+" ") && strings.Contains(a.output(), "label=phone id="+phone.ID+" ")
	})
	canaryFree(t, a.output(), phone.Password, tablet.Password, revoked.Password, "alice-main", "alice-wrong", phone.Value)
}

// setExpiry changes the exp parameter of a value.
func setExpiry(t testing.TB, value, exp string) string {
	t.Helper()
	before, rest, found := strings.Cut(value, ";exp=")
	if !found {
		t.Fatalf("no exp in the value")
	}
	return before + ";exp=" + exp + rest[strings.IndexAny(rest, ";$"):]
}

// TestEmptyPassword: a name without a password is never taken for a success (RFC 4513 5.1.2).
func TestEmptyPassword(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(s, "", ""))
	for _, dn := range []string{userDN("alice"), mailDN, adminDN, userDN("nobody")} {
		got := simpleBind(t, a.uri(), dn, "")
		if got != 53 {
			t.Errorf("bind as %s without a password: code %d, want 53", dn, got)
		}
	}
	if got := simpleBind(t, a.uri(), "", ""); got != 0 {
		t.Errorf("anonymous bind: code %d", got)
	}
}

// TestNameFilter: names that are no DN are found by name_filter, and only exactly.
func TestNameFilter(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{LDIF: `dn: uid=twin1,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin1
cn: Twin
sn: Twin
mail: twin@example.org
userPassword: twin-main

dn: uid=twin2,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: twin2
cn: Twin
sn: Twin
mail: twin@example.org
userPassword: twin-main
`})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	config := strings.Replace(baseConfig(s, "", ""), "users:\n", "users:\n  name_filter: (|(uid=%s)(mail=%s))\n", 1)
	a := startAppbind(t, config)
	for _, test := range []struct {
		name, password string
		code           int
	}{
		{"alice", phone.Password, 0},
		{"alice@example.org", phone.Password, 0},
		{"alice@example.org", "alice-main", 0},
		{"carol@example.org", "carol-main", 49},
		{"twin@example.org", "twin-main", 49},
		{"*", "alice-main", 49},
		{"ali*", phone.Password, 49},
		{"alice)(uid=*", phone.Password, 49},
		{"nobody@example.org", "x", 49},
	} {
		expectBind(t, a.uri(), test.name, test.password, test.code)
	}
}

// TestSpellings: ten spellings of one DN are one user, with one policy.
func TestSpellings(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	s.addSecret("carol", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	spellings := []string{
		"uid=%s,ou=people,dc=example,dc=org",
		"UID=%s,OU=People,DC=Example,DC=ORG",
		"userid=%s,organizationalUnitName=people,domainComponent=example,dc=org",
		"0.9.2342.19200300.100.1.1=%s,2.5.4.11=people,dc=example,dc=org",
		`uid=\%s,ou=people,dc=example,dc=org`, // first letter as a hex pair, see below
		`uid="%s",ou=people,dc=example,dc=org`,
		"uid=%s;ou=people;dc=example;dc=org",
		"uid= %s , ou = people , dc=example , dc=org",
		"uid=%s,ou=\uff50\uff45\uff4f\uff50\uff4c\uff45,dc=example,dc=org", // full-width letters
		"uid=#%s,ou=people,dc=example,dc=org",                              // BER in hex, see below
	}
	spell := func(form, uid string) string {
		switch {
		case strings.Contains(form, `\%s`):
			return fmt.Sprintf(form, fmt.Sprintf("%02x", uid[0])+uid[1:])
		case strings.Contains(form, "#%s"):
			return fmt.Sprintf(form, fmt.Sprintf("04%02x%x", len(uid), uid))
		}
		return fmt.Sprintf(form, uid)
	}
	for _, form := range spellings {
		alice, carol := spell(form, "alice"), spell(form, "carol")
		direct := simpleBind(t, s.uri(), alice, "alice-main")
		for _, test := range []struct {
			dn, password string
			code         int
		}{
			{alice, phone.Password, direct}, // an app password works wherever the spelling does
			{alice, "alice-main", direct},
			{alice, phone.Value, 49},
			{carol, phone.Password, 49}, // disabled, however it is spelled
			{carol, "carol-main", 49},
		} {
			if direct != 0 {
				test.code = 49
			}
			if got := simpleBind(t, a.uri(), test.dn, test.password); got != test.code {
				t.Errorf("%s with %.10q: code %d, want %d (direct bind %d)", test.dn, test.password, got, test.code, direct)
			}
		}
	}
}

// TestOnlyAGroup: with users.filter app passwords are for those whom it matches, from the moment in which it does; for others none is made either.
func TestOnlyAGroup(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	s.addSecret("bob", phone.Value)
	member := func(uid, operation string) {
		s.modify(changeOf(uid, operation, "departmentNumber", "mail"))
	}
	member("bob", "add")
	a := startAppbind(t, replaceOnce(t, managing(t, s, "", ""), "filter: (objectClass=inetOrgPerson)", "filter: (&(objectClass=inetOrgPerson)(departmentNumber=mail))"))
	create := func(uid string, code int) {
		t.Helper()
		r := command(t, "", binary, "passwords", "create", "-c", a.file, "--user", userDN(uid), "--label", "new", "--json")
		if r.code != code || code != 0 && (r.out != "" || !strings.Contains(r.err, "does not match users.filter")) {
			t.Errorf("create for %s: exit status %d, want %d: %s", uid, r.code, code, r.err)
		}
	}
	expectBind(t, a.uri(), userDN("bob"), phone.Password, 0)
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 49)
	expectBind(t, a.uri(), userDN("alice"), "alice-main", 49)
	create("bob", 0)
	create("alice", 4)
	member("alice", "add")
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
	create("alice", 0)
	member("bob", "delete")
	expectBind(t, a.uri(), userDN("bob"), phone.Password, 49)
	canaryFree(t, a.output(), phone.Password, phone.Value)
}
