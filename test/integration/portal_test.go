package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"appbind/test/browser"
)

// site is the self-service pages as a browser sees them.
type site struct {
	t    *testing.T
	a    *appbind
	url  string
	b    *browser.Browser
	shot map[string]bool
}

// startSite serves the pages in front of a slapd, and starts a browser. more are further lines of the section portal, for the pages'
// address.
func startSite(t *testing.T, s *slapd, more ...func(url string) string) *site {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed: run 'make tools'")
	}
	if _, err := os.Stat(axeFile); err != nil {
		t.Fatal("npm's axe-core is not installed: run 'make tools'")
	}
	w := &site{t: t, url: fmt.Sprintf("http://localhost:%d", freePort(t)), shot: map[string]bool{}}
	section := fmt.Sprintf(`portal:
  listen: 127.0.0.1:%s
  url: %s
  name: Example Mail
  admins: [%q]
  imap: mail.example.org:993
  smtp: mail.example.org:465
`, w.url[strings.LastIndex(w.url, ":")+1:], w.url, userDN("bob"))
	for _, lines := range more {
		section += lines(w.url)
	}
	yaml := baseConfig(s, "  - {url: 'ldap://127.0.0.1:0', context: trusted}\n", section)
	yaml = replaceOnce(t, yaml, "users:\n", fmt.Sprintf("  manage_dn: %s\n  manage_password: %s\nusers:\n  name_filter: (|(uid=%%s)(mail=%%s))\n", manageDN, managePW))
	w.a = startAppbind(t, yaml)
	if w.b, err = browser.Start(program, shortDir(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.b.Close)
	return w
}

// visitor is one person's browser.
type visitor struct {
	*browser.Tab
	w       *site
	t       *testing.T
	secret  string // of the authenticator app
	seenNew bool   // looked at the form for a new app password
	brief   bool   // look at each page in two ways, not in four
	step    int    // of the next one-time code, in half minutes from now: codes count once, and three are good at a time
}

func (w *site) visitor() *visitor {
	w.t.Helper()
	tab, end, err := w.b.Tab()
	if err != nil {
		w.t.Fatal(err)
	}
	v := &visitor{Tab: tab, w: w, t: w.t, step: -1}
	w.t.Cleanup(func() {
		for _, what := range v.Wrong() {
			w.t.Error(what)
		}
		end()
	})
	return v
}

func (v *visitor) do(what string, err error) {
	v.t.Helper()
	if err != nil {
		path, _ := v.Path()
		text, _ := v.Text("main")
		v.t.Fatalf("%s, at %s: %v\n%s", what, path, err, text)
	}
}

// at demands the place where the visitor is.
func (v *visitor) at(path string) {
	v.t.Helper()
	if got, err := v.Path(); err != nil || got != path {
		text, _ := v.Text("main")
		v.t.Fatalf("at %s, want %s (%v)\n%s", got, path, err, text)
	}
}

func (v *visitor) open(path string) { v.t.Helper(); v.do("open "+path, v.Open(v.w.url+path)) }

// axeFile is npm's axe-core, an accessibility checker.
const axeFile = "../npm/node_modules/axe-core/axe.min.js"

// pageLimit bounds a page with all that it loads, in bytes.
const pageLimit = 100 << 10

// look has a page checked as people see it: on a screen, in the dark and on a phone; and takes pictures, where the environment asks for that.
func (v *visitor) look(name string) {
	v.t.Helper()
	dir := os.Getenv("APPBIND_SCREENSHOTS")
	if n, err := v.Weight(); err != nil || n > pageLimit {
		v.t.Errorf("%s: %d bytes (%v)", name, n, err)
	}
	for _, c := range []struct {
		what        string
		phone, dark bool
	}{{"light", false, false}, {"dark", false, true}, {"phone-dark", true, true}, {"phone", true, false}} {
		if v.brief && c.what != "light" && c.what != "phone-dark" {
			continue
		}
		v.do("theme", v.Dark(c.dark))
		if c.phone {
			v.do("phone", v.Phone())
			if wide, err := v.Wide(); err != nil || wide {
				v.t.Errorf("%s: wider than a phone (%v)", name, err)
			}
		}
		found, err := v.Axe(axeFile)
		v.do("axe", err)
		for _, f := range found {
			v.t.Errorf("%s, %s: axe: %s", name, c.what, f)
		}
		if dir != "" {
			v.do("picture", v.Picture(filepath.Join(dir, name+"-"+c.what+".png")))
		}
	}
	v.do("theme", v.Dark(false))
	v.do("desk", v.Desk())
}

