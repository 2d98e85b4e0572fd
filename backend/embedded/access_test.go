package embedded

import (
	"slices"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// The table of the package manual, cell by cell.
func TestAccess(t *testing.T) {
	t.Parallel()
	f := demo(t)
	for _, id := range []struct {
		name, dn, password      string
		entries, secrets, write bool
	}{
		{"anonymous", "", "", false, false, false},
		{"user", aliceDN, DemoMain, true, false, false},
		{"mail server", dovecotDN, DemoDovecot, true, false, false},
		{"service", serviceDN, DemoService, true, true, false},
		{"admin", adminDN, DemoAdmin, true, true, true},
	} {
		c := f.connect(t)
		if id.dn != "" {
			if err := c.Bind(id.dn, id.password); err != nil {
				t.Fatal(err)
			}
		}
		one(t, c, "", "+")
		one(t, c, "cn=Subschema", "attributeTypes")
		if got := canSearch(c); got != id.entries {
			t.Errorf("%s: search %v, want %v", id.name, got, id.entries)
		}
		if id.entries {
			checkSecrets(t, c, id.name, id.secrets)
		}
		checkWrites(t, c, id.name, id.write)
	}
}

func canSearch(c *ldap.Conn) bool {
	for _, base := range []string{suffixDN, aliceDN, "uid=absent," + peopleDN} {
		_, err := c.Search(ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, 0, 0, 0, false, "(objectClass=*)", nil, nil))
		if codeOf(err) == 50 {
			return false
		}
	}
	return true
}

// checkSecrets looks for password attributes in results, under all names, and in filters.
func checkSecrets(t *testing.T, c *ldap.Conn, name string, want bool) {
	t.Helper()
	for _, attrs := range [][]string{nil, {"*"}, {"*", "+"}, {"userPassword", "appPassword"},
		{"USERPASSWORD", "apppassword"}, {"2.5.4.35", appPasswordOID}} {
		e := one(t, c, aliceDN, attrs...)
		for _, secret := range []string{"userPassword", "appPassword"} {
			if got := len(e.GetAttributeValues(secret)) > 0; got != want {
				t.Errorf("%s: %s in the result for %v: %v, want %v", name, secret, attrs, got, want)
			}
		}
	}
	for filter, found := range map[string]bool{
		"(appPassword=*)":                              want,
		"(userPassword=*)":                             want,
		"(2.5.4.35=*)":                                 want,
		"(appPassword=$app$*)":                         false,
		"(appPassword=*phone*)":                        false,
		"(appPassword>=$)":                             false,
		"(userPassword;x-a=*)":                         false,
		"(|(appPassword=*)(uid=alice))":                true,
		"(&(!(appPassword=*))(uid=alice))":             false,
		"(!(appPassword=$app$phone))":                  false,
		"(&(!(userPassword=x))(uid=alice))":            false,
		"(|(!(appPassword=nothing))(uid=alice))":       true,
		"(&(uid=alice)(|(appPassword=*)(uid=nobody)))": want,
	} {
		got := len(search(t, c, aliceDN, ldap.ScopeBaseObject, filter)) == 1
		if got != found {
			t.Errorf("%s: %s finds %v, want %v", name, filter, got, found)
		}
	}
}

// checkWrites tries each kind of change; those that succeed undo each other.
func checkWrites(t *testing.T, c *ldap.Conn, name string, want bool) {
	t.Helper()
	code := 50
	if want {
		code = 0
	}
	add := ldap.NewAddRequest("uid=new,"+peopleDN, nil)
	add.Attribute("objectClass", []string{"account"})
	add.Attribute("uid", []string{"new"})
	modify := ldap.NewModifyRequest(bobDN, nil)
	modify.Replace("description", []string{"changed"})
	own := ldap.NewModifyRequest(aliceDN, nil)
	own.Add("appPassword", []string{"$app$minted$x"})
	got := []int{codeOf(c.Add(add)), codeOf(c.Modify(modify)), codeOf(c.Modify(own)),
		codeOf(c.Del(ldap.NewDelRequest("uid=new,"+peopleDN, nil)))}
	if !slices.Equal(got, []int{code, code, code, code}) {
		t.Errorf("%s: codes of add, modify, modify, delete: %v, want %d", name, got, code)
	}
}
