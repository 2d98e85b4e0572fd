package integration

import (
	"fmt"
	"strings"
	"testing"
)

// TestReplicaMainPasswords: with the users in memory, a right main password costs the directory the bind and nothing else, as
// long as the directory has no lock-out policy and nothing failed. What failed is forwarded once, and a new password counts at once.
func TestReplicaMainPasswords(t *testing.T) {
	t.Parallel()
	s, a := replicaSite(t, slapdOptions{Sync: true})
	right := func(times int) {
		t.Helper()
		for range times {
			expectBind(t, a.uri(), userDN("alice"), "alice-main", 0)
		}
	}
	before, binds := s.readsOf(userDN("alice")), s.bindsOf(userDN("alice"))
	right(10)
	if n := s.readsOf(userDN("alice")) - before; n != 0 {
		t.Errorf("10 right passwords cost %d searches", n)
	}
	for range 5 {
		expectBind(t, a.uri(), userDN("alice"), "stale", 49)
		expectBind(t, a.uri(), userDN("alice"), "alice-new", 49) // too early
	}
	right(1)
	if n := s.bindsOf(userDN("alice")) - binds; n != 13 {
		t.Errorf("%d binds, want 11 right ones and each wrong one once", n)
	}
	s.modify(fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: userPassword\nuserPassword: alice-new\n", userDN("alice")))
	expectBind(t, a.uri(), userDN("alice"), "alice-new", 0)
	binds = s.bindsOf(userDN("alice"))
	for range 5 {
		expectBind(t, a.uri(), userDN("alice"), "alice-main", 49)
	}
	if n := s.bindsOf(userDN("alice")) - binds; n != 1 {
		t.Errorf("the old password went upstream %d times", n)
	}
}

// TestReplicaMainPasswordsLockout: where the directory locks accounts, it is asked what it counts before each main password.
func TestReplicaMainPasswordsLockout(t *testing.T) {
	t.Parallel()
	s, a := replicaSite(t, slapdOptions{Sync: true, Lockout: true})
	before := s.readsOf(userDN("alice"))
	for range 10 {
		expectBind(t, a.uri(), userDN("alice"), "alice-main", 0)
	}
	if n := s.readsOf(userDN("alice")) - before; n != 10 {
		t.Errorf("10 main passwords and %d looks at the state", n)
	}
	for i := range 4 { // somebody who does not come this way
		simpleBind(t, s.uri(), userDN("alice"), fmt.Sprint("elsewhere-", i))
	}
	for i := range 10 {
		expectBind(t, a.uri(), userDN("alice"), fmt.Sprint("guess-", i), 49)
	}
	if n := failureTimes(t, s, "alice"); n != 4 {
		t.Errorf("%d failures at the directory, of 5 that lock", n)
	}
	expectBind(t, a.uri(), userDN("alice"), "alice-main", 0)
}

// replicaSite starts a directory and appbind, which holds its users.
func replicaSite(t *testing.T, opts slapdOptions) (*slapd, *appbind) {
	s := startSlapd(t, opts)
	a := startAppbind(t, baseConfig(s, "", replicaOn))
	eventually(t, "the replica is current", func() bool { return strings.Contains(a.output(), "replica is current") })
	return s, a
}

// readsOf counts the base searches of this entry that the server has got, as bindsOf counts binds.
func (s *slapd) readsOf(dn string) int {
	s.t.Helper()
	return strings.Count(s.log(), `SRCH base="`+dn+`" scope=0`)
}
