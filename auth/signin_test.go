package auth

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/config"
	"appbind/secrets"
)

func (s *site) signIn(name, password string) Decision {
	return s.v.SignIn(context.Background(), name, Password(password), Client{Addr: netip.MustParseAddr("192.0.2.7")}, s.upstream)
}

// TestSignIn: the main password opens, and nothing else does.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *config.Config) { c.Fallback.Mode, c.Fallback.DenyFilter = "deny", "(a=b)" })
	phone, phoneValue := generated(t, nil)
	s.user("alice", aliceMain, totpValue, phoneValue, "$app$legacy$"+ssha("legacy password"))
	s.denied[aliceDN] = true
	s.user("bob", "bob's password").Eligible = false
	s.user("admin", "admin secret").User = false
	for _, c := range []struct {
		name, password string
		row            int
		kind           Kind
		reason         string
		sent           []string
	}{
		{"", "", 1, EmptyPassword, ReasonEmptyPassword, nil},
		{"alice", "", 1, EmptyPassword, ReasonEmptyPassword, nil},
		{" ", "x", 1, EmptyPassword, ReasonEmptyPassword, nil},
		{"alice", strings.Repeat("x", 1025), 9, InvalidCredentials, ReasonTooLong, nil},
		{"cn=dovecot,dc=example", "dovecot secret", 6, InvalidCredentials, ReasonNotFound, []string{"absent"}},
		{"admin", "admin secret", 7, InvalidCredentials, ReasonNotUser, []string{"absent"}},
		{"bob", "bob's password", 8, InvalidCredentials, ReasonIneligible, []string{"absent"}},
		{"nobody", "x", 6, InvalidCredentials, ReasonNotFound, []string{"absent"}},
		{"alice", phone, 10, InvalidCredentials, ReasonAppSignIn, nil},
		{"alice", "legacy password", 10, InvalidCredentials, ReasonAppSignIn, nil},
		{"alice", phoneValue, 9, InvalidCredentials, ReasonStoredSecret, nil},
		{"alice", "wrong", 15, InvalidCredentials, ReasonUpstreamRefused, []string{aliceDN + " wrong"}},
		{"alice", "wrong", 14, InvalidCredentials, ReasonKnownBad, nil},
		{"alice", aliceMain, 15, Accepted, ReasonMain, []string{aliceDN + " " + aliceMain}},
	} {
		d := s.signIn(c.name, c.password)
		s.expect(t, c.name+"/"+c.reason, d, c.row, c.kind, c.reason, c.sent...)
		if d.App != nil || d.Kind != Accepted && d.DN != "" {
			t.Errorf("%s: an identity without an accepted main password: %q %v", c.reason, d.DN, d.App)
		}
	}
	s.bindErr = errTest
	s.expect(t, "trouble", s.signIn("alice", "another"), 15, Unavailable, ReasonUpstream, aliceDN+" another")
}

// TestSignInSharesBudget: what fails at binds is not tried at sign-in, and the other way round.
func TestSignInSharesBudget(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	s.lockout = Lockout{MaxFailures: 4}
	s.signIn("alice", "a")
	s.bind("alice", "b")
	s.sent()
	s.expect(t, "bind", s.bind("alice", "a"), 14, InvalidCredentials, ReasonKnownBad)
	s.expect(t, "sign-in", s.signIn("alice", "b"), 14, InvalidCredentials, ReasonKnownBad)
	s.expect(t, "sign-in", s.signIn("alice", "c"), 14, InvalidCredentials, ReasonBudget)
}

func TestSpendCode(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	e := s.user("alice", aliceMain, totpValue)
	values := []*secrets.Value{secrets.Parse([]byte("$app$x$")), secrets.Parse([]byte(totpValue))}
	spend := func(code string) error { _, _, err := s.v.SpendCode(e.Key, values, code); return err }

	code := s.code(t)
	var accepted atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if spend(code) == nil {
				accepted.Add(1)
			}
		})
	}
	wg.Wait()
	if accepted.Load() != 1 {
		t.Errorf("accepted %d times", accepted.Load())
	}
	s.expect(t, "at a bind", s.bind("alice", aliceMain+"$"+code), 13, InvalidCredentials, ReasonCodeUsed)
	s.clock.add(5 * time.Minute)
	code = s.code(t)
	s.expect(t, "at a bind", s.bind("alice", aliceMain+"$"+code), 15, Accepted, ReasonMain, aliceDN+" "+aliceMain)
	if err := spend(code); !errors.Is(err, ErrCodeUsed) {
		t.Errorf("used at a bind: %v", err)
	}
	for i, wrong := range []string{"", "12345", "00" + code, "abcdef", "0000000"} {
		if err := spend(wrong); !errors.Is(err, ErrCodeWrong) {
			t.Errorf("wrong %d: %v", i, err)
		}
	}
	s.clock.add(30 * time.Second)
	if err := spend(s.code(t)); !errors.Is(err, ErrCodeThrottled) {
		t.Errorf("after five wrong ones: %v", err)
	}
	s.clock.add(5 * time.Minute)
	if err := spend(s.code(t)); err != nil {
		t.Error(err)
	}
	if _, _, err := s.v.SpendCode(e.Key, nil, s.code(t)); !errors.Is(err, ErrCodeWrong) {
		t.Errorf("nothing enrolled: %v", err)
	}
}
