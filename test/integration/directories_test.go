package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/test/directories"
)

// others are the directories besides OpenLDAP, and how a user of them is made, disabled and named.
var others = []struct {
	name    string
	start   func(string) (*directories.Server, error)
	filter  string
	names   string
	dn      string // with %s for the name
	add     func(dn, name, password, value string) string
	disable string
	ends    string // the account, long ago
	source  string // what check says
}{
	{name: "389", start: directories.Start389, filter: "(objectClass=inetOrgPerson)", names: "(|(uid=%s)(mail=%s))", dn: "uid=%s," + people,
		add: func(dn, name, password, value string) string {
			return fmt.Sprintf("dn: %s\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\ncn: %s\nsn: %s\nmail: %s@example.org\nuserPassword: %s\nappPassword: %s\n\n",
				dn, name, name, name, password, value)
		},
		disable: "replace: nsAccountLock\nnsAccountLock: true", ends: "add: objectClass\nobjectClass: shadowAccount\n-\nreplace: shadowExpire\nshadowExpire: 1", source: "modifyTimestamp every 5s and content synchronization"},
	{name: "samba", start: directories.StartSamba, filter: "(objectClass=user)", names: "(|(sAMAccountName=%s)(mail=%s))", dn: "CN=%s,ou=people,DC=example,DC=org",
		add: func(dn, name, password, value string) string {
			return directories.SambaUser(dn, name, password, "mail: "+name+"@example.org", "appPassword: "+value) + "\n"
		},
		disable: "replace: userAccountControl\nuserAccountControl: 514", ends: "replace: accountExpires\naccountExpires: 130000000000000000", source: "uSNChanged every 5s and change notification"},
}

// TestOtherDirectories: binds through appbind with lookup: replica, in front of 389 DS and Samba AD: app passwords,
// revocation, a disabled account and one that has ended, main passwords, the command line, and an account that stale passwords do not lock.
func TestOtherDirectories(t *testing.T) {
	t.Parallel()
	for _, d := range others {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("/tmp", "ab")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			s, err := d.start(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.Stop)
			apply := func(ldif string) {
				t.Helper()
				if err := s.Modify(ldif); err != nil {
					t.Fatal(err)
				}
			}
			phone, tablet := newPassword(t, "phone"), newPassword(t, "tablet")
			alice, bob := fmt.Sprintf(d.dn, "alice"), fmt.Sprintf(d.dn, "bob")
			apply(d.add(alice, "alice", "alice-main", phone.Value) + d.add(bob, "bob", "bob-main", tablet.Value))
			a := startAppbind(t, fmt.Sprintf("listeners:\n  - url: ldap://127.0.0.1:0\nupstream:\n  urls: [\"ldap://%s\"]\n  bind_dn: %s\n  bind_password: %s\n"+
				"  manage_dn: %s\n  manage_password: %s\nusers:\n  bases: [\"%s\"]\n  filter: %s\n  name_filter: %s\npassthrough: [\"cn=Directory Manager\"]\n%s", s.Address, directories.Service, directories.ServicePW, directories.Manager, directories.ServicePW, people, d.filter, d.names, replicaOn))
			expectHidden(t, s, a.uri(), alice, phone)
			eventually(t, "the replica is current", func() bool { return strings.Contains(a.output(), "replica is current") })

			for _, name := range []string{alice, "alice", "alice@example.org"} {
				expectBind(t, a.uri(), name, phone.Password, 0)
				expectBind(t, a.uri(), name, tablet.Password, 49)
				expectBind(t, a.uri(), name, "alice-main", 0)
			}
			apply("dn: " + alice + "\nchangetype: modify\ndelete: appPassword\nappPassword: " + phone.Value + "\n")
			revoked := time.Now()
			eventually(t, "the revocation counts", func() bool { return bindOnce(a.uri(), alice, phone.Password) == 49 })
			t.Logf("revoked after %v", time.Since(revoked))
			for range 20 {
				expectBind(t, a.uri(), alice, phone.Password, 49)
			}
			// Two failures elsewhere: one more would lock the account.
			for range directories.Failures - 1 {
				if code := bindOnce("ldap://"+s.Address, bob, "stale"); code != 49 {
					t.Fatalf("a wrong password at the directory: %d", code)
				}
			}
			for i := range 5 {
				expectBind(t, a.uri(), bob, fmt.Sprint("stale", i), 49)
			}
			if code := bindOnce("ldap://"+s.Address, bob, "bob-main"); code != 0 {
				t.Errorf("the account is locked by what appbind forwarded: %d", code)
			}
			apply("dn: " + bob + "\nchangetype: modify\n" + d.disable + "\n")
			eventually(t, "a disabled account", func() bool { return bindOnce(a.uri(), bob, tablet.Password) == 49 })
			expectBind(t, a.uri(), bob, "bob-main", 49)

			cli := &desk{t: t, file: a.file}
			laptop := cli.create("--user", "alice", "--label", "laptop")
			eventually(t, "a new app password", func() bool { return bindOnce(a.uri(), alice, laptop.Password) == 0 })
			cli.fails(4, "disabled", "passwords", "create", "--user", "bob", "--label", "x")
			apply("dn: " + alice + "\nchangetype: modify\n" + d.ends + "\n")
			eventually(t, "an account that has ended", func() bool { return bindOnce(a.uri(), alice, laptop.Password) == 49 })
			expectBind(t, a.uri(), alice, "alice-main", 49)
			cli.fails(4, "disabled", "passwords", "create", "--user", "alice", "--label", "x")
			if out := cli.ok("passwords", "revoke", "--user", "alice", "--all", "--yes"); !strings.Contains(out, "laptop") {
				t.Errorf("revoke: %s", out)
			}

			if out := command(t, "", binary, "check", "-c", a.file).out; !strings.Contains(out, d.source) {
				t.Errorf("check does not say %q:\n%s", d.source, out)
			}
			canaryFree(t, a.output(), phone.Password, tablet.Password, laptop.Password)
		})
	}
}

