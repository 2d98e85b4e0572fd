package integration

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// seen are the DNs that ldapsearch shows to somebody.
func seen(t testing.TB, uri, dn, password string, args ...string) ([]string, result) {
	t.Helper()
	r := command(t, "", "ldapsearch", append([]string{"-x", "-LLL", "-o", "ldif-wrap=no", "-H", uri, "-D", dn, "-w", password}, args...)...)
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^dn: (.*)$`).FindAllStringSubmatch(r.out, -1) {
		list = append(list, m[1])
	}
	return list, r
}

// virtualSite is a directory with app passwords and an appbind before it. Managers are the helpdesk, and bob by his group.
func virtualSite(t *testing.T, app string) (s *slapd, a *appbind, phone, laptop appPassword) {
	t.Helper()
	unit := "ou=unit," + people
	s = startSlapd(t, slapdOptions{LDIF: "dn: " + unit + "\nobjectClass: organizationalUnit\nou: unit\n\n" +
		"dn: uid=erin," + unit + "\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: erin\ncn: Erin\nsn: Erin\nappPassword: $app$x;id=e4n5${SSHA256}AAAA\n\n" +
		"dn: cn=desk,ou=groups," + suffix + "\nobjectClass: groupOfNames\ncn: desk\nmember: " + userDN("bob") + "\n\n"})
	phone, laptop = newPassword(t, "phone", "--service", "imap,smtp", "--net", "192.0.2.0/24"), newPassword(t, "laptop")
	s.addSecret("alice", phone.Value)
	s.addSecret("alice", laptop.Value)
	s.addSecret("carol", newPassword(t, "old").Value) // disabled
	s.addSecret("dave", "$app$by hand${SSHA256}AAAA")
	a = startAppbind(t, managing(t, s, "", app)+fmt.Sprintf("managers: [%q, %q]\n", helpdeskDN, "cn=desk,ou=groups,"+suffix))
	return s, a, phone, laptop
}

// TestVirtualEntriesAreSeen by who may, with the tools that people have, and by nobody else.
func TestVirtualEntriesAreSeen(t *testing.T) {
	t.Parallel()
	s, a, phone, laptop := virtualSite(t, "lookup: live")
	phoneDN, laptopDN := "appPasswordId="+phone.ID+","+userDN("alice"), "appPasswordId="+laptop.ID+","+userDN("alice")
	both := []string{phoneDN, laptopDN}
	slices.Sort(both)
	const class = "(objectClass=appPasswordEntry)"
	for name, c := range map[string]struct {
		dn, pw string
		args   []string
		want   []string
	}{
		"the user, one":                {userDN("alice"), "alice-main", []string{"-b", userDN("alice"), "-s", "one"}, both},
		"the user, sub":                {userDN("alice"), "alice-main", []string{"-b", userDN("alice"), "-s", "sub"}, append([]string{userDN("alice")}, both...)},
		"the user, base":               {userDN("alice"), "alice-main", []string{"-b", userDN("alice"), "-s", "base"}, []string{userDN("alice")}},
		"the user, by the class":       {userDN("alice"), "alice-main", []string{"-b", suffix, class}, both},
		"the user, an entry":           {userDN("alice"), "alice-main", []string{"-b", phoneDN, "-s", "base"}, []string{phoneDN}},
		"the user, in another case":    {userDN("alice"), "alice-main", []string{"-b", strings.ToUpper(phoneDN)}, []string{phoneDN}},
		"the user, below an entry":     {userDN("alice"), "alice-main", []string{"-b", phoneDN, "-s", "one"}, nil},
		"the user, a label":            {userDN("alice"), "alice-main", []string{"-b", userDN("alice"), "(appPasswordLabel=PHO*)"}, []string{phoneDN}},
		"the user, without a filter":   {userDN("alice"), "alice-main", []string{"-b", people, "-s", "sub", "(uid=alice)"}, []string{userDN("alice")}},
		"another user's":               {userDN("dave"), "dave-main", []string{"-b", userDN("alice"), "-s", "one"}, nil},
		"another user's, by the class": {userDN("dave"), "dave-main", []string{"-b", suffix, "(&" + class + "(appPasswordLabel=phone))"}, nil},
		"another user's, an entry":     {userDN("dave"), "dave-main", []string{"-b", phoneDN}, nil},
		"an app password":              {userDN("alice"), laptop.Password, []string{"-b", userDN("alice"), "-s", "one"}, nil},
		"an app password, the class":   {userDN("alice"), laptop.Password, []string{"-b", suffix, class}, nil},
		"an app password, an entry":    {userDN("alice"), laptop.Password, []string{"-b", phoneDN}, nil},
		"a mail server":                {mailDN, mailPW, []string{"-b", suffix, class}, nil},
		"a mail server, one":           {mailDN, mailPW, []string{"-b", userDN("alice"), "-s", "one"}, nil},
		"a manager, one":               {helpdeskDN, helpdeskPW, []string{"-b", userDN("alice"), "-s", "one"}, both},
		"a manager, phones":            {helpdeskDN, helpdeskPW, []string{"-b", people, "(&" + class + "(appPasswordService=IMAP))"}, []string{phoneDN}},
		"a manager, in another unit":   {helpdeskDN, helpdeskPW, []string{"-b", "ou=unit," + people, class}, []string{"appPasswordId=e4n5,uid=erin,ou=unit," + people}},
		"a manager, elsewhere":         {helpdeskDN, helpdeskPW, []string{"-b", "ou=groups," + suffix, class}, nil},
		"a manager by group":           {userDN("bob"), "bob-main", []string{"-b", userDN("alice"), "-s", "one"}, both},
		"a manager, other searches":    {helpdeskDN, helpdeskPW, []string{"-b", people, "(uid=alice)"}, []string{userDN("alice")}},
		"with a sort":                  {helpdeskDN, helpdeskPW, []string{"-E", "sss=cn", "-b", userDN("alice"), "-s", "one"}, nil},
	} {
		got, r := seen(t, a.uri(), c.dn, c.pw, c.args...)
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q (%d %s)", name, got, want, r.code, r.err)
		}
		canaryFree(t, r.out, phone.Value, laptop.Value, "SSHA256", "{SSHA")
		if c.want != nil || strings.Contains(name, "a manager") {
			continue
		}
		// Who sees none is answered as by the directory itself.
		if direct, d := seen(t, s.uri(), c.dn, strings.Replace(c.pw, laptop.Password, "alice-main", 1), c.args...); !strings.Contains(name, "app password") &&
			!strings.Contains(name, "below") && (!slices.Equal(got, direct) || r.code != d.code) {
			t.Errorf("%s: %d, the directory says %d", name, r.code, d.code)
		}
	}
	_, r := seen(t, a.uri(), userDN("alice"), "alice-main", "-b", phoneDN)
	for _, line := range []string{"objectClass: appPasswordEntry", "appPasswordId: " + phone.ID, "appPasswordLabel: phone", "appPasswordService: imap", "appPasswordService: smtp",
		"appPasswordNetwork: 192.0.2.0/24"} {
		if !strings.Contains(r.out, line+"\n") {
			t.Errorf("no %q in\n%s", line, r.out)
		}
	}
	if got, r := seen(t, a.uri(), userDN("alice"), "alice-main", "-b", "appPasswordId=none,"+userDN("alice")); r.code != 32 || got != nil || !strings.Contains(r.out+r.err, userDN("alice")) {
		t.Errorf("an entry that is not: %d %q %s", r.code, got, r.err)
	}
	// The schema says what they are made of, to who may see some.
	for dn, pw := range map[string]string{userDN("alice"): "alice-main", helpdeskDN: helpdeskPW, mailDN: mailPW} {
		r := command(t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", a.uri(), "-D", dn, "-w", pw, "-b", "cn=Subschema", "-s", "base", "attributeTypes", "objectClasses")
		if got, want := strings.Contains(r.out, "NAME 'appPasswordEntry'") && strings.Contains(r.out, "NAME 'appPasswordExpires'"), dn != mailDN; got != want || r.code != 0 {
			t.Errorf("%s sees the definitions: %v", dn, got)
		}
	}
}

// TestVirtualLimits: pages and limits count what is virtual too.
func TestVirtualLimits(t *testing.T) {
	t.Parallel()
	s, a, _, _ := virtualSite(t, "max_per_user: 100")
	for i := range 30 {
		s.addSecret("alice", newPassword(t, fmt.Sprintf("device %02d", i)).Value)
	}
	for name, c := range map[string]struct {
		base, filter string
		want         int
	}{
		"below a user":    {userDN("alice"), "(objectClass=*)", 33},
		"the class":       {people, "(objectClass=appPasswordEntry)", 35},
		"both":            {people, "(|(objectClass=appPasswordEntry)(objectClass=inetOrgPerson))", 40},
		"none of the two": {people, "(&(objectClass=appPasswordEntry)(uid=alice))", 0},
	} {
		for _, size := range []int{1, 2, 3, 7, 31, 32, 33, 34, 500} {
			got, r := seen(t, a.uri(), helpdeskDN, helpdeskPW, "-E", fmt.Sprintf("pr=%d/noprompt", size), "-b", c.base, c.filter, "1.1")
			unique := slices.Compact(slices.Sorted(slices.Values(got)))
			if r.code != 0 || len(got) != c.want || len(unique) != c.want {
				t.Errorf("%s, pages of %d: code %d, %d entries, %d different, want %d: %s", name, size, r.code, len(got), len(unique), c.want, r.err)
			}
		}
		for _, limit := range []int{1, 5, 33, 40} {
			got, r := seen(t, a.uri(), helpdeskDN, helpdeskPW, "-z", fmt.Sprint(limit), "-b", c.base, c.filter, "1.1")
			wantCode := 0
			if limit < c.want {
				wantCode = 4
			}
			if r.code != wantCode || len(got) != min(limit, c.want) {
				t.Errorf("%s, limit %d: code %d, %d entries of %d", name, limit, r.code, len(got), c.want)
			}
		}
	}
}

// TestVirtualChanges: ldapdelete revokes and ldapmodify changes, each by exact values, as far as the directory lets who asks.
func TestVirtualChanges(t *testing.T) {
	t.Parallel()
	s, a, phone, laptop := virtualSite(t, "lookup: live")
	dnOf := func(p appPassword) string { return "appPasswordId=" + p.ID + "," + userDN("alice") }
	modify := func(dn, pw, ldif string) result {
		return as(t, a.uri(), dn, pw, "dn: "+dnOf(phone)+"\nchangetype: modify\n"+ldif, "ldapmodify")
	}
	for name, c := range map[string]struct {
		ldif, says string
		code       int
	}{
		"a label in use":     {"replace: appPasswordLabel\nappPasswordLabel: LAPTOP\n", "in use", 19},
		"no label":           {"delete: appPasswordLabel\n", "needs a label", 19},
		"two labels":         {"add: appPasswordLabel\nappPasswordLabel: x\n", "one value", 19},
		"an expiry for ever": {"delete: appPasswordExpires\n", "must expire", 19},
		"no time":            {"replace: appPasswordExpires\nappPasswordExpires: tomorrow\n", "such as 2027", 21},
		"a late expiry":      {"replace: appPasswordExpires\nappPasswordExpires: 20990101000000Z\n", "at most", 19},
		"no network":         {"add: appPasswordNetwork\nappPasswordNetwork: here\n", "192.0.2.0/24", 21},
		"a service twice":    {"add: appPasswordService\nappPasswordService: IMAP\n", "already", 20},
		"a service not had":  {"delete: appPasswordService\nappPasswordService: pop3\n", "no such value", 16},
		"the id":             {"replace: appPasswordId\nappPasswordId: abcd\n", "cannot be changed", 67},
		"the class":          {"add: objectClass\nobjectClass: person\n", "cannot be changed", 69},
		"the creation":       {"replace: appPasswordCreated\nappPasswordCreated: 20200101000000Z\n", "cannot be changed", 19},
		"the secret":         {"replace: description\ndescription: x\n", "no such attribute", 17},
		"all or none":        {"replace: appPasswordLabel\nappPasswordLabel: new\n-\nreplace: appPasswordExpires\nappPasswordExpires: x\n", "", 21},
	} {
		if r := modify(helpdeskDN, helpdeskPW, c.ldif); r.code != c.code || !strings.Contains(r.err, c.says) {
			t.Errorf("%s: code %d, %s", name, r.code, r.err)
		}
	}
	if got := s.stored("alice"); !slices.Equal(got, []string{phone.Value, laptop.Value}) {
		t.Fatalf("after the refusals: %q", got)
	}
	// The directory does not let the user write, nor bob, who may see them.
	for dn, pw := range map[string]string{userDN("alice"): "alice-main", userDN("bob"): "bob-main"} {
		if r := modify(dn, pw, "replace: appPasswordLabel\nappPasswordLabel: mine\n"); r.code != 50 {
			t.Errorf("modified by %s: code %d %s", dn, r.code, r.err)
		}
		if r := as(t, a.uri(), dn, pw, "", "ldapdelete", dnOf(phone)); r.code != 50 {
			t.Errorf("deleted by %s: code %d %s", dn, r.code, r.err)
		}
	}
	// For who sees none there is nothing.
	for dn, pw := range map[string]string{userDN("dave"): "dave-main", mailDN: mailPW} {
		if r := as(t, a.uri(), dn, pw, "", "ldapdelete", dnOf(phone)); r.code != 34 { // slapd knows no such type
			t.Errorf("deleted by %s: code %d %s", dn, r.code, r.err)
		}
	}
	if r := as(t, a.uri(), userDN("alice"), laptop.Password, "", "ldapdelete", dnOf(phone)); r.code != 50 {
		t.Errorf("deleted in the session of an app password: code %d %s", r.code, r.err)
	}
	if got := s.stored("alice"); !slices.Equal(got, []string{phone.Value, laptop.Value}) {
		t.Fatalf("after the attempts: %q", got)
	}
	r := modify(helpdeskDN, helpdeskPW, "delete: appPasswordLabel\nappPasswordLabel: phone\n-\nadd: appPasswordLabel\nappPasswordLabel: Desk; 2\n-\n"+
		"delete: appPasswordNetwork\n-\nadd: appPasswordNetwork\nappPasswordNetwork: 198.51.100.7\n-\ndelete: appPasswordService\nappPasswordService: smtp\n")
	if got := s.stored("alice"); r.code != 0 || len(got) != 2 || !slices.Contains(got, laptop.Value) {
		t.Fatalf("code %d %s: %q", r.code, r.err, got)
	}
	_, r = seen(t, a.uri(), userDN("alice"), "alice-main", "-b", dnOf(phone))
	if !strings.Contains(r.out, "appPasswordNetwork: 198.51.100.7/32\n") || strings.Contains(r.out, "smtp") || !strings.Contains(r.out, "appPasswordLabel: Desk; 2\n") {
		t.Errorf("%s", r.out)
	}
	for tool, ldif := range map[string]string{
		"ldapadd":    "dn: appPasswordId=abcd," + userDN("alice") + "\nobjectClass: appPasswordEntry\nappPasswordId: abcd\n",
		"ldapmodify": "dn: " + dnOf(phone) + "\nchangetype: modrdn\nnewrdn: appPasswordId=abcd\ndeleteoldrdn: 1\n",
	} {
		if r := as(t, a.uri(), helpdeskDN, helpdeskPW, ldif, tool); r.code != 53 {
			t.Errorf("%s: code %d %s", tool, r.code, r.err)
		}
	}
	for value, code := range map[string]int{"LAPTOP": 6, "phone": 5} {
		if r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldapcompare", dnOf(laptop), "appPasswordLabel:"+value); r.code != code {
			t.Errorf("compare with %s: code %d %s", value, r.code, r.err)
		}
	}
	// Revoked is revoked at once, and once.
	expectBind(t, a.uri(), userDN("alice"), laptop.Password, 0)
	if r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldapdelete", dnOf(laptop)); r.code != 0 {
		t.Errorf("code %d %s", r.code, r.err)
	}
	expectBind(t, a.uri(), userDN("alice"), laptop.Password, 49)
	if r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldapdelete", dnOf(laptop)); r.code != 32 {
		t.Errorf("once more: code %d %s", r.code, r.err)
	}
	if got := s.stored("alice"); len(got) != 1 {
		t.Errorf("%q", got)
	}
	// Two values of one NAME are one entry, which goes with both.
	s.addSecret("dave", "$app$by hand${SSHA256}BBBB")
	entries, _ := seen(t, a.uri(), helpdeskDN, helpdeskPW, "-b", userDN("dave"), "-s", "one")
	if len(entries) != 1 {
		t.Fatalf("%q", entries)
	}
	ldif := "dn: " + entries[0] + "\nchangetype: modify\nreplace: appPasswordLabel\nappPasswordLabel: x\n"
	if r := as(t, a.uri(), helpdeskDN, helpdeskPW, ldif, "ldapmodify"); r.code != 19 || !strings.Contains(r.err, "more than one") {
		t.Errorf("code %d %s", r.code, r.err)
	}
	if r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldapdelete", entries[0]); r.code != 0 || len(s.stored("dave")) != 0 {
		t.Errorf("code %d %s: %q", r.code, r.err, s.stored("dave"))
	}
	canaryFree(t, a.output(), phone.Password, laptop.Password, phone.Value, laptop.Value)
}

// TestVirtualSelfService: where it is allowed users revoke their own, and nobody else's.
func TestVirtualSelfService(t *testing.T) {
	t.Parallel()
	s, a, phone, laptop := virtualSite(t, "self_service_ldap: allow")
	dn := "appPasswordId=" + phone.ID + "," + userDN("alice")
	if r := as(t, a.uri(), userDN("dave"), "dave-main", "", "ldapdelete", dn); r.code != 34 {
		t.Errorf("by another user: code %d %s", r.code, r.err)
	}
	if r := as(t, a.uri(), userDN("bob"), "bob-main", "", "ldapdelete", dn); r.code != 50 {
		t.Errorf("by a manager without the right: code %d %s", r.code, r.err)
	}
	if r := as(t, a.uri(), userDN("alice"), laptop.Password, "", "ldapdelete", dn); r.code != 50 {
		t.Errorf("in the session of an app password: code %d %s", r.code, r.err)
	}
	if r := as(t, a.uri(), userDN("alice"), "alice-main", "", "ldapdelete", dn); r.code != 0 {
		t.Errorf("by the user: code %d %s", r.code, r.err)
	}
	if got := s.stored("alice"); !slices.Equal(got, []string{laptop.Value}) {
		t.Errorf("%q", got)
	}
	for password, want := range map[string]int{phone.Password: 49, laptop.Password: 0} {
		if r := as(t, a.uri(), userDN("alice"), password, "", "ldapwhoami"); r.code != want {
			t.Errorf("a bind after the phone was revoked: code %d %s, want %d", r.code, r.err, want)
		}
	}
}

// TestVirtualControls: what asks for another identity, or is critical and not known, is not answered here.
func TestVirtualControls(t *testing.T) {
	t.Parallel()
	s, a, phone, _ := virtualSite(t, "lookup: live")
	dn := "appPasswordId=" + phone.ID + "," + userDN("alice")
	c := bound(t, a.uri(), helpdeskDN, helpdeskPW)
	for oid, code := range map[string]int{"2.16.840.1.113730.3.4.18": 12, "1.2.3.4": 12} {
		err := c.Del(ldap.NewDelRequest(dn, []ldap.Control{ldap.NewControlString(oid, true, "dn:")}))
		if codeOf(err) != code {
			t.Errorf("a delete with %s: %v", oid, err)
		}
		if r, err := search(c, userDN("alice"), "(objectClass=appPasswordEntry)", nil, ldap.NewControlString(oid, true, "dn:")); err == nil && len(r.Entries) > 0 {
			t.Errorf("a search with %s shows %d entries", oid, len(r.Entries))
		}
	}
	if got := s.stored("alice"); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// TestVirtualPython: python-ldap, which many portals are made with, lists, changes and revokes.
func TestVirtualPython(t *testing.T) {
	t.Parallel()
	s, a, phone, laptop := virtualSite(t, "lookup: live")
	script, err := os.ReadFile("testdata/virtual.py")
	if err != nil {
		t.Fatal(err)
	}
	r := command(t, string(script), "/usr/bin/python3", "-", a.uri(), helpdeskDN, helpdeskPW, userDN("alice"), phone.ID, laptop.ID)
	if r.code != 0 {
		t.Fatalf("code %d\n%s%s", r.code, r.out, r.err)
	}
	if got := s.stored("alice"); len(got) != 1 || !strings.HasPrefix(got[0], "$app$tablet;id="+phone.ID) {
		t.Errorf("%q", got)
	}
}
