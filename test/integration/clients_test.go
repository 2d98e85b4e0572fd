package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// policyControl is the password policy control that PAM clients put on binds.
func policyControl() []ldap.Control { return []ldap.Control{ldap.NewControlBeheraPasswordPolicy()} }

// policyBind is a bind with the control.
func policyBind(c *ldap.Conn, dn, password string) int {
	_, err := c.SimpleBind(&ldap.SimpleBindRequest{Username: dn, Password: password, Controls: policyControl()})
	return codeOf(err)
}

// TestNslcd: each login is a new connection, a bind with the policy control, and a
// search of the own entry that must find it.
func TestNslcd(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Lockout: true})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	for _, test := range []struct {
		password string
		code     int
	}{{phone.Password, 0}, {"alice-main", 0}, {"wrong", 49}, {newPassword(t, "revoked").Password, 49}} {
		c := dial(t, a.uri())
		if got := policyBind(c, userDN("alice"), test.password); got != test.code {
			t.Errorf("bind with %.8q: code %d, want %d", test.password, got, test.code)
		}
		r, err := c.Search(ldap.NewSearchRequest(userDN("alice"), ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"dn"}, nil))
		if found := err == nil && len(r.Entries) == 1; found != (test.code == 0) {
			t.Errorf("own entry after %.8q: %v, found %v", test.password, err, found)
		}
		if err := c.Unbind(); err != nil {
			t.Error(err)
		}
	}
}

// TestSaslauthd: service bind, search, user bind, all on one connection, again
// and again; and fastbind, which is the user's bind alone.
func TestSaslauthd(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	c, fast := dial(t, a.uri()), dial(t, a.uri())
	for _, test := range []struct {
		password string
		code     int
	}{{phone.Password, 0}, {"wrong", 49}, {"alice-main", 0}, {phone.Value, 49}, {phone.Password, 0}} {
		if err := c.Bind(mailDN, mailPW); err != nil {
			t.Fatalf("service bind: %v", err)
		}
		r, err := c.Search(ldap.NewSearchRequest(people, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 5, false, "(uid=alice)", []string{"dn"}, nil))
		if err != nil || len(r.Entries) != 1 {
			t.Fatalf("search: %v", err)
		}
		for _, conn := range []*ldap.Conn{c, fast} {
			if got := codeOf(conn.Bind(r.Entries[0].DN, test.password)); got != test.code {
				t.Errorf("bind with %.8q: code %d, want %d", test.password, got, test.code)
			}
		}
	}
}

// TestApache: mod_authnz_ldap searches with aliases always dereferenced and
// binds the user on the connection of its pool.
func TestApache(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{LDIF: `dn: uid=nickname,ou=people,dc=example,dc=org
objectClass: alias
objectClass: extensibleObject
uid: nickname
aliasedObjectName: uid=alice,ou=people,dc=example,dc=org
`})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	c := dial(t, a.uri())
	for _, password := range []string{phone.Password, "alice-main", phone.Password} {
		if err := c.Bind(mailDN, mailPW); err != nil {
			t.Fatalf("service bind: %v", err)
		}
		r, err := c.Search(ldap.NewSearchRequest(suffix, ldap.ScopeWholeSubtree, ldap.DerefAlways, 0, 60, false, "(&(objectClass=*)(uid=alice))", []string{"uid"}, nil))
		if err != nil || len(r.Entries) != 1 || r.Entries[0].DN != userDN("alice") {
			t.Fatalf("search: %v", err)
		}
		if got := codeOf(c.Bind(r.Entries[0].DN, password)); got != 0 {
			t.Errorf("bind with %.8q: code %d", password, got)
		}
		// The own entry with aliases dereferenced, as a client might ask again.
		r, err = c.Search(ldap.NewSearchRequest(userDN("alice"), ldap.ScopeBaseObject, ldap.DerefAlways, 0, 60, false, "(objectClass=*)", []string{"uid"}, nil))
		if err != nil || len(r.Entries) != 1 {
			t.Errorf("own entry: %v", err)
		}
	}
	// The alias is no user of its own: an app password of alice does not open it under another name.
	if got := codeOf(c.Bind("uid=nickname,"+people, phone.Password)); got != 49 {
		t.Errorf("bind as an alias: code %d, want 49", got)
	}
}

// TestSssd: the root DSE before any bind, a bind with the policy control, the
// root DSE again, searches with userPassword, some of them paged; a login is a new connection.
func TestSssd(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	root := func(c *ldap.Conn) *ldap.Entry {
		t.Helper()
		r, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)",
			[]string{"*", "altServer", "namingContexts", "supportedControl", "supportedExtension", "supportedFeatures", "supportedLDAPVersion", "supportedSASLMechanisms", "lastUSN", "highestCommittedUSN"}, nil))
		if err != nil || len(r.Entries) != 1 {
			t.Fatalf("root DSE: %v", err)
		}
		return r.Entries[0]
	}
	id := dial(t, a.uri())
	if e := root(id); !slices.Contains(e.GetAttributeValues("namingContexts"), suffix) || !slices.Contains(e.GetAttributeValues("supportedLDAPVersion"), "3") {
		t.Errorf("root DSE: %v", e)
	}
	// The directory shows everything to this account; the secrets attribute must go on the way.
	if got := policyBind(id, "cn=reader,ou=services,"+suffix, "reader-secret"); got != 0 {
		t.Fatalf("bind of the id connection: code %d", got)
	}
	root(id)
	r, err := id.SearchWithPaging(ldap.NewSearchRequest(suffix, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(&(uid=*)(objectClass=inetOrgPerson))",
		[]string{"objectClass", "uid", "userPassword", "uidNumber", "gidNumber", "homeDirectory", "loginShell", "appPassword", "shadowLastChange"}, nil), 2)
	if err != nil || len(r.Entries) != 4 {
		t.Fatalf("users: %v", err)
	}
	for _, e := range r.Entries {
		for _, at := range e.Attributes {
			if strings.EqualFold(at.Name, "appPassword") {
				t.Errorf("%s shows %s", e.DN, at.Name)
			}
		}
	}
	for _, test := range []struct {
		password string
		code     int
	}{{phone.Password, 0}, {"alice-main", 0}, {"wrong", 49}} {
		c := dial(t, a.uri())
		root(c)
		if got := policyBind(c, userDN("alice"), test.password); got != test.code {
			t.Errorf("login with %.8q: code %d, want %d", test.password, got, test.code)
		}
		if err := c.Unbind(); err != nil {
			t.Error(err)
		}
	}
}
