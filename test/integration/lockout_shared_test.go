package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestRestartsDoNotLock: each restart forgets which passwords are wrong; the
// directory's own count of failures is what must not be forgotten.
func TestRestartsDoNotLock(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Lockout: true})
	for range 6 {
		a := startAppbind(t, baseConfig(s, "", ""))
		expectBind(t, a.uri(), userDN("alice"), "stale-one", 49)
		a.stop(syscall.SIGTERM)
	}
	if n := failureTimes(t, s, "alice"); n > 4 {
		t.Errorf("%d failures at the directory", n)
	}
}

// TestTwoInstancesDoNotLock: neither do several instances add up.
func TestTwoInstancesDoNotLock(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Lockout: true})
	for instance := range 2 {
		a := startAppbind(t, baseConfig(s, "", ""))
		for i := range 3 {
			expectBind(t, a.uri(), userDN("alice"), fmt.Sprint("stale-", i), 49)
		}
		if instance == 0 {
			continue
		}
		if n := failureTimes(t, s, "alice"); n > 4 {
			t.Errorf("%d failures at the directory", n)
		}
		// A login elsewhere clears the directory's count, and so ours.
		if got := simpleBind(t, s.uri(), userDN("alice"), "alice-main"); got != 0 {
			t.Fatalf("direct login: code %d", got)
		}
		expectBind(t, a.uri(), userDN("alice"), "alice-main", 0)
	}
}

// TestUnreadablePolicy: a policy that appbind may not read is taken for the usual one.
func TestUnreadablePolicy(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Lockout: true, HidePolicy: true})
	a := startAppbind(t, baseConfig(s, "", ""))
	for i := range 6 {
		expectBind(t, a.uri(), userDN("alice"), fmt.Sprint("stale-", i), 49)
	}
	if n := failureTimes(t, s, "alice"); n > 4 {
		t.Errorf("%d failures at the directory", n)
	}
	if !strings.Contains(a.output(), "policy is not readable") {
		t.Error("the log does not say that the policy is not readable")
	}
	out := must(t, "", binary, "check", "-c", a.file)
	if !strings.Contains(out, "no lock-out policy is readable") {
		t.Errorf("check says nothing of it:\n%s", out)
	}
}
