package integration

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestFail2ban: fail2ban itself reads the log of a real run and bans who guessed, and nobody whose address somebody else only wrote into a name.
func TestFail2ban(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			s := startSlapd(t, slapdOptions{})
			phone := newPassword(t, "phone")
			s.addSecret("alice", phone.Value)
			a := startAppbind(t, baseConfig(s, "  - url: ldap://127.0.0.1:0\n    context: trusted\n", "log: {format: "+format+"}\n"))
			bind := func(user, address, password string, want int) {
				t.Helper()
				dn := fmt.Sprintf("uid=%s,%s,svc=imap,rip=%s,cn=appbind", user, people, address)
				if r := as(t, a.uri(), dn, password, "", "ldapwhoami"); r.code != want {
					t.Errorf("%s: code %d %s, want %d", dn, r.code, r.err, want)
				}
			}
			bind("alice", "203.0.113.5", phone.Password, 0)
			bind("alice", "203.0.113.8", "wrong", 49)
			bind("alice", "2001:db8::8", "wrong", 49)
			bind("nobody", "203.0.113.9", "wrong", 49)
			bind("x client=198.51.100.1 ", "203.0.113.10", "wrong", 49)
			bind(`x\22 client=198.51.100.1 y=\22`, "203.0.113.11", "wrong", 49)
			bind(`x\22\2c\22client\22:\22198.51.100.1\22}`, "203.0.113.12", "wrong", 49)
			if r := as(t, a.uri(), userDN("bob"), "wrong", "", "ldapwhoami"); r.code != 49 { // nobody knows from where
				t.Errorf("without an address: code %d %s", r.code, r.err)
			}
			s.stop(syscall.SIGTERM)
			bind("alice", "203.0.113.13", "wrong", 52) // an outage
			a.stop(syscall.SIGTERM)

			log := shortDir(t) + "/log"
			write(t, log, a.output())
			got := strings.Fields(must(t, "", "fail2ban-regex", "-o", "ip", log, "../../contrib/fail2ban/filter.d/appbind.conf"))
			slices.Sort(got)
			want := []string{"2001:db8::8", "203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.8", "203.0.113.9"}
			if !slices.Equal(got, want) {
				t.Errorf("banned %q, want %q; the log:\n%s", got, want, a.output())
			}
		})
	}
}
