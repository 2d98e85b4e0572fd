package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// switchYAML is a configuration with all that can be switched off; each switch is YAML of its section.
type switchYAML struct {
	base, page         string
	app, pages, jobsOf string
}

func (y switchYAML) String() string {
	return y.base + fmt.Sprintf("app_passwords: {lookup: replica%s}\nportal: {listen: '%s', url: 'http://%s'%s}\njobs: {interval: 1s%s}\n",
		y.app, strings.Replace(y.page, "localhost", "127.0.0.1", 1), y.page, y.pages, y.jobsOf)
}

// ask is one request of a browser to the pages, and what it said: the status, where to, and the session's cookie.
func ask(t testing.TB, page, path, cookie string, form url.Values) (code int, to, session string) {
	t.Helper()
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	q, err := http.NewRequest(method, "http://"+strings.Replace(page, "localhost", "127.0.0.1", 1)+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	q.Host = page
	q.Header.Set("Origin", "http://"+page)
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	q.Header.Set("Cookie", "__Host-appbind="+cookie)
	r, err := (&http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: patience}).RoundTrip(q)
	if err != nil {
		return 0, err.Error(), ""
	}
	defer r.Body.Close()
	for _, c := range r.Cookies() {
		if c.Name == "__Host-appbind" {
			session = c.Value
		}
	}
	return r.StatusCode, r.Header.Get("Location"), session
}

// TestSwitches: app passwords at binds, the pages and the jobs are switched off by a reload, each separately and all together, and on again.
func TestSwitches(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Sync: true, Lockout: true})
	phone, spare := newPassword(t, "phone"), newPassword(t, "spare")
	s.addSecret("alice", phone.Value)
	s.addSecret("bob", spare.Value)
	page := fmt.Sprintf("localhost:%d", freePort(t))
	base := replaceOnce(t, baseConfig(s, "  - {url: 'ldap://127.0.0.1:0', context: trusted}\n", historyConfig), "users:\n",
		fmt.Sprintf("  manage_dn: %s\n  manage_password: %s\nusers:\n  name_filter: (|(uid=%%s)(mail=%%s))\n", manageDN, managePW))
	y := switchYAML{base: base, page: page}
	a := startAppbind(t, y.String())
	d := startDovecot(t, "context-dn", a.uri())
	signedIn := ""
	state := func(what string, binds, pages, jobs bool) {
		t.Helper()
		want := map[bool]string{true: loginOK, false: loginRefused}[binds]
		d.expectLogin(t, "alice", phone.Password, "203.0.113.5", want)
		d.expectLogin(t, "alice", "alice-main", "203.0.113.5", loginOK)
		code := map[bool]int{true: 200, false: 503}[pages]
		within(t, what+": the page", patience, func() bool { got, _, _ := ask(t, page, "/sign-in", "", nil); return got == code })
		_, body := httpGet(a.endpoint() + "/metrics")
		for part, on := range map[string]bool{"accept": binds, "portal": pages, "jobs": jobs} {
			if got := metric(t, body, "appbind_enabled", `part="`+part+`"`); got == 1 != on {
				t.Errorf("%s: the metric says of %s: %v", what, part, got)
			}
		}
		old := expiring(t, newPassword(t, "old"), -29*24*time.Hour)
		s.addSecret("bob", old)
		if jobs {
			within(t, what+": the job", historyPatience, func() bool { return !strings.Contains(s.valuesOf("bob"), old) })
			return
		}
		runs := runsOf(t, a)
		time.AfterFunc(3*time.Second, func() { bindOnce(a.uri(), "cn=three seconds later", "x") })
		within(t, what+": three seconds", patience, func() bool { return strings.Contains(a.output(), "cn=three seconds later") })
		if again := runsOf(t, a); fmt.Sprint(again) != fmt.Sprint(runs) || !strings.Contains(s.valuesOf("bob"), old) {
			t.Errorf("%s: the jobs go on: %v, %v", what, runs, again)
		}
	}
	begin := func() {
		t.Helper()
		code, to, session := ask(t, page, "/sign-in", "", url.Values{"name": {"bob"}, "password": {"bob-main"}})
		if code != 303 || to != "/second-factor" || session == "" {
			t.Fatalf("sign-in: %d %s", code, to)
		}
		signedIn = session
		if code, _, _ := ask(t, page, "/second-factor", signedIn, nil); code != 200 {
			t.Fatalf("a session: %d", code)
		}
	}
	state("on", true, true, true)
	begin()

	// At binds alone, while a client is bound with an app password.
	kept := bound(t, a.uri(), userDN("alice"), phone.Password)
	if _, err := search(kept, userDN("alice"), "(uid=alice)", []string{"mail"}); err != nil {
		t.Fatal(err)
	}
	y.app = ", accept: false"
	a.hangup(y.String(), reloaded)
	if _, err := search(kept, userDN("alice"), "(uid=alice)", []string{"mail"}); err == nil {
		t.Error("a session with an app password goes on")
	}
	before := s.bindsOf(userDN("alice"))
	for range 10 {
		expectBind(t, a.uri(), userDN("alice"), phone.Password, 49)
	}
	if n, failed := s.bindsOf(userDN("alice"))-before, failureTimes(t, s, "alice"); n != 0 || failed != 0 {
		t.Errorf("%d binds, %d failures at the directory", n, failed)
	}
	state("not accepted", false, true, true)
	if code, _, _ := ask(t, page, "/second-factor", signedIn, nil); code != 200 {
		t.Errorf("the session at the pages: %d", code)
	}
	_, body := httpGet(a.endpoint() + "/readyz")
	made := must(t, "", binary, "passwords", "create", "-c", a.file, "--user", "bob", "--label", "new", "--json")
	note := command(t, "", binary, "passwords", "renew", "-c", a.file, "--user", "bob", "--label", "new")
	if !strings.Contains(body, "app_passwords.accept") || !strings.Contains(note.err, "app_passwords.accept") || note.code != 0 {
		t.Errorf("nobody says that it is off: %q, %+v", body, note)
	}
	must(t, "", binary, "passwords", "revoke", "-c", a.file, "--user", "bob", "--label", "new", "--yes")

	// The pages alone: whoever was signed in is not, when they are on again.
	y.app, y.pages = "", ", enabled: false"
	a.hangup(y.String(), reloaded)
	state("no pages", true, false, true)
	y.pages, y.jobsOf = "", ", enabled: false"
	a.hangup(y.String(), reloaded)
	state("no jobs", true, true, false)
	if code, to, _ := ask(t, page, "/second-factor", signedIn, nil); code != 303 || to != "/sign-in" {
		t.Errorf("a session outlives the pages: %d %s", code, to)
	}
	begin()

	// All together.
	y.jobsOf, y.app = "", ", enabled: false"
	a.hangup(y.String(), reloaded)
	state("nothing", false, false, false)
	for _, args := range [][]string{{"create", "--label", "more"}, {"renew", "--label", "spare"}, {"create", "--label", "more", "--dry-run"}} {
		r := command(t, "", binary, append([]string{"passwords", args[0], "-c", a.file, "--user", "bob"}, args[1:]...)...)
		if r.code == 0 || !strings.Contains(r.err, "switched off (app_passwords.enabled)") || strings.Contains(r.out, "password  ") {
			t.Errorf("%q: %+v", args, r)
		}
	}
	if r := command(t, "", binary, "check", "-c", a.file); !strings.Contains(r.out, "warn  switched off") {
		t.Errorf("check: %+v", r)
	}
	if r := as(t, a.uri(), adminDN, adminPW, changeOf("bob", "add", "appPassword", "$app$by ldap${CLEAR}canary-by-ldap"), "ldapmodify"); r.code != 19 || !strings.Contains(r.err, "switched off") {
		t.Errorf("ldapmodify: %+v", r)
	}
	if r := as(t, a.uri(), mailDN, mailPW, "", "ldapsearch", "-b", userDN("bob"), "(objectClass=*)", "appPassword"); strings.Contains(r.out, "$app$") {
		t.Error("the values are not hidden any more")
	}
	must(t, "", binary, "passwords", "revoke", "-c", a.file, "--user", "bob", "--label", "spare", "--yes")
	s.stop(syscall.SIGKILL)
	within(t, "the outage", historyPatience, func() bool {
		return bindOnce(a.uri(), userDN("alice"), "alice-main") == 52 && strings.Contains(a.output(), outageBegan)
	})
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 49)
	s.run()
	within(t, "the outage is over", historyPatience, func() bool { return bindOnce(a.uri(), userDN("alice"), "alice-main") == 0 })

	y.app = ""
	a.hangup(y.String(), reloaded)
	state("on again", true, true, true)
	if code, to, _ := ask(t, page, "/second-factor", signedIn, nil); code != 303 || to != "/sign-in" {
		t.Errorf("a session outlives the pages: %d %s", code, to)
	}
	canaryFree(t, a.output(), phone.Password, spare.Password, "alice-main", "bob-main", "canary-by-ldap", made[strings.Index(made, `"password":"`)+12:][:29])
}

