package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"appbind/secrets"
	"appbind/test/directories"
)

// TestVirtualLdapvi: what an administrator edits in ldapvi's text becomes changes
// of entries, and a paragraph that he takes out revokes.
func TestVirtualLdapvi(t *testing.T) {
	t.Parallel()
	s, a, phone, laptop := virtualSite(t, "lookup: live")
	editor := shortDir(t) + "/edit"
	write(t, editor, fmt.Sprintf(`#!/bin/sh
for file; do :; done # the last argument
sed -i -e 's/^appPasswordLabel: phone$/appPasswordLabel: desk phone/' -e '/^appPasswordService: smtp$/d' \
	-e 's/^\(appPasswordNetwork: \)192.0.2.0/\1198.51.100.0/' -e '/^[0-9]* appPasswordId=%s,/,/^$/d' "$file"
`, laptop.ID))
	if err := os.Chmod(editor, 0o700); err != nil {
		t.Fatal(err)
	}
	// It edits only with a terminal, which script gives it.
	r := command(t, "", "script", "-qec", fmt.Sprintf("EDITOR=%s ldapvi --noquestions --bind simple -h %s -D %s -w %s -b %s -s one",
		editor, a.uri(), helpdeskDN, helpdeskPW, userDN("alice")), "/dev/null")
	if r.code != 0 {
		t.Fatalf("code %d\n%s%s", r.code, r.out, r.err)
	}
	got := s.stored("alice")
	if len(got) != 1 {
		t.Fatalf("%q\n%s%s", got, r.out, r.err)
	}
	v := secrets.Parse([]byte(got[0]))
	if v.Err != nil || v.ID != phone.ID || v.Label != "desk phone" || !slices.Equal(v.Services, []string{"imap"}) || fmt.Sprint(v.Networks) != "[198.51.100.0/24]" ||
		!v.Verify([]byte(phone.Password)) {
		t.Errorf("%v: %+v", v, v.Params().Networks)
	}
}

// TestVirtualLastUse: when a device has used its app password, and from where, stands in its entry.
func TestVirtualLastUse(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone, laptop := newPassword(t, "phone"), newPassword(t, "laptop")
	s.addSecret("alice", phone.Value)
	s.addSecret("alice", laptop.Value)
	a := startAppbind(t, managing(t, s, "  - url: ldap://127.0.0.1:0\n    clients: direct\n", "lookup: live")+fmt.Sprintf("managers: [%q]\n", helpdeskDN))
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
	phoneDN, laptopDN := "appPasswordId="+phone.ID+","+userDN("alice"), "appPasswordId="+laptop.ID+","+userDN("alice")
	eventually(t, "the use shows", func() bool {
		got, r := seen(t, a.uri(), userDN("alice"), "alice-main", "-b", userDN("alice"), "-s", "one", "(appPasswordLastAddress=127.0.0.1)")
		return len(got) == 1 && got[0] == phoneDN && strings.Contains(r.out, "\nappPasswordLastUsed: 2")
	})
	for filter, want := range map[string]string{"(!(appPasswordLastUsed=*))": laptopDN, "(appPasswordLastUsed>=20260101000000Z)": phoneDN} {
		if got, r := seen(t, a.uri(), helpdeskDN, helpdeskPW, "-b", suffix, "(&(objectClass=appPasswordEntry)"+filter+")"); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q %s", filter, got, r.err)
		}
	}
}

// TestVirtualRefusals: what cannot be done with an entry is refused by words that say what to do instead.
func TestVirtualRefusals(t *testing.T) {
	t.Parallel()
	s, a, phone, laptop := virtualSite(t, "lookup: live")
	dn := "appPasswordId=" + phone.ID + "," + userDN("alice")
	for name, c := range map[string]struct {
		who, pw string
		args    []string
		code    int
		says    string
	}{
		"a new name":               {helpdeskDN, helpdeskPW, []string{"ldapmodrdn", dn, "appPasswordId=abcd"}, 53, "replace appPasswordLabel"},
		"a new name, and the old":  {helpdeskDN, helpdeskPW, []string{"ldapmodrdn", "-r", dn, "appPasswordLabel=x"}, 53, "replace appPasswordLabel"},
		"another user":             {helpdeskDN, helpdeskPW, []string{"ldapmodrdn", "-s", userDN("dave"), dn, "appPasswordId=" + phone.ID}, 53, "replace appPasswordLabel"},
		"a password":               {helpdeskDN, helpdeskPW, []string{"ldappasswd", dn}, 53, "make another one"},
		"a new name, by a user":    {userDN("dave"), "dave-main", []string{"ldapmodrdn", dn, "appPasswordId=abcd"}, 34, ""},
		"a password, by a user":    {userDN("dave"), "dave-main", []string{"ldappasswd", dn}, 21, "Invalid DN"},
		"a new name, of none":      {helpdeskDN, helpdeskPW, []string{"ldapmodrdn", "appPasswordId=zzzz," + userDN("alice"), "appPasswordId=abcd"}, 32, ""},
		"a no-op":                  {helpdeskDN, helpdeskPW, []string{"ldapdelete", "-e", "noop", dn}, 12, ""},
		"below another assertion":  {helpdeskDN, helpdeskPW, []string{"ldapdelete", "-e", "assert=(uid=nobody)", dn}, 12, ""},
		"as somebody else":         {helpdeskDN, helpdeskPW, []string{"ldapdelete", "-e", "!authzid=dn:" + userDN("bob"), dn}, 12, ""},
		"a recursive delete, none": {helpdeskDN, helpdeskPW, []string{"ldapdelete", "appPasswordId=zzzz," + userDN("alice")}, 32, ""},
	} {
		r := as(t, a.uri(), c.who, c.pw, "", c.args[0], c.args[1:]...)
		if !strings.Contains(r.out+r.err, fmt.Sprintf("(%d)", c.code)) || !strings.Contains(r.out+r.err, c.says) {
			t.Errorf("%s: code %d, want %d: %s%s", name, r.code, c.code, r.out, r.err)
		}
	}
	if got := s.stored("alice"); !slices.Equal(got, []string{phone.Value, laptop.Value}) {
		t.Errorf("%q", got)
	}
}

