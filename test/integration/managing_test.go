package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Who manages app passwords in the test directory.
const (
	manageDN   = "cn=manage,ou=services," + suffix // upstream.manage_dn: writes them
	managePW   = "manage-secret"
	helpdeskDN = "cn=helpdesk,ou=services," + suffix // may write them and not see them
	helpdeskPW = "helpdesk-secret"
)

// managing is a configuration in which app passwords are managed; app is YAML of further keys of app_passwords.
func managing(t testing.TB, s *slapd, listeners, app string) string {
	t.Helper()
	yaml := replaceOnce(t, baseConfig(s, listeners, ""), "users:\n", fmt.Sprintf("  manage_dn: %s\n  manage_password: %s\nusers:\n", manageDN, managePW))
	yaml = replaceOnce(t, yaml, mailDN+`"]`, mailDN+`", "`+helpdeskDN+`"]`)
	return yaml + "app_passwords: {" + app + "}\n"
}

// stored are the values of a user's secrets attribute.
func (s *slapd) stored(uid string) []string {
	s.t.Helper()
	out := must(s.t, "", "ldapsearch", "-x", "-LLL", "-o", "ldif-wrap=no", "-H", s.uri(), "-D", adminDN, "-w", adminPW, "-b", userDN(uid), "-s", "base", "appPassword")
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^appPassword: (.*)$`).FindAllStringSubmatch(out, -1) {
		list = append(list, m[1])
	}
	return list
}

// as runs a tool of OpenLDAP bound as somebody.
func as(t testing.TB, uri, dn, password, stdin, tool string, args ...string) result {
	t.Helper()
	return command(t, stdin, tool, append([]string{"-x", "-H", uri, "-D", dn, "-w", password}, args...)...)
}

// changeOf is the LDIF of a modify of one attribute.
func changeOf(uid, operation, attribute string, values ...string) string {
	text := fmt.Sprintf("dn: %s\nchangetype: modify\n%s: %s\n", userDN(uid), operation, strings.SplitN(attribute, ";", 2)[0])
	text = strings.Replace(text, ": "+strings.SplitN(attribute, ";", 2)[0]+"\n", ": "+attribute+"\n", 1)
	for _, v := range values {
		text += attribute + ": " + v + "\n"
	}
	return text
}

// TestGuardedModify: an administrator writes app passwords with ldapmodify; one
// who may not write gets the directory's own refusal, and learns nothing by it.
func TestGuardedModify(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, managing(t, s, "", "max_per_user: 4, chosen_algorithm: argon2id"))
	const canary = "canary-secret-in-clear"
	good := newPassword(t, "tablet")
	s.addSecret("alice", good.Value)
	modify := func(dn, pw, ldif string) result { return as(t, a.uri(), dn, pw, ldif, "ldapmodify") }

	for name, c := range map[string]struct {
		ldif, says string
		code       int
	}{
		"a label in use":      {changeOf("alice", "add", "appPassword", "$app$Tablet$"+canary), "is in use", 19},
		"no form":             {changeOf("alice", "add", "appPassword", canary), "write $app$LABEL$HASH", 19},
		"no known scheme":     {changeOf("alice", "add", "appPassword", "$app$x$$y$"+canary), "{CLEAR}PASSWORD", 19},
		"too long a life":     {changeOf("alice", "add", "appPassword", "$app$x;exp=20990101000000Z$"+canary), "365 days at most", 19},
		"a bad second factor": {changeOf("alice", "add", "appPassword", "otpauth://totp/x?secret=abc"), "128 bits", 19},
		"options":             {changeOf("alice", "add", "appPassword;x-a", "$app$x$"+canary), "without options", 19},
		"a replacement":       {changeOf("alice", "replace", "appPassword", "$app$x$"+canary), "cannot see", 19},
		"all of them":         {changeOf("alice", "delete", "appPassword"), "cannot see", 19},
		"an increment":        {changeOf("alice", "increment", "appPassword", "1"), "incremented", 19},
		"no such label":       {changeOf("alice", "delete", "appPassword", "$app$nothing"), "no app password", 16},
		"no such value":       {changeOf("alice", "delete", "appPassword", "$app$tablet$"+canary), "", 16},
	} {
		r := modify(helpdeskDN, helpdeskPW, c.ldif)
		if r.code != c.code || !strings.Contains(r.err, c.says) || strings.Contains(r.err, canary) {
			t.Errorf("%s: code %d, %s", name, r.code, r.err)
		}
		if r := modify(userDN("bob"), "bob-main", c.ldif); r.code != 50 || strings.Contains(r.err, "in use") {
			t.Errorf("%s, by one who may not write: code %d, %s", name, r.code, r.err)
		}
	}
	if got := s.stored("alice"); len(got) != 1 {
		t.Errorf("after the refusals: %q", got)
	}

	// Clear text of both sorts, a hash, another attribute beside them, and a deletion by name.
	mine := newPassword(t, "unused")
	ldif := changeOf("alice", "add", "appPassword", "$app$chosen$"+canary, "$app$generated$"+mine.Password) +
		"-\nreplace: description\ndescription: one modify\n"
	if r := modify(helpdeskDN, helpdeskPW, ldif); r.code != 0 {
		t.Fatalf("a good modify: %d %s", r.code, r.err)
	}
	expectBind(t, a.uri(), userDN("alice"), canary, 0)
	expectBind(t, a.uri(), userDN("alice"), mine.Password, 0)
	values := strings.Join(s.stored("alice"), "\n")
	canaryFree(t, values+a.output()+s.log(), canary, mine.Password)
	if !strings.Contains(values, ";id="+mine.ID+";exp=") || strings.Count(values, ";exp=") != 3 || !strings.Contains(values, "$$argon2id$") {
		t.Errorf("stored: %s", values)
	}
	if r := modify(helpdeskDN, helpdeskPW, changeOf("alice", "add", "appPassword", "$app$a$"+canary, "$app$b$"+canary)); r.code != 19 || !strings.Contains(r.err, "already") {
		t.Errorf("over max_per_user: %d %s", r.code, r.err)
	}
	for _, name := range []string{"$app$CHOSEN", "$app$;id=" + mine.ID} {
		if r := modify(helpdeskDN, helpdeskPW, changeOf("alice", "delete", "appPassword", name)); r.code != 0 {
			t.Errorf("delete %s: %d %s", name, r.code, r.err)
		}
	}
	if got := s.stored("alice"); len(got) != 1 || got[0] != good.Value {
		t.Errorf("after the deletions: %q", got)
	}
	expectBind(t, a.uri(), userDN("alice"), canary, 49)

	// Never from a session of an app password.
	if r := modify(userDN("alice"), good.Password, changeOf("alice", "add", "appPassword", "$app$x$"+canary)); r.code != 50 {
		t.Errorf("in an app-password session: %d %s", r.code, r.err)
	}
	if r := as(t, a.uri(), helpdeskDN, helpdeskPW, "", "ldapmodrdn", userDN("alice"), "appPassword=x"); r.code != 50 && r.code != 19 {
		t.Errorf("as a name: %d %s", r.code, r.err)
	}
}

// TestGuardedAdd: a new entry with an app password in clear.
func TestGuardedAdd(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, managing(t, s, "", "chosen_algorithm: argon2id"))
	const canary = "canary-in-a-new-entry"
	entry := "dn: uid=eve,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nobjectClass: appPasswordAccount\nuid: eve\ncn: Eve\nsn: E\nappPassword: "
	add := func(value string) result { return as(t, a.uri(), adminDN, adminPW, entry+value+"\n", "ldapadd") }
	if r := add(canary); r.code != 19 || strings.Contains(r.err, canary) {
		t.Errorf("no form: %d %s", r.code, r.err)
	}
	if r := add("$app$phone$" + canary); r.code != 0 {
		t.Fatalf("%d %s", r.code, r.err)
	}
	expectBind(t, a.uri(), userDN("eve"), canary, 0)
	canaryFree(t, strings.Join(s.stored("eve"), "")+a.output()+s.log(), canary)
}

var newPasswordLine = regexp.MustCompile(`(?m)^New password: (\S+)$`)

// TestPasswordModify: ldappasswd makes an app password under the user's entry, and shows it once.
func TestPasswordModify(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{LDIF: "dn: uid=frank,ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: frank\ncn: F\nsn: F\nuserPassword: frank-main\n"})
	a := startAppbind(t, managing(t, s, "", "chosen_algorithm: argon2id"))
	self := startAppbind(t, managing(t, s, "", "self_service_ldap: allow, user_chosen: allow, chosen_algorithm: argon2id"))
	make := func(uri, dn, pw, identity string, args ...string) result {
		return as(t, uri, dn, pw, "", "ldappasswd", append(args, identity)...)
	}
	label := func(l, uid string) string { return "appPasswordLabel=" + l + "," + userDN(uid) }

	r := make(a.uri(), helpdeskDN, helpdeskPW, label("phone", "alice"))
	m := newPasswordLine.FindStringSubmatch(r.out)
	if r.code != 0 || m == nil {
		t.Fatalf("%d %s%s", r.code, r.out, r.err)
	}
	expectBind(t, a.uri(), userDN("alice"), m[1], 0)
	canaryFree(t, strings.Join(s.stored("alice"), "")+a.output()+s.log(), m[1])
	if got := s.stored("alice"); len(got) != 1 || !strings.HasPrefix(got[0], "$app$phone;id="+m[1][:4]+";exp=") {
		t.Errorf("stored: %q", got)
	}
	frank := make(self.uri(), userDN("frank"), "frank-main", label("first one", "frank"))
	if p := newPasswordLine.FindStringSubmatch(frank.out); frank.code != 0 || p == nil {
		t.Errorf("for oneself, without the class: %d %s%s", frank.code, frank.out, frank.err)
	} else {
		expectBind(t, self.uri(), userDN("frank"), p[1], 0)
		canaryFree(t, self.output(), p[1])
	}
	for name, c := range map[string]struct {
		result
		code int
		says string
	}{
		"the same label":         {make(a.uri(), helpdeskDN, helpdeskPW, label("Phone", "alice")), 19, "in use"},
		"a chosen one":           {make(a.uri(), helpdeskDN, helpdeskPW, label("x", "alice"), "-s", "canary-chosen"), 19, "generated here"},
		"an old one":             {make(a.uri(), helpdeskDN, helpdeskPW, label("x", "alice"), "-a", "canary-old"), 53, "old password"},
		"no such user":           {make(a.uri(), helpdeskDN, helpdeskPW, label("x", "nobody")), 32, ""},
		"a disabled user":        {make(a.uri(), helpdeskDN, helpdeskPW, label("x", "carol")), 53, "disabled"},
		"no user":                {make(a.uri(), helpdeskDN, helpdeskPW, "appPasswordLabel=x,"+mailDN), 53, "users.bases"},
		"no DN":                  {make(a.uri(), helpdeskDN, helpdeskPW, "appPasswordLabel=x"), 34, "appPasswordLabel=LABEL"},
		"for oneself, denied":    {make(a.uri(), userDN("bob"), "bob-main", label("x", "bob")), 50, ""},
		"for another one":        {make(self.uri(), userDN("bob"), "bob-main", label("x", "alice")), 50, ""},
		"for another one, known": {make(self.uri(), userDN("bob"), "bob-main", label("phone", "alice")), 50, ""},
		"with an app password":   {make(self.uri(), userDN("alice"), m[1], label("x", "alice")), 50, "not allowed with an app password"},
		"not bound":              {command(t, "", "ldappasswd", "-x", "-H", self.uri(), label("x", "alice")), 8, "bind first"},
	} {
		// ldappasswd's own exit status is 1, whatever the result was.
		if c.result.code != 1 || !strings.Contains(c.out+c.err, fmt.Sprintf("(%d)", c.code)) || !strings.Contains(c.out+c.err, c.says) || strings.Contains(c.out+c.err, "canary") {
			t.Errorf("%s: want code %d: %s%s", name, c.code, c.out, c.err)
		}
	}
	if r := make(self.uri(), userDN("bob"), "bob-main", label("mine", "bob"), "-s", "canary-chosen"); r.code != 0 {
		t.Errorf("a chosen one, allowed: %d %s", r.code, r.err)
	}
	expectBind(t, self.uri(), userDN("bob"), "canary-chosen", 0)
	// A main password is changed as ever.
	if r := make(a.uri(), userDN("dave"), "dave-main", userDN("dave"), "-s", "dave-other"); r.code != 0 {
		t.Errorf("a main password: %d %s", r.code, r.err)
	}
	expectBind(t, a.uri(), userDN("dave"), "dave-other", 0)
	canaryFree(t, a.output()+self.output(), "canary-chosen", "canary-old", "dave-other")
}