// TestPasswordChangeEndsSessions: with a password policy, which tells when a password was changed, OpenLDAP ends the sessions at the pages.
func TestPasswordChangeEndsSessions(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Lockout: true})
	page := fmt.Sprintf("localhost:%d", freePort(t))
	yaml := replaceOnce(t, baseConfig(s, "", ""), "users:\n", "users:\n  name_filter: (|(uid=%s)(mail=%s))\n")
	startAppbind(t, yaml+fmt.Sprintf("portal: {listen: '%s', url: 'http://%s'}\n", strings.Replace(page, "localhost", "127.0.0.1", 1), page))
	within(t, "the pages", patience, func() bool { code, _, _ := ask(t, page, "/sign-in", "", nil); return code == 200 })
	begin := func(password string) string {
		t.Helper()
		code, to, session := ask(t, page, "/sign-in", "", url.Values{"name": {"alice"}, "password": {password}})
		if code != 303 || to != "/second-factor" || session == "" {
			t.Fatalf("sign-in: %d %s", code, to)
		}
		return session
	}
	goesOn := func(what, session string, want bool) {
		t.Helper()
		if code, to, _ := ask(t, page, "/second-factor", session, nil); code == 200 != want || !want && to != "/sign-in" {
			t.Errorf("%s: %d %s", what, code, to)
		}
	}
	before := begin("alice-main")
	ask(t, page, "/sign-in", "", url.Values{"name": {"alice"}, "password": {"wrong"}})
	s.addSecret("alice", newPassword(t, "phone").Value)
	goesOn("after a failure and an app password", before, true)
	s.modify("dn: " + userDN("alice") + "\nchangetype: modify\nreplace: userPassword\nuserPassword: alice-next\n")
	after := begin("alice-next")
	goesOn("begun with the old password", before, false)
	goesOn("begun with the new one", after, true)
}
