package integration

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// TestExternal: appbind runs as root and the upstream maps root's socket to
// its administrator; a client's SASL EXTERNAL must never get there.
func TestExternal(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	if out := must(t, "", "ldapwhoami", "-Y", "EXTERNAL", "-Q", "-H", s.ldapi()); !strings.Contains(out, adminDN) {
		t.Fatalf("the upstream does not map root to its administrator: %s", out)
	}
	socket := "ldapi://" + url.PathEscape(shortDir(t)+"/appbind.sock")
	config := strings.Replace(baseConfig(s, "  - url: "+socket+"\n  - url: ldap://127.0.0.1:0\n", ""), s.uri(), s.ldapi(), 1)
	a := startAppbind(t, config)
	for _, uri := range a.urls {
		for _, mechanism := range []string{"EXTERNAL", "DIGEST-MD5", "GSSAPI", "PLAIN"} {
			want := 7
			if mechanism == "EXTERNAL" {
				want = 49
			}
			if got, who := saslBind(t, uri, mechanism); got != want || who != "" {
				t.Errorf("%s: SASL %s: code %d, want %d; the client is %q", uri, mechanism, got, want, who)
			}
		}
	}

	// Mapped to a listed service account, it is that account.
	password := shortDir(t) + "/password"
	write(t, password, mailPW+"\n")
	mapped := startAppbind(t, strings.Replace(config, socket, "ldapi://"+url.PathEscape(shortDir(t)+"/a.sock"), 1)+
		fmt.Sprintf("external:\n  - uid: 0\n    dn: %s\n    password_file: %s\n", mailDN, password))
	out := must(t, "", "ldapwhoami", "-Y", "EXTERNAL", "-Q", "-H", mapped.urls[0])
	if strings.TrimSpace(out) != "dn:"+mailDN {
		t.Errorf("EXTERNAL of uid 0 is %q, want %s", out, mailDN)
	}
	out = must(t, "", "ldapsearch", "-Y", "EXTERNAL", "-Q", "-LLL", "-H", mapped.urls[0], "-b", people, "(uid=alice)", "mail")
	if !strings.Contains(out, "alice@example.org") {
		t.Errorf("a search after EXTERNAL finds\n%s", out)
	}
	out = must(t, "", "ldapsearch", "-x", "-LLL", "-H", mapped.urls[0], "-s", "base", "-b", "", "supportedSASLMechanisms")
	if !strings.Contains(out, "supportedSASLMechanisms: EXTERNAL") || strings.Contains(out, "DIGEST") {
		t.Errorf("root DSE:\n%s", out)
	}
}

