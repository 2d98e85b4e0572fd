package auth

import "testing"

// TestCopiedState: an entry of a copy is judged by the state of the moment before a main password is passed
// through, so that a wrong one reaches the upstream once.
func TestCopiedState(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	password, value := generated(t, nil)
	copied := s.user("alice", aliceMain, value)
	copied.State = State{Fingerprint: "of the moment"}
	stale := *copied
	stale.Copied, stale.State = true, State{Fingerprint: "older"}
	s.entries["copy"] = &stale
	if d := s.bind("copy", password); d.Kind != Accepted || d.App == nil || s.states != 0 {
		t.Errorf("app password: %+v, %d states read", d, s.states)
	}
	for range 3 {
		if d := s.bind("copy", "stale"); d.Kind != InvalidCredentials {
			t.Errorf("stale password: row %d, kind %d", d.Row, d.Kind)
		}
		if d := s.bind("copy", aliceMain); d.Kind != Accepted || d.Row != 15 {
			t.Errorf("main password: row %d, kind %d", d.Row, d.Kind)
		}
	}
	if n := len(s.sent()); n != 4 {
		t.Errorf("%d binds upstream, want three good ones and one stale", n)
	}
	s.stateErr = errTest
	if d := s.bind("copy", "another"); d.Kind != Unavailable || d.Row != 14 {
		t.Errorf("state unreadable: row %d, kind %d", d.Row, d.Kind)
	}
	s.stateErr = ErrNotFound
	if d := s.bind("copy", aliceMain); d.Row != 15 {
		t.Errorf("gone: row %d, kind %d", d.Row, d.Kind)
	}
}
