package auth

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"appbind/config"
)

// copySite has alice, whose entry is found in a copy that shows the state shown; nil: the present one.
func copySite(t *testing.T, shown *State, change func(*config.Config)) *site {
	s := newSite(t, change)
	s.user("alice", aliceMain)
	s.copied = func(e *Entry) {
		if shown != nil {
			e.State = *shown
		}
	}
	return s
}

// reads is how often the state was read since the last call.
func (s *site) reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.states
	s.states = 0
	return n
}

// TestCopiedWithoutBudget: the state is read where it can decide something, and nowhere else.
func TestCopiedWithoutBudget(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Config){
		"no policy":         nil,
		"no budget wanted":  func(c *config.Config) { c.Fallback.MaxFailures = "0" },
		"nobody is limited": func(c *config.Config) { c.Fallback.MaxFailures = "auto" },
	} {
		s := copySite(t, nil, change)
		password, value := generated(t, nil)
		s.entries["alice"].Values = [][]byte{[]byte(value)}
		s.expect(t, name, s.bind("alice", password), 10, Accepted, ReasonAppPassword)
		if name == "no budget wanted" {
			s.lockout = Lockout{MaxFailures: 5}
		}
		for range 3 {
			s.expect(t, name, s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
		}
		if n := s.reads(); n != 0 {
			t.Errorf("%s: right passwords: %d states read", name, n)
		}
		s.expect(t, name, s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
		if n := s.reads(); n != 1 {
			t.Errorf("%s: a wrong one: %d states read, want the one after it", name, n)
		}
		for range 3 {
			s.expect(t, name, s.bind("alice", "stale"), 14, InvalidCredentials, ReasonKnownBad)
			s.expect(t, name, s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
			s.clock.add(time.Hour) // it is known for good
		}
		if n := s.reads(); n != 6 {
			t.Errorf("%s: while a failure is remembered: %d states read, want one each", name, n)
		}
	}
}

// TestCopiedWithBudget: every password is judged by the state of the moment, the right one too.
func TestCopiedWithBudget(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*site{
		"policy":     copySite(t, nil, nil),
		"configured": copySite(t, nil, func(c *config.Config) { c.Fallback.MaxFailures = "7" }),
	} {
		if name == "policy" {
			s.lockout = Lockout{MaxFailures: 5}
		}
		for range 3 {
			s.expect(t, name, s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
		}
		if n := s.reads(); n != 3 {
			t.Errorf("%s: %d states read, want one each", name, n)
		}
		s.stateErr = errTest
		if d := s.bind("alice", aliceMain); d.Kind != Unavailable || d.Row != 14 || len(s.sent()) != 0 {
			t.Errorf("%s: state unreadable: row %d, kind %d", name, d.Row, d.Kind)
		}
		s.stateErr = ErrNotFound
		s.expect(t, name+", gone", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	}
	// What others failed counts: one more would lock the account.
	s := copySite(t, &State{Fingerprint: "pwdChangedTime:1", Server: "a"}, nil)
	s.lockout = Lockout{MaxFailures: 5}
	s.entries["alice"].State.Failures = 4
	s.expect(t, "used up elsewhere", s.bind("alice", "guess"), 14, InvalidCredentials, ReasonBudget)
}

// TestCopiedBehind: a copy that has not heard of a new password has nothing forgotten, and nothing known for good that is not.
func TestCopiedBehind(t *testing.T) {
	t.Parallel()
	older := State{Fingerprint: "pwdChangedTime:0", Server: "a"}
	s := copySite(t, &older, nil)
	for range 3 {
		s.expect(t, "right", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	}
	s.expect(t, "stale", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
	for range 3 { // copied and present states in turn
		s.expect(t, "stale, known", s.bind("alice", "stale"), 14, InvalidCredentials, ReasonKnownBad)
		s.expect(t, "right", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	}
	s.clock.add(defaultWindow)
	s.expect(t, "not for good", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
	s.clock.add(defaultWindow)
	s.expect(t, "for good", s.bind("alice", "stale"), 14, InvalidCredentials, ReasonKnownBad)

	// A reset takes effect at once, though the copy shows the same as ever.
	s.entries["alice"].State.Fingerprint, s.passwords[aliceDN] = "pwdChangedTime:2", "stale"
	s.expect(t, "after the reset", s.bind("alice", "stale"), 15, Accepted, ReasonMain, aliceDN+" stale")
	s.expect(t, "the old one", s.bind("alice", aliceMain), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" "+aliceMain)
	s.expect(t, "the old one, known", s.bind("alice", aliceMain), 14, InvalidCredentials, ReasonKnownBad)
}

// TestCopiedElsewhere: what one server's copy shows says nothing of what another one refused.
func TestCopiedElsewhere(t *testing.T) {
	t.Parallel()
	s := copySite(t, &State{Fingerprint: "pwdChangedTime:1", Server: "b"}, nil)
	s.expect(t, "stale", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
	s.expect(t, "known", s.bind("alice", "stale"), 14, InvalidCredentials, ReasonKnownBad)
	s.clock.add(defaultWindow)
	s.expect(t, "for the window", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
}

// TestCopiedUnreadable: what failed is remembered though the state after it cannot be read.
func TestCopiedUnreadable(t *testing.T) {
	t.Parallel()
	s := copySite(t, nil, nil)
	s.stateErr = errTest
	s.expect(t, "stale", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
	if d := s.bind("alice", aliceMain); d.Kind != Unavailable || d.Row != 14 {
		t.Errorf("the state decides, and cannot be read: row %d, kind %d", d.Row, d.Kind)
	}
	s.stateErr = nil
	s.expect(t, "known", s.bind("alice", "stale"), 14, InvalidCredentials, ReasonKnownBad)
}

// TestCopiedLock: a copy may not have heard of a lock, nor that one is over.
func TestCopiedLock(t *testing.T) {
	t.Parallel()
	s := copySite(t, &State{Fingerprint: "pwdChangedTime:1", Server: "a"}, nil)
	s.answer = func(string, string) *Answer { return &Answer{Code: 49, Server: "a"} }
	s.entries["alice"].State.Locked = true
	s.expect(t, "locked", s.bind("alice", aliceMain), 15, InvalidCredentials, ReasonLocked, aliceDN+" "+aliceMain)
	s.entries["alice"].State.Locked, s.answer = false, nil
	s.expect(t, "unlocked", s.bind("alice", aliceMain), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)

	s = copySite(t, &State{Fingerprint: "pwdChangedTime:1", Server: "a", Locked: true}, nil)
	s.expect(t, "stale", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
	s.expect(t, "remembered", s.bind("alice", "stale"), 14, InvalidCredentials, ReasonKnownBad)
}

// TestCopiedInParallel: without a policy, too, one bind of fifteen with a wrong password goes upstream, and of those with a
// right one none waits that would not wait by a live lookup. A password that was changed a moment after it was accepted is
// seen to be changed, however far the copy is behind.
func TestCopiedInParallel(t *testing.T) {
	t.Parallel()
	s := copySite(t, &State{Fingerprint: "pwdChangedTime:1", Server: "a"}, nil)
	parallel := func(password string) {
		var wg sync.WaitGroup
		for range 15 {
			wg.Go(func() { s.bind("alice", password) })
		}
		wg.Wait()
	}
	for i := range 20 {
		stale := fmt.Sprint("stale ", i)
		parallel(stale)
		if n := len(s.sent()); n != 1 {
			t.Errorf("%d binds with one wrong password", n)
		}
	}
	parallel(aliceMain)
	if n := len(s.sent()); n != 15 {
		t.Errorf("%d binds with the right password", n)
	}
	s.entries["alice"].State.Fingerprint, s.passwords[aliceDN] = "pwdChangedTime:2", "new"
	parallel(aliceMain)
	if n := len(s.sent()); n != 1 {
		t.Errorf("%d binds with the changed password", n)
	}
}
