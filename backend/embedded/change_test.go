package embedded

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// step is one modification of the table below.
type step struct {
	op     uint
	name   string
	values []string
}

func TestModify(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	const dn = "cn=m," + suffixDN
	for _, test := range []struct {
		name  string
		steps []step
		code  int
		want  string // description and cn afterwards
	}{
		{"add", []step{{0, "description", []string{"c"}}}, 0, "A,b,c m"},
		{"add two", []step{{0, "description", []string{"c", "d"}}}, 0, "A,b,c,d m"},
		{"add present", []step{{0, "description", []string{"a"}}}, 20, "A,b m"},
		{"add twice in one", []step{{0, "title", []string{"x", "X"}}}, 20, "A,b m"},
		{"delete by case", []step{{1, "DESCRIPTION", []string{"B"}}}, 0, "A m"},
		{"delete by OID", []step{{1, "2.5.4.13", []string{"b"}}}, 0, "A m"},
		{"delete absent value", []step{{1, "description", []string{"x"}}}, 16, "A,b m"},
		{"delete absent attribute", []step{{1, "title", nil}}, 16, "A,b m"},
		{"delete all", []step{{1, "description", nil}}, 0, " m"},
		{"delete all by values", []step{{1, "description", []string{"a", "b"}}}, 0, " m"},
		{"replace", []step{{2, "description", []string{"z"}}}, 0, "z m"},
		{"replace by none", []step{{2, "description", nil}}, 0, " m"},
		{"replace absent by none", []step{{2, "title", nil}}, 0, "A,b m"},
		{"in order", []step{{1, "description", []string{"a"}}, {0, "description", []string{"a"}}}, 0, "b,a m"},
		{"all or nothing", []step{{0, "description", []string{"c"}}, {1, "title", nil}}, 16, "A,b m"},
		{"naming value", []step{{1, "cn", nil}}, 67, "A,b m"},
		{"naming value kept", []step{{2, "cn", []string{"M", "n"}}}, 0, "A,b M,n"},
		{"no class left", []step{{1, "objectClass", nil}}, 65, "A,b m"},
		{"operational", []step{{2, "entryUUID", []string{"x"}}}, 19, "A,b m"},
		{"operational by OID", []step{{2, "1.3.6.1.1.16.4", []string{"x"}}}, 19, "A,b m"},
		{"single-valued", []step{{0, "uidNumber", []string{"1", "2"}}}, 19, "A,b m"},
		{"empty value", []step{{0, "title", []string{""}}}, 21, "A,b m"},
		{"nothing to add", []step{{0, "title", nil}}, 2, "A,b m"},
		{"bad name", []step{{0, "ti tle", []string{"x"}}}, 17, "A,b m"},
		{"increment", []step{{3, "uidNumber", []string{"1"}}}, 2, "A,b m"},
	} {
		create(t, admin, dn, "m")
		m := ldap.NewModifyRequest(dn, nil)
		for _, s := range test.steps {
			m.Changes = append(m.Changes, ldap.Change{Operation: s.op, Modification: ldap.PartialAttribute{Type: s.name, Vals: s.values}})
		}
		if got := codeOf(admin.Modify(m)); got != test.code {
			t.Errorf("%s: code %d, want %d", test.name, got, test.code)
		}
		e := one(t, admin, dn)
		got := strings.Join(e.GetAttributeValues("description"), ",") + " " + strings.Join(e.GetAttributeValues("cn"), ",")
		if got != test.want {
			t.Errorf("%s: entry has %q, want %q", test.name, got, test.want)
		}
		if err := admin.Del(ldap.NewDelRequest(dn, nil)); err != nil {
			t.Fatal(err)
		}
	}
}

// create adds an entry with description A and b.
func create(t *testing.T, c *ldap.Conn, dn, cn string) {
	t.Helper()
	a := ldap.NewAddRequest(dn, nil)
	a.Attribute("objectClass", []string{"organizationalRole"})
	a.Attribute("cn", []string{cn})
	a.Attribute("description", []string{"A", "b"})
	if err := c.Add(a); err != nil {
		t.Fatal(err)
	}
}

