package integration

import (
	"strings"
	"testing"
)

// withoutSecrets removes the secrets attribute from LDIF.
func withoutSecrets(ldif string) string {
	var kept []string
	for line := range strings.SplitSeq(ldif, "\n") {
		if !strings.HasPrefix(strings.ToLower(line), "apppassword:") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// TestSearchEqual: what ldapsearch prints through appbind is what it prints
// directly, minus the secrets attribute.
func TestSearchEqual(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	for _, args := range [][]string{
		{"-b", suffix},
		{"-b", suffix, "*", "+"},
		{"-b", suffix, "-E", "pr=2/noprompt"},
		{"-b", suffix, "-E", "sss=-uid", "(uid=*)"},
		{"-b", suffix, "-E", "deref=member:uid,mail", "(cn=staff)"},
		{"-b", userDN("alice"), "-s", "base", "jpegPhoto", "appPassword"},
		{"-b", userDN("alice"), "-s", "base", "jpegPhoto;binary", "uid"},
		{"-b", suffix, "-M", "(ou=elsewhere)", "ref"},
		{"-b", suffix, "(|(uid=a*)(mail=b*))", "1.1"},
		{"-b", suffix, "-A", "(uid=alice)"},
		{"-b", "ou=none," + suffix},
		{"-b", suffix, "-z", "2"},
		{"-b", suffix, "-s", "one"},
		{"-b", people, "-s", "children"},
		{"-b", "cn=Subschema", "-s", "base", "+"},
	} {
		name := strings.Join(args, " ")
		client := []string{"-x", "-LLL", "-o", "ldif-wrap=no", "-D", adminDN, "-w", adminPW, "-H"}
		direct := command(t, "", "ldapsearch", append(append(client, s.uri()), args...)...)
		through := command(t, "", "ldapsearch", append(append(client, a.uri()), args...)...)
		if through.code != direct.code {
			t.Errorf("%s: exit status %d, direct %d\n%s", name, through.code, direct.code, through.err)
		}
		if want := withoutSecrets(direct.out); through.out != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, through.out, want)
		}
		if strings.Contains(through.out, phone.Value) {
			t.Errorf("%s: the secrets attribute shows", name)
		}
	}
}

// TestOtherOperations: compare, modify, add, delete, rename, password change pass.
func TestOtherOperations(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(s, "", "secrets_visible_to: [\"cn=reader,ou=services,dc=example,dc=org\"]\n"))
	admin := []string{"-x", "-H", a.uri(), "-D", adminDN, "-w", adminPW}
	run := func(want int, stdin, name string, args ...string) string {
		t.Helper()
		r := command(t, stdin, name, append(admin, args...)...)
		if r.code != want {
			t.Fatalf("%s %s: exit status %d, want %d\n%s%s", name, strings.Join(args, " "), r.code, want, r.out, r.err)
		}
		return r.out
	}
	run(6, "", "ldapcompare", userDN("alice"), "sn:Example")
	run(5, "", "ldapcompare", userDN("alice"), "sn:Other")
	run(0, "dn: uid=erin,"+people+"\nobjectClass: inetOrgPerson\nuid: erin\ncn: Erin\nsn: Erin\n", "ldapadd")
	run(0, "dn: uid=erin,"+people+"\nchangetype: modify\nreplace: sn\nsn: Changed\n", "ldapmodify")
	run(0, "", "ldapmodrdn", "-r", "uid=erin,"+people, "uid=erin2")
	run(0, "", "ldapmodrdn", "-s", "ou=services,"+suffix, "uid=erin2,"+people, "uid=erin3")
	run(0, "", "ldappasswd", "-s", "erin-main", "uid=erin3,ou=services,"+suffix)
	expectBind(t, a.uri(), "uid=erin3,ou=services,"+suffix, "erin-main", 0)
	run(0, "", "ldapdelete", "uid=erin3,ou=services,"+suffix)
	expectBind(t, a.uri(), "uid=erin3,ou=services,"+suffix, "erin-main", 49)

	// An administrator stores an app password through appbind, and it works at once.
	phone := newPassword(t, "phone")
	run(0, "dn: "+userDN("alice")+"\nchangetype: modify\nadd: appPassword\nappPassword: "+phone.Value+"\n", "ldapmodify")
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
	out := must(t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", a.uri(), "-D", "cn=reader,ou=services,"+suffix, "-w", "reader-secret", "-b", userDN("alice"), "appPassword")
	if !strings.Contains(out, phone.Value) {
		t.Errorf("secrets_visible_to does not see the attribute:\n%s", out)
	}
	run(0, "dn: "+userDN("alice")+"\nchangetype: modify\ndelete: appPassword\nappPassword: "+phone.Value+"\n", "ldapmodify")
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 49)

	// A user changes the main password through appbind; the new one counts at once.
	must(t, "", "ldappasswd", "-x", "-H", a.uri(), "-D", userDN("bob"), "-w", "bob-main", "-s", "bob-new")
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 49)
	expectBind(t, a.uri(), userDN("bob"), "bob-new", 0)
}

// TestLDAPv2: binds of version 2 are served (Postfix's and PHP's default), without references.
func TestLDAPv2(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(s, "", ""))
	out := must(t, "", "ldapsearch", "-P", "2", "-x", "-LLL", "-H", a.uri(), "-D", mailDN, "-w", mailPW, "-b", suffix, "(uid=alice)", "mail")
	if !strings.Contains(out, "mail: alice@example.org") || strings.Contains(out, "elsewhere") {
		t.Errorf("a version 2 client sees:\n%s", out)
	}
}