// code is a one-time code that was not used before.
func (v *visitor) code() string {
	v.t.Helper()
	if v.step > 1 {
		v.t.Fatal("no further code is good now")
	}
	code, err := totp.GenerateCode(v.secret, time.Now().Add(time.Duration(v.step)*30*time.Second))
	v.do("code", err)
	v.step++
	return code
}

// signIn gives the main password.
func (v *visitor) signIn(user string) {
	v.t.Helper()
	v.open("/")
	v.at("/sign-in")
	v.do("name", v.Type("name", user))
	v.do("password", v.Type("password", user+"-main"))
	v.do("sign in", v.Send("main form button"))
	v.at("/second-factor")
}

// enrol sets up an authenticator app with a code of an administrator.
func (v *visitor) enrol(code string) {
	v.t.Helper()
	v.do("enrolment code", v.Type("code", code))
	v.do("send", v.Send("main form button"))
	v.at("/factors/add")
	v.look("add-factor")
	v.do("go on", v.Send("a[href='/factors/totp']"))
	secret, err := v.Text("#otp-secret")
	v.do("secret", err)
	v.secret = secret
	v.look("authenticator-app")
	v.do("code", v.Type("code", v.code()))
	v.do("send", v.Send("main form button"))
	if codes, err := v.Text("#codes"); err != nil || len(strings.Fields(codes)) != 10 {
		v.t.Fatalf("recovery codes: %q %v", codes, err)
	}
	v.look("recovery-codes")
	v.do("go on", v.Send("main a.button"))
	v.at("/passwords")
}

// create makes an app password.
func (v *visitor) create(label string) string {
	v.t.Helper()
	v.open("/passwords/new")
	v.at("/passwords/new")
	if !v.seenNew {
		v.seenNew = true
		v.look("new")
	}
	v.do("label", v.Type("label", label))
	v.do("create", v.Send("main form button[value=page]"))
	password, err := v.Text("#secret")
	v.do("read it", err)
	if len(password) != 29 {
		v.t.Fatalf("no app password: %q", password)
	}
	return password
}

// seesUse waits until the list shows a login by IMAP from an address.
func (v *visitor) seesUse(address string) {
	v.t.Helper()
	within(v.t, "the page shows the last use", historyPatience, func() bool {
		v.open("/passwords")
		text, err := v.Text("#list")
		v.do("list", err)
		return strings.Contains(text, address) && strings.Contains(text, "imap")
	})
}

// enrolCode has one issued at the command line.
func (w *site) enrolCode(user string) string {
	w.t.Helper()
	return strings.Fields(must(w.t, "", binary, "portal", "enrol-code", "-c", w.a.file, "--user", user))[0]
}

// TestPortal: a user's first day and an administrator's, in a real browser, with a real directory and a real mail server.
func TestPortal(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	w := startSite(t, s)
	d := startDovecot(t, "context-dn", w.a.uri())
	alice := w.visitor()
	alice.open("/sign-in")
	alice.look("sign-in")
	alice.signIn("alice")
	alice.look("second-factor")
	alice.enrol(w.enrolCode("alice"))
	phone := alice.create("My phone")
	alice.look("created")
	if cookies, err := alice.Cookies(); err != nil || cookies != "" {
		t.Errorf("a script sees cookies: %q %v", cookies, err)
	}
	laptop := alice.create("Laptop")
	d.expectLogin(t, "alice", phone, "203.0.113.5", loginOK)
	d.expectLogin(t, "alice", laptop, "203.0.113.6", loginOK)
	d.expectLogin(t, "alice", "alice-main", "203.0.113.5", loginRefused) // a second factor is enrolled
	alice.seesUse("203.0.113.5")
	alice.look("passwords")
	alice.do("history", alice.Send("#list li:last-child h2 a"))
	alice.look("app-password")
	alice.open("/factors")
	alice.look("second-factors")
	alice.open("/confirm")
	alice.look("confirm")
	alice.open("/nothing")
	alice.look("message")
	alice.open("/passwords/new")
	alice.do("label", alice.Type("label", "Laptop"))
	alice.do("again", alice.Send("main form button[value=page]"))
	alice.look("new-refused")

	bob := w.visitor()
	bob.signIn("bob")
	bob.enrol(w.enrolCode("bob"))
	bob.open("/admin")
	bob.look("admin")
	bob.do("name", bob.Type("name", "alice@example.org"))
	bob.do("find", bob.Send("main form button"))
	bob.look("admin-user")
	bob.do("revoke", bob.Click("main ul.list li:last-child summary"))
	label, err := bob.Text("main ul.list li:last-child h3")
	bob.do("label", err)
	bob.do("yes", bob.Send("main ul.list li:last-child button.danger"))
	gone, kept := phone, laptop
	if label == "Laptop" {
		gone, kept = laptop, phone
	}
	d.expectLogin(t, "alice", gone, "203.0.113.5", loginRefused)
	d.expectLogin(t, "alice", kept, "203.0.113.5", loginOK)
	bob.do("code", bob.Send("form[action='/admin/enrol-code'] button"))
	bob.look("admin-code")
	bob.open("/admin/audit")
	bob.look("audit")

	alice.open("/passwords")
	alice.do("revoke", alice.Click("#list summary"))
	alice.do("yes", alice.Send("#list button.danger"))
	alice.at("/passwords")
	alice.look("passwords-none")
	d.expectLogin(t, "alice", kept, "203.0.113.5", loginRefused)
	alice.do("sign out", alice.Send("header form button"))
	alice.at("/sign-in")
	alice.signIn("alice")
	alice.do("code", alice.Type("code", alice.code()))
	alice.do("send", alice.Send("main form button"))
	alice.at("/passwords")
	alice.open("/admin")
	if text, err := alice.Text("main"); err != nil || !strings.Contains(text, "administrators") {
		t.Errorf("a user in the administration: %q %v", text, err)
	}
	canaryFree(t, w.a.output(), phone, laptop, "alice-main", "bob-main", alice.secret, bob.secret)
	w.a.stop(syscall.SIGTERM) // what the databases hold is in their files then
	filesHoldNone(t, stateDir(t, w.a), phone, laptop, "alice-main", "bob-main", alice.secret, bob.secret, managePW)
}

