package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// replicaOn has users held in memory, and no outage mode.
const replicaOn = "app_passwords: {lookup: replica, max_stale: 0s}\n"

// TestReplica: binds with app passwords cost the directory nothing, a revocation
// counts within a second, and with the directory stopped nobody is told that a
// password is wrong.
func TestReplica(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Sync: true, Lockout: true})
	phone, tablet := newPassword(t, "phone"), newPassword(t, "tablet")
	s.addSecret("alice", phone.Value)
	s.addSecret("alice", tablet.Value)
	yaml := replaceOnce(t, baseConfig(s, "", replicaOn), "users:\n", "users:\n  name_filter: (|(uid=%s)(mail=%s))\n")
	a := startAppbind(t, yaml)
	eventually(t, "the replica is current", func() bool { return strings.Contains(a.output(), "replica is current") })

	asked := func() int { return strings.Count(s.log(), " SRCH base=") - probes(s.output()) }
	before := asked()
	for range 50 {
		expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
		expectBind(t, a.uri(), "ALICE@example.org", tablet.Password, 0)
	}
	if n := asked() - before; n != 0 {
		t.Errorf("100 binds with app passwords cost %d searches", n)
	}
	expectBind(t, a.uri(), userDN("alice"), "alice-main", 0)
	expectBind(t, a.uri(), "userid=alice,"+people, phone.Password, 0)
	expectBind(t, a.uri(), userDN("carol"), "carol-main", 49)
	expectBind(t, a.uri(), userDN("nobody"), "x", 49)
	binds := s.bindsOf(userDN("bob"))
	for range 20 { // a stale password reaches the directory once, though slapd does not tell of its failure counters
		expectBind(t, a.uri(), userDN("bob"), "stale", 49)
		expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
	}
	if n := s.bindsOf(userDN("bob")) - binds; n != 21 {
		t.Errorf("%d binds as bob, want 20 good ones and one stale", n)
	}

	s.removeSecret("alice", phone.Value)
	revoked := time.Now()
	eventually(t, "the revocation counts", func() bool { return bindOnce(a.uri(), userDN("alice"), phone.Password) == 49 })
	if d := time.Since(revoked); d > time.Second {
		t.Errorf("a revoked password was refused after %v", d)
	}
	for range 50 {
		expectBind(t, a.uri(), userDN("alice"), phone.Password, 49)
		expectBind(t, a.uri(), userDN("alice"), tablet.Password, 0)
	}

	s.signal(syscall.SIGSTOP)
	within(t, "the copy is not used any more", 40*time.Second, func() bool {
		got := bindOnce(a.uri(), userDN("alice"), tablet.Password)
		if got == 49 {
			t.Error("a right password is told wrong")
		}
		if bindOnce(a.uri(), userDN("alice"), phone.Password) == 0 {
			t.Error("a revoked password is accepted")
		}
		return got == 52
	})
	current := strings.Count(a.output(), "replica is current")
	s.signal(syscall.SIGCONT)
	eventually(t, "the replica is current again", func() bool { return strings.Count(a.output(), "replica is current") > current })
	expectBind(t, a.uri(), userDN("alice"), tablet.Password, 0)

	out := command(t, "", binary, "check", "-c", a.file).out
	if want := "replica            holds 3 users"; !strings.Contains(out, want) {
		t.Errorf("check does not say %q:\n%s", want, out)
	}
	canaryFree(t, a.output(), phone.Password, tablet.Password)
}

// probes are the searches that appbind makes by itself: for currency and health.
func probes(log string) int {
	n := 0
	for _, line := range strings.Split(log, "\n") {
		own := fmt.Sprintf(`SRCH base="%s" scope=0`, people)
		if strings.Contains(line, `SRCH base="`+suffix+`" scope=0`) || strings.Contains(line, own) || strings.Contains(line, `SRCH base="" scope=0`) {
			n++
		}
	}
	return n
}

// within is eventually with a limit of its own.
func within(t testing.TB, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timeout: %s", what)
		}
	}
}
