package auth

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"appbind/config"
)

// TestTroubleAtEveryStep makes each call fail in turn, with the right password: the answer is never
// "wrong password" and never success.
func TestTroubleAtEveryStep(t *testing.T) {
	t.Parallel()
	steps := []struct {
		name   string
		break_ func(*site)
		row    int
		login  string
	}{
		{"find", func(s *site) { s.findErr = errTest }, 5, "alice"},
		{"find, nobody", func(s *site) { s.findErr = errTest }, 5, "nobody"},
		{"find gives nothing", func(s *site) { s.entries["alice"] = &Entry{DN: aliceDN} }, 5, "alice"},
		{"filter", func(s *site) { s.denyErr = errTest }, 12, "alice"},
		{"bind", func(s *site) { s.bindErr = errTest }, 15, "alice"},
		{"bind without an answer", func(s *site) { s.answer = func(string, string) *Answer { return nil } }, 15, "alice"},
		{"bind, not a user", func(s *site) { s.bindErr = errTest }, 7, "printer"},
		{"bind, listed", func(s *site) { s.bindErr = errTest }, 4, "cn=dovecot,dc=example"},
		{"bind, nobody", func(s *site) { s.bindErr = errTest }, 6, "nobody"},
		{"bind, disabled", func(s *site) { s.bindErr = errTest }, 8, "carol"},
	}
	for _, code := range []int32{1, 2, 3, 7, 8, 10, 11, 12, 13, 14, 34, 48, 51, 52, 54, 71, 80, 4096, -1, 16, 20, 36} {
		steps = append(steps, struct {
			name   string
			break_ func(*site)
			row    int
			login  string
		}{fmt.Sprintf("code %d", code), func(s *site) { s.answer = func(string, string) *Answer { return &Answer{Code: code} } }, 15, "alice"})
	}
	for _, code := range []int32{19, 50, 53} {
		steps = append(steps, struct {
			name   string
			break_ func(*site)
			row    int
			login  string
		}{fmt.Sprintf("code %d, state unreadable", code), func(s *site) {
			s.answer, s.stateErr = func(string, string) *Answer { return &Answer{Code: code} }, errTest
		}, 15, "alice"})
	}
	for _, tt := range steps {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, func(c *config.Config) { c.Fallback.DenyFilter = "(x=y)" })
			s.user("alice", aliceMain, totpValue)
			s.user("carol", aliceMain).Eligible = false
			s.entries["printer"] = &Entry{Key: "k", DN: "cn=printer,dc=example"}
			tt.break_(s)
			password := aliceMain
			if tt.login == "alice" {
				password += "$" + s.code(t)
			}
			d := s.bind(tt.login, password)
			if d.Kind != Unavailable || d.Row != tt.row || d.Err == nil || d.DN != "" {
				t.Errorf("row %d, kind %d, %q, error %v", d.Row, d.Kind, d.Reason, d.Err)
			}
			if n := len(s.sent()); n > 1 {
				t.Errorf("%d binds", n)
			}
			// Nothing was learnt: mended, the same password and code log in.
			s.findErr, s.denyErr, s.bindErr, s.stateErr, s.answer = nil, nil, nil, nil, nil
			s.user("alice", aliceMain, totpValue)
			if tt.login == "alice" {
				if d := s.bind("alice", password); d.Kind != Accepted {
					t.Errorf("afterwards: row %d, kind %d, %q", d.Row, d.Kind, d.Reason)
				}
			}
		})
	}
}

