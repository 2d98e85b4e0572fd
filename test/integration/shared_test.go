package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// TestSharedPaging: two clients of one service account page through the users
// at once. A cookie belongs to its connection, so each gets one of its own, and
// all pages; searches of others go on over shared links meanwhile.
func TestSharedPaging(t *testing.T) {
	t.Parallel()
	var ldif strings.Builder
	for i := range 60 {
		fmt.Fprintf(&ldif, "dn: uid=page%02d,%s\nobjectClass: inetOrgPerson\nuid: page%02d\ncn: P\nsn: P\n\n", i, people, i)
	}
	s := startSlapd(t, slapdOptions{LDIF: ldif.String()})
	a := startAppbind(t, baseConfig(s, "", ""))
	var wg sync.WaitGroup
	for range 2 {
		c := bound(t, a.uri(), mailDN, mailPW)
		wg.Go(func() {
			paging := ldap.NewControlPaging(7)
			seen := map[string]bool{}
			for {
				r, err := search(c, people, "(uid=page*)", []string{"uid"}, paging)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range r.Entries {
					if seen[e.DN] {
						t.Errorf("%s twice", e.DN)
					}
					seen[e.DN] = true
				}
				next, ok := ldap.FindControl(r.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
				if !ok || len(next.Cookie) == 0 {
					break
				}
				paging.SetCookie(next.Cookie)
			}
			if len(seen) != 60 {
				t.Errorf("%d of 60 entries", len(seen))
			}
		})
		other := bound(t, a.uri(), mailDN, mailPW)
		wg.Go(func() {
			for range 100 {
				if r, err := search(other, people, "(uid=alice)", []string{"mail"}); err != nil || len(r.Entries) != 1 {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestSharedStorm: many clients of one service account cost slapd a few connections.
func TestSharedStorm(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(s, "", ""))
	clients := make([]*ldap.Conn, 100)
	for i := range clients {
		clients[i] = bound(t, a.uri(), mailDN, mailPW)
	}
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			for range 20 {
				if r, err := search(c, people, "(uid=alice)", []string{"mail"}); err != nil || len(r.Entries) != 1 {
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	log := s.log()
	searched := map[string]bool{}
	for line := range strings.SplitSeq(log, "\n") {
		if _, rest, ok := strings.Cut(line, "conn="); ok && strings.Contains(line, `filter="(uid=alice)"`) {
			number, _, _ := strings.Cut(rest, " ")
			searched[number] = true
		}
	}
	if len(searched) == 0 || len(searched) > 2 {
		t.Errorf("the searches of %d clients came over %d connections", len(clients), len(searched))
	}
	if n := s.bindsOf(mailDN); n < len(clients) {
		t.Errorf("%d binds upstream of %d clients", n, len(clients))
	}
}