// byEntry makes as ldappasswd does, and changes and revokes by the entries below the user.
type byEntry struct{ throughAppbind }

func (b *byEntry) create(uid, label string) (password string, o outcome, err error) {
	o, err = b.with(func(c *ldap.Conn) error {
		r, err := c.PasswordModify(ldap.NewPasswordModifyRequest("appPasswordLabel=new "+label+","+userDN(uid), "", ""))
		if err != nil {
			return err
		}
		password = r.GeneratedPassword
		m := ldap.NewModifyRequest("appPasswordId="+password[:4]+","+userDN(uid), nil)
		m.Replace("appPasswordLabel", []string{label})
		m.Add("appPasswordService", []string{"imap"})
		return c.Modify(m)
	})
	return password, o, err
}

func (b *byEntry) revoke(uid, label string) (outcome, error) { return b.revokeEntry(uid, label) }

// byPasswordAndEntry makes as ldappasswd does, and revokes as ldapdelete.
type byPasswordAndEntry struct{ byPassword }

func (b *byPasswordAndEntry) revoke(uid, label string) (outcome, error) {
	return b.revokeEntry(uid, label)
}

// revokeEntry deletes the entry of a label.
func (p *throughAppbind) revokeEntry(uid, label string) (outcome, error) {
	return p.with(func(c *ldap.Conn) error {
		r, err := search(c, userDN(uid), "(&(objectClass=appPasswordEntry)(appPasswordLabel="+label+"))", nil)
		if err != nil {
			return err
		}
		if len(r.Entries) != 1 {
			return ldap.NewError(ldap.LDAPResultNoSuchObject, fmt.Errorf("%d entries of the label %s", len(r.Entries), label))
		}
		return c.Del(ldap.NewDelRequest(r.Entries[0].DN, nil))
	})
}