// TestAnswers: 19, 50 and 53 are a refusal only where the entry shows a lock.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, code := range []int32{0, 32, 49, 19, 50, 53} {
		for _, locked := range []bool{false, true} {
			s := newSite(t, nil)
			s.user("alice", aliceMain)
			s.state = func(*Entry) State { return State{Fingerprint: "x", Locked: locked} }
			s.answer = func(string, string) *Answer { return &Answer{Code: code} }
			want := InvalidCredentials
			switch {
			case code == 0:
				want = Accepted
			case code != 32 && code != 49 && !locked:
				want = Unavailable
			}
			d := s.bind("alice", "x")
			if d.Kind != want || d.Answer == nil || d.Answer.Code != code {
				t.Errorf("code %d, locked %v: kind %d, answer %v", code, locked, d.Kind, d.Answer)
			}
		}
	}
	for _, code := range []int32{0, 32, 49, 19, 50, 53, 52, 10} { // somebody who is no user has no lock to look at
		s := newSite(t, nil)
		s.answer = func(string, string) *Answer { return &Answer{Code: code} }
		want := map[int32]Kind{0: Accepted, 32: InvalidCredentials, 49: InvalidCredentials}[code]
		if code != 0 && code != 32 && code != 49 {
			want = Unavailable
		}
		if d := s.bind("cn=dovecot,dc=example", "x"); d.Kind != want || s.states > 0 {
			t.Errorf("service, code %d: kind %d", code, d.Kind)
		}
	}
}

// TestStateFailsAfterRefusal: the upstream verified the password, so 49 it is; only the memory of it is short.
func TestStateFailsAfterRefusal(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	s.stateErr = errTest
	s.expect(t, "first", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
	s.expect(t, "again", s.bind("alice", "stale"), 14, InvalidCredentials, ReasonKnownBad)
	s.clock.add(15 * time.Minute)
	s.expect(t, "after the window", s.bind("alice", "stale"), 15, InvalidCredentials, ReasonUpstreamRefused, aliceDN+" stale")
}

// TestDeadContext: a bind whose time is over is not decided, and nothing is sent.
func TestDeadContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errTest)
	for _, name := range []string{"alice", "nobody", "cn=dovecot,dc=example"} {
		s := newSite(t, nil)
		s.user("alice", aliceMain)
		d := s.v.Verify(ctx, request(name, aliceMain), s.upstream)
		if d.Kind != Unavailable || len(s.sent()) > 0 {
			t.Errorf("%s: row %d, kind %d", name, d.Row, d.Kind)
		}
	}
}

// TestHungBind: while the upstream hangs on one password, others with it wait no longer than their own deadline.
func TestHungBind(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	hang := hungBinder{sent: make(chan struct{}), over: make(chan struct{})}
	first := make(chan Decision)
	go func() { first <- s.v.Verify(context.Background(), request("alice", aliceMain), hang) }()
	<-hang.sent
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if d := s.v.Verify(ctx, request("alice", aliceMain), s.upstream); d.Kind != Unavailable || d.Row != 14 || !errors.Is(d.Err, context.DeadlineExceeded) {
		t.Errorf("row %d, kind %d, %v", d.Row, d.Kind, d.Err)
	}
	close(hang.over)
	if d := <-first; d.Kind != Unavailable {
		t.Errorf("kind %d", d.Kind)
	}
	if d := s.bind("alice", aliceMain); d.Kind != Accepted {
		t.Errorf("afterwards: row %d, kind %d", d.Row, d.Kind)
	}
}

// hungBinder takes a bind and gives no answer until it is over.
type hungBinder struct{ sent, over chan struct{} }

func (h hungBinder) Bind(context.Context, string, Password) (*Answer, error) {
	close(h.sent)
	<-h.over
	return nil, errTest
}

// TestPanicLeavesNothingBehind: a panic in the upstream's code ends that bind only.
func TestPanicLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		s.v.Verify(context.Background(), request("alice", aliceMain), binderFunc(func() *Answer { panic("made up") }))
	}()
	if d := s.bind("alice", aliceMain); d.Kind != Accepted {
		t.Errorf("afterwards: row %d, kind %d", d.Row, d.Kind)
	}
}

type binderFunc func() *Answer

func (f binderFunc) Bind(context.Context, string, Password) (*Answer, error) { return f(), nil }
