package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestAccountEnds: an account whose end date (shadowExpire) is over logs in with no password, as it ends and begins again, live and from a copy.
func TestAccountEnds(t *testing.T) {
	t.Parallel()
	for _, lookup := range []string{"live", "replica"} {
		t.Run(lookup, func(t *testing.T) {
			t.Parallel()
			s := startSlapd(t, slapdOptions{Sync: true})
			phone := newPassword(t, "phone")
			s.addSecret("alice", phone.Value)
			a := startAppbind(t, strings.Replace(baseConfig(s, "", "app_passwords: {lookup: "+lookup+"}\n"), "(!(employeeType=disabled))", "auto", 1))
			today := time.Now().Unix() / (24 * 60 * 60)
			change := "objectClass: shadowAccount\n-\nadd: shadowExpire"
			for _, c := range []struct {
				day  int64
				want int
			}{{today + 2, 0}, {today - 1, 49}, {-1, 0}, {1, 49}} {
				if c.day == today+2 {
					change = "add: objectClass\n" + change
				} else {
					change = "replace: shadowExpire"
				}
				must(t, fmt.Sprintf("dn: %s\nchangetype: modify\n%s\nshadowExpire: %d\n", userDN("alice"), change, c.day), "ldapmodify", "-x", "-H", s.uri(), "-D", adminDN, "-w", adminPW)
				for _, password := range []string{phone.Password, "alice-main"} {
					eventually(t, fmt.Sprintf("shadowExpire %d is answered with %d", c.day, c.want), func() bool {
						return as(t, a.uri(), userDN("alice"), password, "", "ldapwhoami").code == c.want
					})
				}
			}
			if out := must(t, "", binary, "explain", "-c", a.file, "--dn", userDN("alice")); !strings.Contains(out, "ends      1970-01-02T00:00:00Z: may not log in\n") {
				t.Errorf("explain:\n%s", out)
			}
		})
	}
}