// An app password is added and revoked by its exact value.
func TestModifyExactValues(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	change := func(op uint, value string) int {
		m := ldap.NewModifyRequest(carolDN, nil)
		m.Changes = []ldap.Change{{Operation: op, Modification: ldap.PartialAttribute{Type: "appPassword", Vals: []string{value}}}}
		return codeOf(admin.Modify(m))
	}
	const value = "$app$Phone${SSHA256}AbC"
	for i, s := range []struct {
		op    uint
		value string
		code  int
	}{
		{0, value, 0}, {0, value, 20}, {0, strings.ToLower(value), 0}, {1, strings.ToUpper(value), 16},
		{1, value, 0}, {1, value, 16}, {1, strings.ToLower(value), 0},
	} {
		if got := change(s.op, s.value); got != s.code {
			t.Errorf("step %d: code %d, want %d", i, got, s.code)
		}
	}
	binary := string([]byte{0, 1, 0xff, '\n'}) + strings.Repeat("x", 300)
	if got := change(0, binary); got != 0 {
		t.Errorf("binary value: code %d", got)
	}
	if got := one(t, admin, carolDN).GetRawAttributeValue("appPassword"); string(got) != binary {
		t.Errorf("binary value came back as %q", got)
	}
}

func TestAddAndDelete(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	add := func(dn string, attrs ...string) error {
		a := ldap.NewAddRequest(dn, nil)
		for i := 0; i < len(attrs); i += 2 {
			a.Attribute(attrs[i], []string{attrs[i+1]})
		}
		return admin.Add(a)
	}
	for _, test := range []struct {
		name, dn string
		attrs    []string
		code     int
	}{
		{"exists", "UID=Alice," + peopleDN, []string{"objectClass", "account", "uid", "alice"}, 68},
		{"no parent", "uid=x,ou=none," + suffixDN, []string{"objectClass", "account", "uid", "x"}, 32},
		{"beside the suffix", "dc=other", []string{"objectClass", "domain", "dc", "other"}, 32},
		{"no class", "uid=x," + peopleDN, []string{"uid", "x"}, 65},
		{"no naming value", "uid=x," + peopleDN, []string{"objectClass", "account", "uid", "y"}, 64},
		{"bad DN", "x", []string{"objectClass", "account"}, 34},
		{"no DN", "", []string{"objectClass", "account"}, 34},
		{"operational", "uid=x," + peopleDN, []string{"objectClass", "account", "uid", "x", "entryUUID", "y"}, 19},
		{"fine", "uid=x," + peopleDN, []string{"objectClass", "account", "uid", "X", "userPassword", "xpw"}, 0},
	} {
		if got := codeOf(add(test.dn, test.attrs...)); got != test.code {
			t.Errorf("%s: code %d, want %d", test.name, got, test.code)
		}
	}
	f.as(t, "uid=x,"+peopleDN, "xpw")
	e := one(t, admin, "uid=x,"+peopleDN, "+")
	for name, want := range map[string]string{
		"createTimestamp": "20260701120000Z", "modifyTimestamp": "20260701120000Z", "pwdChangedTime": "20260701120000Z",
		"creatorsName": adminDN, "modifiersName": adminDN, "entryDN": "uid=x," + peopleDN,
		"subschemaSubentry": "cn=Subschema", "hasSubordinates": "FALSE",
	} {
		if got := e.GetAttributeValue(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(e.GetAttributeValue("entryUUID")) != 36 || !strings.HasPrefix(e.GetAttributeValue("entryCSN"), "20260701120000.123456Z#") {
		t.Errorf("entryUUID %q, entryCSN %q", e.GetAttributeValue("entryUUID"), e.GetAttributeValue("entryCSN"))
	}
	for _, test := range []struct {
		dn   string
		code int
	}{{peopleDN, 66}, {suffixDN, 66}, {"uid=none," + peopleDN, 32}, {"x", 34}, {"uid=X, " + peopleDN, 0}, {"uid=x," + peopleDN, 32}} {
		if got := codeOf(admin.Del(ldap.NewDelRequest(test.dn, nil))); got != test.code {
			t.Errorf("delete %s: code %d, want %d", test.dn, got, test.code)
		}
	}
}

// Every change has a CSN of its own, and entryUUID stays.
func TestOperationalAttributesFollowChanges(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	uuid := one(t, admin, bobDN, "+").GetAttributeValue("entryUUID")
	var csns []string
	for range 3 {
		m := ldap.NewModifyRequest(bobDN, nil)
		m.Replace("description", []string{"x"})
		if err := admin.Modify(m); err != nil {
			t.Fatal(err)
		}
		e := one(t, admin, bobDN, "+")
		csns = append(csns, e.GetAttributeValue("entryCSN"))
		if e.GetAttributeValue("entryUUID") != uuid {
			t.Error("entryUUID changed")
		}
	}
	if !slices.IsSorted(csns) || len(slices.Compact(csns)) != 3 {
		t.Errorf("CSNs %v", csns)
	}
}

// A critical control that is not known ends the operation, whatever it is; others are ignored.
func TestControls(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	for _, critical := range []bool{true, false} {
		want := map[bool]int{true: 12, false: 0}[critical]
		controls := []ldap.Control{ldap.NewControlString("1.2.3.4", critical, "")}
		m := ldap.NewModifyRequest(bobDN, controls)
		m.Replace("description", []string{"x"})
		a := ldap.NewAddRequest("uid=c,"+peopleDN, controls)
		a.Attribute("objectClass", []string{"account"})
		a.Attribute("uid", []string{"c"})
		_, searched := admin.Search(ldap.NewSearchRequest(bobDN, 0, 0, 0, 0, false, "(uid=bob)", nil, controls))
		got := []int{codeOf(searched), codeOf(admin.Modify(m)), codeOf(admin.Add(a))}
		if !slices.Equal(got, []int{want, want, want}) {
			t.Errorf("critical %v: codes %v, want %d", critical, got, want)
		}
	}
	d := ldap.NewDelRequest(carolDN, []ldap.Control{ldap.NewControlString("1.2.3.4", true, "")})
	if got := codeOf(admin.Del(d)); got != 12 {
		t.Errorf("delete: code %d, want 12", got)
	}
}

// A permissive modify leaves alone what is as it should be; without the control that is an error.
func TestPermissiveModify(t *testing.T) {
	t.Parallel()
	f := demo(t)
	admin := f.admin(t)
	for _, critical := range []bool{true, false} {
		permissive := []ldap.Control{ldap.NewControlString(controlPermissiveModify, critical, "")}
		for _, c := range []struct {
			change    func(m *ldap.ModifyRequest)
			otherwise int
		}{
			{func(m *ldap.ModifyRequest) {
				m.Add("objectClass", []string{"appPasswordAccount"})
				m.Add("description", []string{"a"})
			}, 20},
			{func(m *ldap.ModifyRequest) { m.Add("description", []string{"a", "b"}) }, 20},
			{func(m *ldap.ModifyRequest) { m.Delete("description", []string{"b", "c"}) }, 16},
			{func(m *ldap.ModifyRequest) { m.Delete("description", []string{"a"}) }, 0},
			{func(m *ldap.ModifyRequest) { m.Delete("description", []string{"a"}) }, 16},
			{func(m *ldap.ModifyRequest) { m.Delete("description", nil) }, 16},
		} {
			strict, lenient := ldap.NewModifyRequest(bobDN, nil), ldap.NewModifyRequest(bobDN, permissive)
			c.change(strict)
			c.change(lenient)
			if c.otherwise != 0 {
				if got := codeOf(admin.Modify(strict)); got != c.otherwise {
					t.Errorf("%v: code %d, want %d", strict.Changes, got, c.otherwise)
				}
			}
			want := 0
			if len(lenient.Changes[0].Modification.Vals) == 0 {
				want = 16 // all of an attribute that is not there
			}
			if got := codeOf(admin.Modify(lenient)); got != want {
				t.Errorf("%v, permissive: code %d, want %d", lenient.Changes, got, want)
			}
		}
	}
	if got := codeOf(admin.Del(ldap.NewDelRequest(carolDN, []ldap.Control{ldap.NewControlString(controlPermissiveModify, true, "")}))); got != 12 {
		t.Errorf("a critical control on an operation that it does not go with: code %d, want 12", got)
	}
}

func TestExtended(t *testing.T) {
	t.Parallel()
	f := demo(t)
	c := f.admin(t)
	if _, err := c.WhoAmI(nil); codeOf(err) != 2 {
		t.Errorf("who am I: %v, want 2", err)
	}
	if _, err := c.PasswordModify(ldap.NewPasswordModifyRequest(bobDN, "", "x")); codeOf(err) != 2 {
		t.Errorf("password modify: %v, want 2", err)
	}
	one(t, c, aliceDN) // the connection lives on
}

func TestSetValues(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for _, test := range []struct {
		in   string
		want []string
		ok   bool
	}{
		{"", nil, true},
		{"\x04\x00", []string{""}, true},
		{"\x04\x01a\x04\x02bc", []string{"a", "bc"}, true},
		{"\x04\x82\x01\x2c" + long, []string{long}, true},
		{"\x04", nil, false},
		{"\x04\x02a", nil, false},
		{"\x02\x01a", nil, false},
		{"\x04\x80a", nil, false},
		{"\x04\x85\x00\x00\x00\x00\x01a", nil, false},
		{"\x04\x82\x01", nil, false},
	} {
		got, err := setValues([]string{test.in})
		if (err == nil) != test.ok || !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %v", test.in, got, err)
		}
	}
}
