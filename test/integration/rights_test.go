package integration

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestRightsLost: appbind's own identity loses its right to read the users, by one line of the access rules, or the
// server its users. Nobody is told a wrong password, and logins come back by themselves.
func TestRightsLost(t *testing.T) {
	t.Parallel()
	for _, lookup := range []string{"live", "replica"} {
		t.Run(lookup, func(t *testing.T) {
			t.Parallel()
			s := startSlapd(t, slapdOptions{Sync: lookup == "replica"})
			phone := newPassword(t, "phone")
			s.addSecret("alice", phone.Value)
			yaml := baseConfig(s, "", "app_passwords: {lookup: "+lookup+"}\n")
			a := startAppbind(t, replaceOnce(t, yaml, "users:\n", "users:\n  name_filter: (|(uid=%s)(mail=%s))\n"))
			rules, err := os.ReadFile(s.config())
			if err != nil {
				t.Fatal(err)
			}
			with := func(rules string) {
				s.stop(syscall.SIGTERM)
				write(t, s.config(), rules)
				s.run()
			}
			binds := func(known, unknown int) {
				t.Helper()
				eventually(t, "a bind is answered as it must be", func() bool {
					got := bindOnce(a.uri(), userDN("alice"), phone.Password)
					if got == 49 {
						t.Fatal("a right password is told wrong")
					}
					// In the outage before it the copy answers for alice, and nobody for the unknown.
					return got == known && bindOnce(a.uri(), userDN("nobody"), "x") == unknown
				})
				for range 3 {
					expectBind(t, a.uri(), userDN("alice"), phone.Password, known)
					expectBind(t, a.uri(), "alice@example.org", phone.Password, known)
					expectBind(t, a.uri(), "userid=alice,"+people, "alice-main", known)
					expectBind(t, a.uri(), userDN("nobody"), "x", unknown)
					expectBind(t, a.uri(), "nobody@example.org", "x", unknown)
				}
			}
			binds(0, 49)
			mine := `dn.exact="` + serviceDN + `"`
			for what, rule := range map[string]string{
				"everything is hidden":                "access to * by " + mine + " none by * break\n",
				"the users are hidden":                `access to dn.subtree="` + people + `" by ` + mine + " none by * break\n",
				"they can be disclosed, and not read": `access to dn.subtree="` + people + `" by ` + mine + " disclose by * break\n",
				"they can be searched, and not read":  `access to dn.subtree="` + people + `" by ` + mine + " search by * break\n",
			} {
				t.Log(what)
				with(replaceOnce(t, string(rules), "access to attrs=appPassword\n", rule+"access to attrs=appPassword\n"))
				binds(52, 52)
				with(string(rules))
				binds(0, 49)
			}
			if !strings.Contains(a.output(), "users.bases cannot be seen") {
				t.Error("the log does not say why")
			}
			canaryFree(t, a.output(), phone.Password)
		})
	}
}