// TestSecretsHidden: neither a result nor an oracle shows the secrets attribute.
func TestSecretsHidden(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{AccessLog: true})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	c := bound(t, a.uri(), adminDN, adminPW) // the rootdn sees everything at the upstream
	direct := bound(t, s.uri(), adminDN, adminPW)
	oid := attributeOID(t, direct)

	for _, filter := range []string{
		"(appPassword=*)", "(APPPASSWORD=$app$*)", "(" + oid + "=*)", "(appPassword;x-a=*)", "(" + oid + ";lang-de=*)",
		"(!(appPassword=*))", "(&(uid=alice)(appPassword=$app$phone*))", "(appPassword>=$)", "(appPassword~=x)",
		"(:octetStringMatch:=" + phone.Value + ")", "(:dn:octetStringMatch:=x)", "(appPassword:octetStringMatch:=x)", "(" + oid + ":dn:=x)",
	} {
		_, err := search(c, suffix, filter, nil)
		if got := code(t, err); got != 50 {
			t.Errorf("filter %s: code %d, want 50", filter, got)
		}
	}
	for _, attribute := range []string{"appPassword", "APPpassword", oid, "appPassword;x-a"} {
		_, err := c.Compare(userDN("alice"), attribute, phone.Value)
		if got := code(t, err); got != 50 {
			t.Errorf("compare on %s: code %d, want 50", attribute, got)
		}
		result, err := search(c, suffix, "(uid=alice)", []string{attribute, "uid"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range result.Entries {
			for _, at := range e.Attributes {
				if at.Name != "uid" {
					t.Errorf("asked for %s: %s comes back", attribute, at.Name)
				}
			}
		}
	}
	for name, control := range map[string]ldap.Control{
		"assertion":      ldap.NewControlString("1.3.6.1.1.12", true, presentFilter("appPassword")),
		"sort":           ldap.NewControlServerSideSortingWithSortKeys([]*ldap.SortKey{{AttributeType: "appPassword"}}),
		"sort by OID":    ldap.NewControlServerSideSortingWithSortKeys([]*ldap.SortKey{{AttributeType: oid}}),
		"deref":          ldap.NewControlString("1.3.6.1.4.1.4203.666.5.16", true, derefValue("member", "appPassword")),
		"matched values": ldap.NewControlString("1.2.826.0.1.3344810.2.3", true, sequence(presentFilter("appPassword"))),
	} {
		result, err := search(c, suffix, "(|(uid=alice)(cn=staff))", nil, control)
		if got := code(t, err); got != 50 {
			t.Errorf("%s control: code %d, want 50 (%v)", name, got, result)
		}
	}
	for name, oid := range map[string]string{"pre-read": "1.3.6.1.1.13.1", "post-read": "1.3.6.1.1.13.2"} {
		for _, attributes := range [][]string{{"appPassword"}, {"*"}, {"+"}, {}, {"@appPasswordAccount"}} {
			m := ldap.NewModifyRequest(userDN("alice"), []ldap.Control{ldap.NewControlString(oid, true, attributeList(attributes...))})
			m.Replace("description", []string{"changed"})
			if got := code(t, c.Modify(m)); got != 50 {
				t.Errorf("%s of %v: code %d, want 50", name, attributes, got)
			}
		}
	}
	err := c.ModifyDN(ldap.NewModifyDNRequest(userDN("alice"), "appPassword="+ldap.EscapeDN(phone.Value)+"+uid=alice", false, ""))
	if got := code(t, err); got != 50 {
		t.Errorf("ModifyDN to the attribute: code %d, want 50", got)
	}

	log, err := search(c, "cn=accesslog", "(objectClass=*)", nil)
	if err != nil || len(log.Entries) == 0 {
		t.Fatalf("cn=accesslog: %v, %d entries", err, len(log.Entries))
	}
	raw, err := search(direct, "cn=accesslog", "(reqMod=appPassword*)", nil)
	if err != nil || len(raw.Entries) == 0 {
		t.Fatalf("the upstream's log does not show what is to be hidden: %v", err)
	}
	for _, e := range log.Entries {
		for _, at := range e.Attributes {
			for _, v := range at.Values {
				if strings.Contains(v, "$app$") {
					t.Errorf("cn=accesslog shows %s of %s", at.Name, e.DN)
				}
			}
		}
	}
	_, err = search(c, "cn=accesslog", "(reqMod=appPassword:+ $app$*)", nil)
	if got := code(t, err); got != 50 {
		t.Errorf("filter on reqMod: code %d, want 50", got)
	}
}

// TestMailAccountReads: the account of a mail server finds users, and neither sees a password nor changes anything,
// though appbind has an identity that could write.
func TestMailAccountReads(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, managing(t, s, "", ""))
	c := bound(t, a.uri(), mailDN, mailPW)
	for _, attributes := range [][]string{nil, {"*", "+"}, {"uid", "appPassword", "userPassword"}} {
		result, err := search(c, people, "(uid=alice)", attributes)
		if err != nil || len(result.Entries) != 1 || result.Entries[0].GetAttributeValue("uid") != "alice" {
			t.Fatalf("%q: %v, %v", attributes, result, err)
		}
		for _, at := range result.Entries[0].Attributes {
			if name := strings.ToLower(at.Name); name == "apppassword" || name == "userpassword" {
				t.Errorf("asked for %q: %s comes back", attributes, at.Name)
			}
		}
	}
	modify := func(attribute string, values ...string) error {
		m := ldap.NewModifyRequest(userDN("alice"), nil)
		m.Replace(attribute, values)
		return c.Modify(m)
	}
	_, exop := c.PasswordModify(ldap.NewPasswordModifyRequest(userDN("alice"), "", "stolen"))
	_, label := c.PasswordModify(ldap.NewPasswordModifyRequest("appPasswordLabel=mine,"+userDN("alice"), "", ""))
	entry := ldap.NewAddRequest("uid=eve,"+people, nil)
	for name, value := range map[string]string{"objectClass": "inetOrgPerson", "uid": "eve", "cn": "Eve", "sn": "E", "userPassword": "eve-main"} {
		entry.Attribute(name, []string{value})
	}
	for name, err := range map[string]error{
		"another attribute":   modify("mail", "eve@example.org"),
		"the main password":   modify("userPassword", "stolen"),
		"an app password":     modify("appPassword", newPassword(t, "mine").Value),
		"no app password":     modify("appPassword"),
		"a new main password": exop,
		"a new app password":  label,
		"a new user":          c.Add(entry),
		"no user":             c.Del(ldap.NewDelRequest(userDN("bob"), nil)),
		"another name":        c.ModifyDN(ldap.NewModifyDNRequest(userDN("bob"), "uid=robert", true, "")),
	} {
		if got := code(t, err); got != 50 {
			t.Errorf("%s: code %d, want 50 (%v)", name, got, err)
		}
	}
	if got := s.stored("alice"); len(got) != 1 || got[0] != phone.Value {
		t.Errorf("%d app passwords, or others", len(got))
	}
	for _, login := range [][2]string{{"alice", phone.Password}, {"alice", "alice-main"}, {"bob", "bob-main"}} {
		expectBind(t, a.uri(), userDN(login[0]), login[1], 0)
	}
}

