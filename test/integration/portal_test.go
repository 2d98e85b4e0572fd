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
	w      *site
	t      *testing.T
	secret string // of the authenticator app
	step   int    // of the next one-time code, in half minutes from now: codes count once, and three are good at a time
}

func (w *site) visitor() *visitor {
	w.t.Helper()
	tab, end, err := w.b.Tab(3 * time.Minute)
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

// look takes pictures of a page and has it checked, where the environment asks for that.
func (v *visitor) look(name string) {
	v.t.Helper()
	dir, axe := os.Getenv("APPBIND_SCREENSHOTS"), os.Getenv("APPBIND_AXE")
	if axe != "" {
		for _, dark := range []bool{false, true} {
			v.do("theme", v.Dark(dark))
			found, err := v.Axe(axe)
			v.do("axe", err)
			for _, f := range found {
				v.t.Errorf("%s, dark %t: axe: %s", name, dark, f)
			}
		}
	}
	v.do("phone", v.Phone())
	if wide, err := v.Wide(); err != nil || wide {
		v.t.Errorf("%s: wider than a phone (%v)", name, err)
	}
	if dir != "" {
		v.do("light", v.Dark(false))
		v.do("picture", v.Picture(filepath.Join(dir, name+"-phone.png")))
	}
	v.do("desk", v.Desk())
	for _, theme := range []string{"dark", "light"} {
		v.do("theme", v.Dark(theme == "dark"))
		if dir != "" {
			v.do("picture", v.Picture(filepath.Join(dir, name+"-"+theme+".png")))
		}
	}
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
	v.do("go on", v.Send("main a.button"))
	v.at("/passwords")
}

// create makes an app password.
func (v *visitor) create(label string) string {
	v.t.Helper()
	v.open("/passwords/new")
	v.at("/passwords/new")
	v.do("label", v.Type("label", label))
	v.do("create", v.Send("main form button[value=page]"))
	password, err := v.Text("#secret")
	v.do("read it", err)
	if len(password) != 29 {
		v.t.Fatalf("no app password: %q", password)
	}
	return password
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
	within(t, "the page shows the last use", historyPatience, func() bool {
		alice.open("/passwords")
		text, err := alice.Text("#list")
		alice.do("list", err)
		return strings.Contains(text, "203.0.113.5") && strings.Contains(text, "imap")
	})
	alice.look("passwords")
	alice.do("history", alice.Send("#list li:last-child h2 a"))
	alice.look("app-password")
	alice.open("/factors")
	alice.look("second-factors")

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
	bob.open("/admin/audit")
	bob.look("audit")

	alice.open("/passwords")
	alice.do("revoke", alice.Click("#list summary"))
	alice.do("yes", alice.Send("#list button.danger"))
	alice.at("/passwords")
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
