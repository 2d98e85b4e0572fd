package integration

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"appbind/history"
)

// TestDovecot: IMAP logins in the four ways in which Dovecot 2.3 and 2.4 ask an LDAP server.
func TestDovecot(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]release{"2.3": dovecot23, "2.4": dovecot24} {
		for _, mode := range []string{"template", "lookup", "context-dn", "context-base"} {
			t.Run(name+" "+mode, func(t *testing.T) { t.Parallel(); testDovecot(t, r, mode) })
		}
	}
}

func testDovecot(t *testing.T, r release, mode string) {
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	revoked := newPassword(t, "revoked")
	smtp := newPassword(t, "smtp only", "--service", "smtp")
	tablet := newPassword(t, "tablet", "--algorithm", "bcrypt")
	office := newPassword(t, "office", "--net", "198.51.100.0/24,2001:db8::/32")
	for _, p := range []appPassword{phone, smtp, office, tablet} {
		s.addSecret("alice", p.Value)
	}
	s.addSecret("dave", setExpiry(t, phone.Value, "20200101000000Z"))
	context := strings.HasPrefix(mode, "context")
	listener := "  - url: ldap://127.0.0.1:0\n"
	if context {
		listener += "    context: trusted\n"
	}
	a := startAppbind(t, baseConfig(s, listener, ""))
	d := r.start(t, mode, a.uri())

	d.expectLogin(t, "alice", phone.Password, "203.0.113.5", loginOK)
	d.expectLogin(t, "alice", "alice-main", "203.0.113.6", loginOK)
	d.expectLogin(t, "bob", "bob-main", "203.0.113.7", loginOK)
	d.expectLogin(t, "alice", tablet.Password, "203.0.113.17", loginOK)
	d.expectLogin(t, "alice", "wrong", "203.0.113.8", loginRefused)
	d.expectLogin(t, "alice", revoked.Password, "203.0.113.9", loginRefused)
	d.expectLogin(t, "alice", phone.Value, "203.0.113.10", loginRefused)
	d.expectLogin(t, "dave", phone.Password, "203.0.113.11", loginRefused)
	d.expectLogin(t, "alice", smtp.Password, "203.0.113.12", loginRefused)
	d.expectLogin(t, "carol", "carol-main", "203.0.113.13", loginRefused)
	d.expectLogin(t, "nobody", "x", "203.0.113.14", loginRefused)
	want := loginRefused // the address is unknown without context
	if context {
		want = loginOK
		if !strings.Contains(a.output(), "client=203.0.113.5 service=imap") {
			t.Error("the log does not name the user's address and service")
		}
	}
	if mode == "context-dn" {
		expectSession(t, a, r.root+d.Dir+"/dovecot.log", phone)
	}
	d.expectLogin(t, "alice", office.Password, "198.51.100.7", want)
	d.expectLogin(t, "alice", office.Password, "2001:db8::7", want)
	d.expectLogin(t, "alice", office.Password, "203.0.113.15", loginRefused)

	s.removeSecret("alice", phone.Value)
	d.expectLogin(t, "alice", phone.Password, "203.0.113.16", loginRefused)

	// The directory down is never a wrong password.
	s.kill()
	d.expectLogin(t, "alice", office.Password, "198.51.100.8", loginUnavailable)
	s.run()
	eventually(t, "logins work again", func() bool {
		return strings.HasPrefix(d.login(t, "bob", "bob-main", "198.51.100.9"), loginOK)
	})
	a.stop(syscall.SIGTERM) // the history is complete
	if uses := allUses(t, historyOf(t, a), history.Filter{}); context != slices.Contains(uses, `uid=alice app phone imap 203.0.113.5 ""`) ||
		!context && !slices.Contains(uses, `uid=alice app phone  - ""`) {
		t.Errorf("the history has\n%s", strings.Join(uses, "\n"))
	}
	canaryFree(t, a.output(), phone.Password, tablet.Password, revoked.Password, smtp.Password, office.Password, "alice-main")
}

// expectSession: which app password a session of Dovecot was opened with is told by the session's name, which both logs have.
func expectSession(t *testing.T, a *appbind, log string, p appPassword) {
	t.Helper()
	line := regexp.MustCompile(`label=` + p.Label + ` id=` + p.ID + ` .*session="?([^" ]+)"? `)
	eventually(t, "the login is in both logs, with one session", func() bool {
		text, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		m := line.FindStringSubmatch(a.output())
		return m != nil && regexp.MustCompile(`Log(?:in|ged in): user=<alice>, .*session=<`+regexp.QuoteMeta(m[1])+`>`).Match(text)
	})
}