// writeEntries has writers at the same users at one time, half by entries and half by values.
func writeEntries(t *testing.T, through []throughAppbind, users []string, each int) (model []*life) {
	t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	for w := range 2 * len(through) {
		var kind writerKind = &byEntry{through[w/2]}
		if w%2 == 1 {
			kind = &byModify{through[w/2]}
		}
		group.Go(func() {
			defer kind.close()
			for i := range each {
				n := w*each + i
				e := &life{uid: users[n%len(users)], label: fmt.Sprintf("d%d", n)}
				e.live(t, kind, n)
				mu.Lock()
				model = append(model, e)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for _, e := range model {
		if e.created != done || e.revoked == maybe {
			t.Errorf("%s of %s: %d, %d", e.label, e.uid, e.created, e.revoked)
		}
	}
	return model
}

// TestEntryWriters: those who work with entries and those who work with values are
// at the same users at one time, through two instances. Nothing is lost, nothing
// comes back, and what nobody touched stays as it was.
func TestEntryWriters(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	yaml := managing(t, s, "", "max_per_user: 1000") + fmt.Sprintf("managers: [%q]\n", helpdeskDN)
	a, b := startAppbind(t, yaml), startAppbind(t, yaml)
	users := []string{"alice", "bob"}
	untouched := newPassword(t, "untouched")
	s.addSecret("alice", untouched.Value)
	model := writeEntries(t, []throughAppbind{{uri: a.uri()}, {uri: b.uri()}}, users, 12)
	if !slices.Contains(s.stored("alice"), untouched.Value) {
		t.Error("a value that nobody touched is gone")
	}
	s.removeSecret("alice", untouched.Value)
	checkModel(t, s.stored, users, model)
}

// TestVirtual389: the same with 389 Directory Server, which has no entryCSN to
// assert: made with ldappasswd, listed, changed, revoked, by who may write there and by nobody else.
func TestVirtual389(t *testing.T) {
	t.Parallel()
	d, err := directories.Start389(shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	ldif := ""
	for uid, class := range map[string]string{"alice": "", "dave": "objectClass: appPasswordAccount\n"} { // alice gets it with her first one
		ldif += fmt.Sprintf("dn: %s\nchangetype: add\nobjectClass: inetOrgPerson\n%[3]scn: %[2]s\nsn: %[2]s\nuserPassword: %[2]s-main\n\n", userDN(uid), uid, class)
	}
	if err := d.Modify(ldif); err != nil {
		t.Fatal(err)
	}
	yaml := fmt.Sprintf(`listeners: [{url: ldap://127.0.0.1:0}]
upstream: {urls: [ldap://%s], bind_dn: %q, bind_password: %s, manage_dn: %q, manage_password: %[3]s}
users: {bases: [%[5]q], filter: (objectClass=inetOrgPerson)}
passthrough: [%[4]q]
managers: [%[4]q]
state_dir: .
`, d.Address, directories.Service, directories.ServicePW, directories.Manager, people)
	a := startAppbind(t, yaml)
	managed := func(stdin, tool string, args ...string) result {
		return as(t, a.uri(), directories.Manager, directories.ServicePW, stdin, tool, args...)
	}
	made := managed("", "ldappasswd", "appPasswordLabel=phone,"+userDN("alice"))
	password := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(made.out), "New password:"))
	if made.code != 0 || len(password) != 29 {
		t.Fatalf("code %d %s%s", made.code, made.out, made.err)
	}
	expectBind(t, a.uri(), userDN("alice"), password, 0)
	dn := "appPasswordId=" + password[:4] + "," + userDN("alice")
	for name, c := range map[string]struct {
		dn, pw string
		want   []string
	}{
		"a manager":       {directories.Manager, directories.ServicePW, []string{dn}},
		"the user":        {userDN("alice"), "alice-main", []string{dn}},
		"another user":    {userDN("dave"), "dave-main", nil},
		"an app password": {userDN("alice"), password, nil},
	} {
		if got, r := seen(t, a.uri(), c.dn, c.pw, "-b", suffix, "(objectClass=appPasswordEntry)"); !slices.Equal(got, c.want) {
			t.Errorf("%s sees %q: %s", name, got, r.err)
		}
		r := command(t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", a.uri(), "-D", c.dn, "-w", c.pw, "-b", "cn=schema", "-s", "base", "objectClasses")
		if got, want := strings.Contains(r.out, "NAME 'appPasswordEntry'"), name == "a manager" || strings.HasSuffix(name, "user"); got != want {
			t.Errorf("%s sees the definitions: %v", name, got)
		}
	}
	for dn389, pw := range map[string]string{userDN("alice"): "alice-main", userDN("dave"): "dave-main"} {
		if r := as(t, a.uri(), dn389, pw, "", "ldapdelete", dn); r.code != 50 && r.code != 32 {
			t.Errorf("revoked by %s: code %d %s", dn389, r.code, r.err)
		}
		if r := as(t, a.uri(), dn389, pw, "", "ldappasswd", "appPasswordLabel=mine,"+userDN("alice")); !strings.Contains(r.out+r.err, "(50)") {
			t.Errorf("made by %s: code %d %s%s", dn389, r.code, r.out, r.err)
		}
	}
	expectBind(t, a.uri(), userDN("alice"), password, 0)
	r := managed("dn: "+dn+"\nchangetype: modify\nreplace: appPasswordLabel\nappPasswordLabel: desk\n-\nadd: appPasswordNetwork\nappPasswordNetwork: 192.0.2.0/24\n", "ldapmodify")
	if got, shown := seen(t, a.uri(), userDN("alice"), "alice-main", "-b", dn, "(&(appPasswordLabel=DESK)(appPasswordNetwork=192.0.2.0/24))"); r.code != 0 || len(got) != 1 {
		t.Errorf("code %d %s: %s%s", r.code, r.err, shown.out, shown.err)
	}
	if r := managed("", "ldapdelete", dn); r.code != 0 {
		t.Errorf("code %d %s", r.code, r.err)
	}
	expectBind(t, a.uri(), userDN("alice"), password, 49)
	canaryFree(t, a.output(), password)
	// ldapmodify demands that the user has the class, which ldappasswd adds.
	if r := managed("", "ldappasswd", "appPasswordLabel=first,"+userDN("dave")); r.code != 0 {
		t.Fatalf("code %d %s%s", r.code, r.out, r.err)
	}
	if r := managed(changeOf("dave", "delete", "appPassword", "$app$first"), "ldapmodify"); r.code != 0 {
		t.Fatalf("code %d %s", r.code, r.err)
	}
	// Many at one time, through two instances.
	b := startAppbind(t, yaml)
	model := writeEntries(t, []throughAppbind{{uri: a.uri(), dn: directories.Manager, pw: directories.ServicePW}, {uri: b.uri(), dn: directories.Manager, pw: directories.ServicePW}},
		[]string{"alice", "dave"}, 8)
	checkModel(t, func(uid string) (list []string) {
		out := must(t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", "ldap://"+d.Address, "-D", d.Root, "-w", d.RootPW, "-b", userDN(uid), "-s", "base", "appPassword")
		for line := range strings.Lines(out) {
			if value, ok := strings.CutPrefix(line, "appPassword: "); ok {
				list = append(list, strings.TrimSpace(value))
			}
		}
		return list
	}, []string{"alice", "dave"}, model)
}