// TestPortalWithoutScript: in a browser that runs no scripts, in German, from the enrolment code to an app password that is revoked.
func TestPortalWithoutScript(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	w := startSite(t, s)
	v := w.visitor()
	v.brief, v.seenNew = true, true
	look := func(name string) { // the checker is a script; what the page has left out stays so
		t.Helper()
		v.do("scripts", v.Scripts(true))
		v.look(name)
		v.do("no scripts", v.Scripts(false))
	}
	v.do("no scripts", v.Scripts(false))
	v.open("/sign-in")
	v.do("Deutsch", v.Send("button[name=language][value=de]"))
	v.at("/sign-in")
	look("de-sign-in")
	v.do("name", v.Type("name", "alice"))
	v.do("password", v.Type("password", "wrong"))
	v.do("sign in", v.Send("main form button"))
	look("de-sign-in-refused")
	v.signIn("alice")
	look("de-second-factor")
	v.do("a wrong code", v.Type("code", "123456"))
	v.do("send", v.Send("main form button"))
	look("de-second-factor-refused")
	v.do("enrolment code", v.Type("code", w.enrolCode("alice")))
	v.do("send", v.Send("main form button"))
	v.at("/factors/add")
	look("de-add-factor")
	v.do("go on", v.Send("a[href='/factors/totp']"))
	secret, err := v.Text("#otp-secret")
	v.do("secret", err)
	v.secret = secret
	look("de-authenticator-app")
	v.do("code", v.Type("code", v.code()))
	v.do("send", v.Send("main form button"))
	look("de-recovery-codes")
	v.do("go on", v.Send("main a.button"))
	v.at("/passwords")
	v.open("/passwords/new")
	look("de-new")
	v.do("label", v.Type("label", "Mein Handy"))
	v.do("create", v.Send("main form button[value=page]"))
	password, err := v.Text("#secret")
	if err != nil || len(password) != 29 {
		t.Fatalf("no app password: %q %v", password, err)
	}
	if shown, err := v.Shown("button.copy"); err != nil || shown {
		t.Errorf("a button that does nothing is shown (%v)", err)
	}
	look("de-created")
	expectBind(t, w.a.uri(), userDN("alice"), password, 0)
	v.open("/passwords")
	look("de-passwords")
	v.do("one", v.Send("#list h2 a"))
	look("de-app-password")
	v.open("/factors")
	look("de-second-factors")
	v.open("/nothing")
	look("de-message")
	v.open("/passwords")
	v.do("revoke", v.Click("#list summary"))
	v.do("yes", v.Send("#list button.danger"))
	v.at("/passwords")
	if text, err := v.Text("main"); err != nil || !strings.Contains(text, "widerrufen") {
		t.Errorf("%q %v", text, err)
	}
	expectBind(t, w.a.uri(), userDN("alice"), password, 49)
	canaryFree(t, w.a.output(), password, "alice-main", v.secret)
}
