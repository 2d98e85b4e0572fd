package auth

import (
	"fmt"
	"strings"
	"testing"

	"appbind/config"
)

// TestListed: any spelling of a listed DN is found, nothing else is, and the answers kept are bounded.
func TestListed(t *testing.T) {
	t.Parallel()
	l := newListed()
	for _, dn := range []string{"", "not a dn", "cn=x,"} {
		if l.add(dn) == nil {
			t.Errorf("%q is listed", dn)
		}
	}
	if err := l.add("cn=Dovecot,dc=example"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from what is kept
		for _, name := range []string{"cn=Dovecot,dc=example", "CN=dovecot, DC=EXAMPLE", `2.5.4.3=dove\63ot,dc=example`} {
			if l.find(name) != "cn=Dovecot,dc=example" {
				t.Errorf("%q is not found", name)
			}
		}
		for _, name := range []string{"", "dovecot", "cn=Dovecot", "cn=dovecot,dc=example,dc=org", "cn=dovecot,,dc=example", "uid=dovecot,dc=example"} {
			if l.find(name) != "" {
				t.Errorf("%q is found", name)
			}
		}
	}
	for i := range 3 * maxSpellings {
		l.find("cn=Dovecot," + strings.Repeat(" ", i) + "dc=example")
		l.find(fmt.Sprintf("uid=%d,dc=example", i))
	}
	if n := len(l.known); n == 0 || n > maxSpellings {
		t.Errorf("%d spellings kept", n)
	}
	clear(l.known)
	if l.find("cn=Dovecot,"+strings.Repeat(" ", maxSpelling)+"dc=example") == "" || len(l.known) != 0 {
		t.Error("a long spelling is not found, or kept")
	}
}

// TestListedMistake: a DN that does not parse is nobody, and said so.
func TestListedMistake(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.cfg.ServiceAccounts = []string{"", "not a dn"}
	s.cfg.Fallback = config.Fallback{}
	s.v = New(s.cfg, s.upstream, s.mem, s.v.log)
	if n := strings.Count(s.log.String(), "listed account is not a DN"); n != 2 {
		t.Errorf("%d reported: %s", n, s.log.String())
	}
	if s.v.window != defaultWindow {
		t.Errorf("window %v", s.v.window)
	}
}
