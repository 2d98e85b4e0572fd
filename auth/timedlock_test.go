package auth

import (
	"fmt"
	"testing"
	"time"
)

// timedLock is OpenLDAP's ppolicy with pwdMaxFailure 5, pwdFailureCountInterval 0
// and a lock that ends by itself: the failures are not forgotten with it, so that one
// more locks anew.
type timedLock struct {
	s        *site
	failures int
	lockedAt time.Time
	locks    int
}

const timedLockFor = 15 * time.Minute

func (m *timedLock) locked() bool {
	return !m.lockedAt.IsZero() && m.s.clock.now().Before(m.lockedAt.Add(timedLockFor))
}

// publish writes the state as a lookup would read it now.
func (m *timedLock) publish() {
	m.s.entries["alice"].State = State{Fingerprint: "1", Lock: fmt.Sprint(m.lockedAt), Locked: m.locked()}
}

func (m *timedLock) answer(_, password string) *Answer {
	defer m.publish()
	switch {
	case m.locked():
		return &Answer{Code: 49}
	case password == aliceMain:
		m.failures, m.lockedAt = 0, time.Time{}
		return &Answer{}
	}
	if m.failures++; m.failures >= 5 {
		m.lockedAt = m.s.clock.now()
		m.locks++
	}
	return &Answer{Code: 49}
}

// TestTimedLock: somebody locks the account elsewhere. Two phones with old
// passwords ask every minute; when the lock is over they must not lock it anew
// before the user comes.
func TestTimedLock(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.lockout = Lockout{MaxFailures: 5}
	s.user("alice", "")
	m := &timedLock{s: s}
	s.answer = m.answer
	ask := func(password string) Decision {
		s.mu.Lock()
		m.publish()
		s.mu.Unlock()
		return s.bind("alice", password)
	}
	if d := ask(aliceMain); d.Kind != Accepted {
		t.Fatalf("row %d, %q", d.Row, d.Reason)
	}
	for minute := range 3 * 60 {
		for _, stale := range []string{"stale one", "stale two"} {
			if d := ask(stale); d.Kind != InvalidCredentials {
				t.Fatalf("minute %d: row %d, %q", minute, d.Row, d.Reason)
			}
		}
		switch minute {
		case 10:
			s.mu.Lock()
			for range 5 {
				m.answer("", "elsewhere")
			}
			s.mu.Unlock()
			if d := ask(aliceMain); d.Kind != InvalidCredentials || d.Reason != ReasonLocked {
				t.Fatalf("while locked: row %d, %q", d.Row, d.Reason)
			}
		case 60: // the lock was over half an hour ago
			if d := ask(aliceMain); d.Kind != Accepted {
				t.Fatalf("after the lock: row %d, %q", d.Row, d.Reason)
			}
		}
		s.clock.add(time.Minute)
	}
	if m.locks != 1 {
		t.Errorf("locked %d times, want once", m.locks)
	}
}