// expectHidden: names that some servers take for the attribute (Samba stops at a NUL, and makes a filter of a compare) tell nothing
// of its values, and write nothing in clear.
func expectHidden(t *testing.T, s *directories.Server, uri, user string, held appPassword) {
	t.Helper()
	c := bound(t, uri, directories.Service, directories.ServicePW)
	for name, value := range map[string]string{"appPassword\x00x": held.Value, "appPassword\x00": "$app$*", "|(cn=nobody)(appPassword": "$app$*)"} {
		if is, err := c.Compare(user, name, value); is || codeOf(err) == 0 {
			t.Errorf("compare of %q: %v %v", name, is, err)
		}
	}
	m := ldap.NewModifyRequest(user, nil)
	m.Add("appPassword\x00x", []string{"$app$in clear$clear-canary"})
	err := c.Modify(m)
	see := bound(t, "ldap://"+s.Address, directories.Service, directories.ServicePW)
	r, e := see.Search(ldap.NewSearchRequest(user, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"appPassword"}, nil))
	if e != nil || len(r.Entries) != 1 {
		t.Fatal(e)
	}
	if stored := r.Entries[0].GetAttributeValues("appPassword"); strings.Contains(strings.Join(stored, " "), "clear-canary") {
		t.Errorf("stored in clear (%v)", err)
	}
	if strings.Contains(s.Root, "=") { // of 389 DS, which is shown whole entries as text
		r, e = bound(t, uri, s.Root, s.RootPW).Search(ldap.NewSearchRequest(user, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"nscpEntryWSI", "*"}, nil))
		if e != nil || len(r.Entries) != 1 {
			t.Fatal(e)
		}
		for _, at := range r.Entries[0].Attributes {
			if strings.Contains(strings.Join(at.Values, "\n"), "$app$") {
				t.Errorf("%s shows a value", at.Name)
			}
		}
	}
	// The control by which a search is sorted, by another name, ends the client.
	q := ldap.NewSearchRequest(user, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"cn"},
		[]ldap.Control{ldap.NewControlString("1.2.840.113556.1.4.473\x00x", false, "")})
	if r, err := c.Search(q); err == nil {
		t.Errorf("a control that is none: %v", r)
	}
}
