package embedded

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func names(entries []*ldap.Entry) string {
	var out []string
	for _, e := range entries {
		first, _, _ := strings.Cut(e.DN, ",")
		out = append(out, first)
	}
	return strings.Join(out, " ")
}

func TestFilters(t *testing.T) {
	t.Parallel()
	c := demo(t).admin(t)
	const people = "uid=alice uid=bob uid=carol"
	for filter, want := range map[string]string{
		"(uid=alice)":                       "uid=alice",
		"(UID=ALICE)":                       "uid=alice",
		"(userid=alice)":                    "uid=alice",
		"(0.9.2342.19200300.100.1.1=alice)": "uid=alice",
		"(cn=alice   archer)":               "uid=alice",
		"(cn~=Bob Baker)":                   "uid=bob",
		"(uid=*)":                           people,
		"(uid=a*)":                          "uid=alice",
		"(uid=*o*)":                         "uid=bob uid=carol",
		"(mail=*l*@example.org)":            "uid=alice uid=carol",
		"(mail=*ol@example.org)":            "uid=carol",
		"(cn=a*ce*ar*er)":                   "uid=alice",
		"(cn=*er*er*)":                      "",
		"(cn=a*alice archer)":               "",
		"(uidNumber>=5002)":                 "uid=bob uid=carol",
		"(uidNumber<=5002)":                 "uid=alice uid=bob",
		"(uidNumber>=999)":                  people,
		"(&(uid=*)(!(uid=bob)))":            "uid=alice uid=carol",
		"(|(uid=bob)(uid=alice))":           "uid=alice uid=bob",
		"(!(uid=*))":                        "ou=people",
		"(&)":                               "ou=people " + people,
		"(|)":                               "",
		"(homeDirectory=/var/mail/bob)":     "uid=bob",
		"(homeDirectory=/VAR/mail/bob)":     "",
		"(entryDN=UID=bob, ou=people,dc=example,dc=org)": "uid=bob",
		"(hasSubordinates=TRUE)":                         "ou=people",
		"(createTimestamp=20260701120000Z)":              "ou=people " + people,
		"(modifyTimestamp>=20260701120001Z)":             "",
		"(nosuch=x)":                                     "",
		"(!(nosuch=x))":                                  "ou=people " + people,
		`(uid=\61lice)`:                                  "uid=alice",
		`(cn=\2a)`:                                       "",
		"(objectClass=appPasswordAccount)":               people,
		"(&(objectClass=posixAccount)(appPassword=*))":   "uid=alice uid=bob",
	} {
		if got := names(search(t, c, peopleDN, ldap.ScopeWholeSubtree, filter, "1.1")); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
	for _, filter := range []string{"(uid:caseExactMatch:=alice)", "(uid:=alice)", "(&(uid=*)(ou:dn:=people))",
		"(userAccountControl:1.2.840.113556.1.4.803:=2)"} {
		_, err := c.Search(ldap.NewSearchRequest(peopleDN, 2, 0, 0, 0, false, filter, nil, nil))
		if codeOf(err) != 53 {
			t.Errorf("%s: %v, want 53", filter, err)
		}
	}
	one(t, c, aliceDN) // the connection lives on
}

func TestScopes(t *testing.T) {
	t.Parallel()
	c := demo(t).as(t, aliceDN, DemoMain)
	for _, test := range []struct {
		base  string
		scope int
		want  string
	}{
		{"DC=Example,dc=org", ldap.ScopeBaseObject, "dc=example"},
		{suffixDN, ldap.ScopeSingleLevel, "cn=admin ou=services ou=people"},
		{"ou=services," + suffixDN, ldap.ScopeWholeSubtree, "ou=services cn=appbind cn=dovecot"},
		{"ou=services," + suffixDN, ldap.ScopeChildren, "cn=appbind cn=dovecot"},
		{aliceDN, ldap.ScopeSingleLevel, ""},
		{aliceDN, ldap.ScopeWholeSubtree, "uid=alice"},
		{suffixDN, ldap.ScopeWholeSubtree, "dc=example cn=admin ou=services cn=appbind cn=dovecot ou=people uid=alice uid=bob uid=carol"},
	} {
		if got := names(search(t, c, test.base, test.scope, "(objectClass=*)")); got != test.want {
			t.Errorf("%s scope %d: %q, want %q", test.base, test.scope, got, test.want)
		}
	}
	for _, test := range []struct {
		base  string
		scope int
		code  int
	}{
		{"uid=none," + peopleDN, ldap.ScopeBaseObject, 32}, {"", ldap.ScopeWholeSubtree, 32},
		{"cn=Subschema", ldap.ScopeWholeSubtree, 32}, {"x", ldap.ScopeBaseObject, 34}, {suffixDN, 4, 2},
	} {
		_, err := c.Search(ldap.NewSearchRequest(test.base, test.scope, 0, 0, 0, false, "(objectClass=*)", nil, nil))
		if codeOf(err) != test.code {
			t.Errorf("%q scope %d: %v, want %d", test.base, test.scope, err, test.code)
		}
	}
	_, err := c.Search(ldap.NewSearchRequest("cn=x,uid=none,"+peopleDN, 0, 0, 0, 0, false, "(objectClass=*)", nil, nil))
	if e, ok := err.(*ldap.Error); !ok || e.MatchedDN != peopleDN {
		t.Errorf("matched DN: %+v", err)
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	c := demo(t).as(t, bobDN, "bobpw")
	const users = "objectClass uid cn sn mail uidNumber gidNumber homeDirectory"
	const operational = "entryUUID createTimestamp modifyTimestamp entryCSN entryDN subschemaSubentry hasSubordinates"
	for asked, want := range map[string]string{
		"":                 users,
		"*":                users,
		"+":                operational,
		"* +":              users + " " + operational,
		"1.1":              "",
		"1.1 uid":          "uid",
		"MAIL 2.5.4.3":     "cn mail",
		"surname nosuch":   "sn",
		"mail entryuuid":   "mail entryUUID",
		"* entryUUID":      users + " entryUUID",
		"mail mail uid":    "uid mail",
		"appPassword mail": "mail",
	} {
		e := one(t, c, aliceDN, strings.Fields(asked)...)
		var got []string
		for _, a := range e.Attributes {
			got = append(got, a.Name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", asked, strings.Join(got, " "), want)
		}
	}
	r, err := c.Search(ldap.NewSearchRequest(aliceDN, 0, 0, 0, 0, true, "(uid=*)", []string{"mail", "cn", "userPassword"}, nil))
	if err != nil || len(r.Entries) != 1 || len(r.Entries[0].Attributes) != 2 || len(r.Entries[0].Attributes[0].Values) != 0 {
		t.Errorf("types only: %v, %v", r, err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	f := run(t, cheap(string(DemoLDIF))+"description;lang-de: Deutsch\ndescription;lang-en;x-a: English\ndescription: plain\n")
	c := f.admin(t)
	for asked, want := range map[string]int{
		"description": 3, "description;lang-de": 1, "DESCRIPTION;Lang-EN": 1, "description;x-a;lang-en": 1, "description;lang-fr": 0,
	} {
		if got := len(one(t, c, carolDN, asked).Attributes); got != want {
			t.Errorf("%s: %d attributes, want %d", asked, got, want)
		}
		if got := len(search(t, c, carolDN, 0, "("+asked+"=*)")); got != min(want, 1) {
			t.Errorf("(%s=*): %d entries, want %d", asked, got, min(want, 1))
		}
	}
}

func TestSizeLimit(t *testing.T) {
	t.Parallel()
	c := demo(t).as(t, aliceDN, DemoMain)
	for limit, want := range map[int]int{1: 4, 2: 4, 3: 0, 4: 0} {
		r, err := c.Search(ldap.NewSearchRequest(suffixDN, 2, 0, limit, 0, false, "(uid=*)", nil, nil))
		if codeOf(err) != want || len(r.Entries) != min(limit, 3) {
			t.Errorf("limit %d: %v, want %d", limit, err, want)
		}
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	f := demo(t)
	c := f.as(t, aliceDN, DemoMain)
	for _, size := range []uint32{1, 2, 3, 8, 9, 10, 1000} {
		r, err := c.SearchWithPaging(ldap.NewSearchRequest(suffixDN, 2, 0, 0, 0, false, "(objectClass=*)", []string{"1.1"}, nil), size)
		if err != nil || len(r.Entries) != 9 {
			t.Errorf("pages of %d: %d entries, %v", size, len(r.Entries), err)
		}
	}
	// Entries that come and go between two pages do not move the others.
	page := ldap.NewControlPaging(3)
	r := ldap.NewSearchRequest(suffixDN, 2, 0, 0, 0, false, "(objectClass=*)", []string{"1.1"}, []ldap.Control{page})
	first, err := c.Search(r)
	if err != nil || names(first.Entries) != "dc=example cn=admin ou=services" {
		t.Fatalf("first page: %v, %v", names(first.Entries), err)
	}
	admin := f.admin(t)
	create(t, admin, "cn=late,"+suffixDN, "late")
	for _, dn := range []string{carolDN, dovecotDN} {
		if err := admin.Del(ldap.NewDelRequest(dn, nil)); err != nil {
			t.Fatal(err)
		}
	}
	page.SetCookie(ldap.FindControl(first.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging).Cookie)
	page.PagingSize = 100
	second, err := c.Search(r)
	if err != nil || names(second.Entries) != "cn=appbind ou=people uid=alice uid=bob cn=late" {
		t.Errorf("second page: %v, %v", names(second.Entries), err)
	}
	page.SetCookie([]byte("not ours"))
	if _, err := c.Search(r); codeOf(err) != 53 {
		t.Errorf("foreign cookie: %v, want 53", err)
	}
}

func TestRootDSEAndSubschema(t *testing.T) {
	t.Parallel()
	c := demo(t).connect(t)
	root := one(t, c, "", "+")
	for name, want := range map[string]string{
		"namingContexts": suffixDN, "subschemaSubentry": "cn=Subschema", "supportedLDAPVersion": "3", "vendorName": "appbind",
		"supportedControl": ldap.ControlTypePaging,
	} {
		if got := root.GetAttributeValue(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	s := one(t, c, "cn=subschema", "attributeTypes", "objectClasses")
	types := strings.Join(s.GetAttributeValues("attributeTypes"), "\n")
	for _, want := range []string{
		"( " + appPasswordOID + " NAME 'appPassword' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )",
		"( 2.5.4.3 NAME ( 'cn' 'commonName' ) EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )",
		"NAME 'entryUUID' EQUALITY UUIDMatch SYNTAX 1.3.6.1.1.16.1 SINGLE-VALUE NO-USER-MODIFICATION USAGE directoryOperation )",
	} {
		if !strings.Contains(types, want) {
			t.Errorf("attributeTypes lacks %s", want)
		}
	}
	if !strings.Contains(strings.Join(s.GetAttributeValues("objectClasses"), "\n"), appPasswordClassOID) {
		t.Error("objectClasses lacks the class")
	}
	if got := search(t, c, "", 0, "(objectClass=nosuch)"); len(got) != 0 {
		t.Error("the filter does not count at the root DSE")
	}
}

// The attribute and its class are those of contrib/schema.
func TestSchemaIsContribs(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../contrib/schema/openldap/appbind.schema")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(data)), " ")
	for _, want := range []string{
		"attributetype ( " + appPasswordOID + " NAME 'appPassword'",
		"EQUALITY " + typeOf(keyAppPassword).rule + " SYNTAX " + typeOf(keyAppPassword).syntax + " )",
		"objectclass ( " + appPasswordClassOID + " NAME 'appPasswordAccount'",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("contrib/schema/openldap/appbind.schema lacks %q", want)
		}
	}
}

// Names and OIDs of the table must be unlike each other.
func TestSchemaTable(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, at := range attributeTypes {
		for _, name := range append(slices.Clone(at.names), at.oid) {
			name = strings.ToLower(name)
			if seen[name] {
				t.Errorf("%s stands twice", name)
			}
			seen[name] = true
			if !validDescription(name) {
				t.Errorf("%q is no attribute description", name)
			}
		}
	}
}

func TestValidDescription(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"cn": true, "2.5.4.3": true, "cn;lang-de": true, "x-9": true, "userCertificate;binary;x-a": true,
		"": false, ";x": false, "cn;": false, "cn;;x": false, "9a": false, "-a": false, "a_b": false, "a b": false,
		"1..2": false, "1.2.": false, "é": false, "cn=": false,
	} {
		if got := validDescription(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// A thousand entries: results keep the order of the file.
func TestOrder(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(cheap(string(DemoLDIF)) + "\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "dn: uid=u%d,dc=example,dc=org\nobjectClass: account\nuid: u%[1]d\n\n", (i*37)%1000)
	}
	c := run(t, b.String()).admin(t)
	for i, e := range search(t, c, suffixDN, 2, "(uid=u*)", "uid") {
		if want := fmt.Sprintf("u%d", (i*37)%1000); e.GetAttributeValue("uid") != want {
			t.Fatalf("entry %d is %s, want %s", i, e.DN, want)
		}
	}
}