// TestAppPasswordSession: who logged in with an app password sees the own entry and no more.
func TestAppPasswordSession(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	c := bound(t, a.uri(), userDN("alice"), phone.Password)

	result, err := search(c, suffix, "(&(objectClass=inetOrgPerson)(uid=alice))", nil)
	if err != nil || len(result.Entries) != 1 || result.Entries[0].DN != userDN("alice") {
		t.Fatalf("own entry: %v %v", result, err)
	}
	for _, at := range result.Entries[0].Attributes {
		switch strings.ToLower(at.Name) {
		case "apppassword", "userpassword", "jpegphoto":
			t.Errorf("own entry shows %s", at.Name)
		}
	}
	for _, filter := range []string{"(uid=bob)", "(objectClass=organizationalUnit)", "(mail=bob@example.org)"} {
		result, err := search(c, suffix, filter, nil)
		if err != nil || len(result.Entries) != 0 {
			t.Errorf("%s finds %v %v", filter, result, err)
		}
	}
	// Neither a filter nor a change through this session tells or does anything.
	for _, filter := range []string{"(userPassword=*)", "(appPassword=*)", "(&(uid=alice)(userPassword=a*))", "(!(userPassword=alice-main))", "(|(uid=bob)(userPassword=*))"} {
		result, err := search(c, suffix, filter, nil)
		if err == nil && len(result.Entries) != 0 {
			t.Errorf("%s is an oracle: %v", filter, result.Entries)
		}
	}
	m := ldap.NewModifyRequest(userDN("alice"), nil)
	m.Replace("userPassword", []string{"stolen"})
	_, passwordErr := c.PasswordModify(ldap.NewPasswordModifyRequest("", "", "stolen"))
	_, compareErr := c.Compare(userDN("bob"), "mail", "bob@example.org")
	for name, err := range map[string]error{
		"modify":          c.Modify(m),
		"add":             c.Add(&ldap.AddRequest{DN: "uid=x," + people, Attributes: []ldap.Attribute{{Type: "objectClass", Vals: []string{"inetOrgPerson"}}}}),
		"delete":          c.Del(ldap.NewDelRequest(userDN("alice"), nil)),
		"rename":          c.ModifyDN(ldap.NewModifyDNRequest(userDN("alice"), "uid=mallory", true, "")),
		"password modify": passwordErr,
		"compare":         compareErr,
	} {
		if got := code(t, err); got != 50 {
			t.Errorf("%s in an app-password session: code %d, want 50", name, got)
		}
	}
	_, err = search(c, suffix, "(uid=alice)", nil, ldap.NewControlString("1.2.3.4", true, ""))
	if got := code(t, err); got != 12 {
		t.Errorf("unknown critical control: code %d, want 12", got)
	}

	// The session ends with its app password.
	s.removeSecret("alice", phone.Value)
	eventually(t, "the session ends within a second or so", func() bool {
		_, err := search(c, suffix, "(uid=alice)", nil)
		return err != nil
	})
}
