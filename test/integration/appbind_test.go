package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// appbind is a running proxy.
type appbind struct {
	*process
	file string // its configuration
	urls []string
	balance
}

// listening and ready find lines of the log, text or JSON: the addresses, in
// the order of the configuration, and that clients are served.
var (
	listening = regexp.MustCompile(`msg"?[=:]"?listening"?[ ,]"?listener"?[=:]"?([^\s"]+)"?[ ,]"?address"?[=:]"?([^\s"]+)`)
	ready     = regexp.MustCompile(`msg"?[=:]"?ready`)
)

// startAppbind serves a configuration and waits until it is ready.
func startAppbind(t testing.TB, yaml string) *appbind {
	t.Helper()
	file := shortDir(t) + "/appbind.yaml"
	a := &appbind{file: file}
	yaml = a.observed(yaml)
	write(t, file, yaml)
	t.Cleanup(func() { // after its end
		if out := a.output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "internal error") {
			t.Errorf("a bug of appbind's own:\n%s", out)
		}
	})
	a.process = start(t, binary, "serve", "-c", file)
	eventually(t, "appbind is ready", func() bool {
		if !a.running() {
			t.Fatalf("appbind ended:\n%s", a.output())
		}
		return ready.MatchString(a.output())
	})
	for _, m := range listening.FindAllStringSubmatch(a.output(), -1) {
		scheme, _, _ := strings.Cut(m[1], ":")
		if scheme == "ldapi" {
			a.urls = append(a.urls, m[1])
		} else {
			a.urls = append(a.urls, scheme+"://"+m[2])
		}
	}
	a.watch(yaml)
	return a
}

// hangup has the configuration read again and waits until the log tells what became of it.
func (a *appbind) hangup(yaml, outcome string) {
	a.t.Helper()
	yaml = a.again(yaml)
	write(a.t, a.file, yaml)
	before := strings.Count(a.output(), outcome)
	a.signal(syscall.SIGHUP)
	eventually(a.t, "the log says: "+outcome, func() bool { return strings.Count(a.output(), outcome) > before })
	if outcome == reloaded {
		a.listeners = listenersIn(yaml)
	}
}

// The outcomes of a SIGHUP.
const (
	reloaded = "configuration reloaded"
	refused  = "configuration refused, the old one stays"
)

// uri is the URL of the first listener.
func (a *appbind) uri() string { return a.urls[0] }

// baseConfig is a configuration for the test directory: listeners is YAML of
// list items (empty: one ldap listener on a free port), more is further YAML.
func baseConfig(s *slapd, listeners, more string) string {
	if listeners == "" {
		listeners = "  - url: ldap://127.0.0.1:0\n"
	}
	return fmt.Sprintf(`listeners:
%supstream:
  urls: [%s]
  bind_dn: %s
  bind_password: %s
users:
  bases: ["%s"]
  filter: (objectClass=inetOrgPerson)
  enabled_filter: (!(employeeType=disabled))
service_accounts: ["%s"]
passthrough: ["%s"]
state_dir: .
%s`, listeners, s.uri(), serviceDN, servicePW, people, mailDN, adminDN, more)
}

// appPassword is one made by 'appbind hash'.
type appPassword struct{ Label, ID, Password, Value string }

// newPassword makes an app password with the real command.
func newPassword(t testing.TB, label string, args ...string) appPassword {
	t.Helper()
	out := must(t, "", binary, append([]string{"hash", "--json", "--label", label}, args...)...)
	var p appPassword
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return p
}

// whoami binds with ldapwhoami and returns the result code and what it printed.
func whoami(t testing.TB, uri, dn, password string, args ...string) (int, string) {
	t.Helper()
	r := command(t, "", "ldapwhoami", append([]string{"-x", "-H", uri, "-D", dn, "-w", password}, args...)...)
	return r.code, strings.TrimSpace(r.out)
}

// expectBind binds with ldapwhoami and demands a result code.
func expectBind(t testing.TB, uri, dn, password string, code int) {
	t.Helper()
	if got, _ := whoami(t, uri, dn, password); got != code {
		t.Errorf("bind as %s with %q: code %d, want %d", dn, password, got, code)
	}
}

// canaryFree demands that none of the passwords stands in text.
func canaryFree(t testing.TB, text string, passwords ...string) {
	t.Helper()
	for _, p := range passwords {
		if p != "" && strings.Contains(text, p) {
			t.Errorf("a password stands in the output: %s", p[:4]+"...")
		}
	}
}

// replaceOnce replaces the one occurrence of old.
func replaceOnce(t testing.TB, s, old, new string) string {
	t.Helper()
	if strings.Count(s, old) != 1 {
		t.Fatalf("%q stands %d times in the text", old, strings.Count(s, old))
	}
	return strings.Replace(s, old, new, 1)
}