// TestDovecotServices: POP3 and ManageSieve beside IMAP, each a service of its own, and so in the history.
func TestDovecotServices(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	services := []string{"imap", "pop3", "sieve"}
	passwords := map[string]appPassword{}
	for _, service := range services {
		passwords[service] = newPassword(t, service, "--service", service, "--net", "203.0.113.0/24")
		s.addSecret("alice", passwords[service].Value)
	}
	a := startAppbind(t, baseConfig(s, "  - url: ldap://127.0.0.1:0\n    context: trusted\n", ""))
	d := startDovecot(t, "context-dn", a.uri())
	failures := 100 // each from an address of its own: Dovecot holds up those that have failed before
	for at, way := range map[string]struct {
		login       func(t testing.TB, user, password, address string) string
		ok, refused string
	}{
		"imap":  {d.login, loginOK, loginRefused},
		"pop3":  {d.loginPOP3, "+OK", "-ERR [AUTH]"},
		"sieve": {d.loginSieve, "OK", "NO"},
	} {
		expect := func(service, address, want string) {
			t.Helper()
			if got := way.login(t, "alice", passwords[service].Password, address); !strings.HasPrefix(got, want) {
				t.Errorf("%s with the app password for %s from %s: %s, want %s", at, service, address, got, want)
			}
		}
		for _, service := range services {
			if service == at {
				expect(service, "203.0.113.5", way.ok)
				continue
			}
			failures++
			expect(service, fmt.Sprintf("203.0.113.%d", failures), way.refused)
		}
		failures++
		expect(at, fmt.Sprintf("198.51.100.%d", failures), way.refused)
	}
	a.stop(syscall.SIGTERM) // the history is complete
	want := []string{`uid=alice app imap imap 203.0.113.5 ""`, `uid=alice app pop3 pop3 203.0.113.5 ""`, `uid=alice app sieve sieve 203.0.113.5 ""`}
	if uses := allUses(t, historyOf(t, a), history.Filter{Accepted: true}); !slices.Equal(uses, want) {
		t.Errorf("the history has\n%s\nwant\n%s", strings.Join(uses, "\n"), strings.Join(want, "\n"))
	}
}

// TestDovecotOnSocket: the same over a unix socket, which needs no password on the wire in clear.
func TestDovecotOnSocket(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	socket := "ldapi://" + url.PathEscape(shortDir(t)+"/appbind.sock")
	a := startAppbind(t, baseConfig(s, fmt.Sprintf("  - url: %s\n    context: trusted\n    mode: \"0666\"\n", socket), ""))
	d := startDovecot(t, "context-dn", a.uri())
	d.expectLogin(t, "alice", phone.Password, "203.0.113.5", loginOK)
	d.expectLogin(t, "alice", "wrong", "203.0.113.5", loginRefused)
}

// TestPostfix: maps and SMTP AUTH through Dovecot's SASL.
func TestPostfix(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	imap := newPassword(t, "imap only", "--service", "imap")
	smtp := newPassword(t, "smtp only", "--service", "smtp", "--net", "198.51.100.0/24")
	s.addSecret("alice", imap.Value)
	s.addSecret("alice", smtp.Value)
	a := startAppbind(t, baseConfig(s, "  - url: ldap://127.0.0.1:0\n    context: trusted\n", ""))
	d := startDovecot(t, "context-dn", a.uri())
	for _, version := range []int{2, 3} {
		p := startPostfix(t, d, a.uri(), version)
		if r := p.postmap(t, "vmailbox", "alice@example.org"); strings.TrimSpace(r.out) != "alice" || r.code != 0 {
			t.Errorf("version %d: postmap: %d %q %s", version, r.code, r.out, r.err)
		}
		if r := p.postmap(t, "valias", "nobody@example.org"); r.out != "" || r.code != 1 {
			t.Errorf("version %d: postmap of an unknown address: %d %q %s", version, r.code, r.out, r.err)
		}
		for _, test := range []struct{ password, address, want string }{
			{smtp.Password, "198.51.100.7", "235"},
			{smtp.Password, "203.0.113.7", "535"},
			{imap.Password, "198.51.100.7", "535"},
			{"alice-main", "198.51.100.7", "235"},
			{"wrong", "198.51.100.7", "535"},
		} {
			if got := p.auth(t, "alice", test.password, test.address); !strings.HasPrefix(got, test.want) {
				t.Errorf("version %d: AUTH from %s: %s, want %s", version, test.address, got, test.want)
			}
		}
	}
	if !strings.Contains(a.output(), "client=198.51.100.7 service=smtp") {
		t.Error("the log does not name the SMTP client's address")
	}

	// A stopped directory: a map lookup is a temporary error, not "unknown user".
	s.stop(syscall.SIGTERM)
	p := startPostfix(t, d, a.uri(), 3)
	if r := p.postmap(t, "vmailbox", "alice@example.org"); r.code != 1 || r.err == "" {
		t.Errorf("postmap with the directory stopped: %d %q %q", r.code, r.out, r.err)
	}
}
