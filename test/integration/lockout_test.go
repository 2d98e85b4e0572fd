package integration

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
)

// TestRevokedNeverLocks: ten thousand binds with revoked app passwords leave
// no trace at the directory, and stale main passwords do not lock the account.
func TestRevokedNeverLocks(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Lockout: true})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	const clients, each = 8, 1250
	revoked := newPassword(t, "revoked")
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c := dial(t, a.uri())
			for range each {
				if got := code(t, c.Bind(userDN("alice"), revoked.Password)); got != 49 {
					t.Errorf("revoked app password: code %d", got)
					return
				}
			}
		})
	}
	wg.Wait()
	if trace := failureTimes(t, s, "alice"); trace != 0 {
		t.Errorf("%d failures at the directory after %d binds with a revoked app password", trace, clients*each)
	}
	for range 20 {
		expectBind(t, a.uri(), userDN("alice"), "stale-one", 49)
		expectBind(t, a.uri(), userDN("alice"), "stale-two", 49)
	}
	if trace := failureTimes(t, s, "alice"); trace > 2 {
		t.Errorf("%d failures at the directory after two stale passwords, want 2", trace)
	}
	expectBind(t, a.uri(), userDN("alice"), "alice-main", 0)
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
}

// failureTimes counts the failures that the directory remembers of a user.
func failureTimes(t testing.TB, s *slapd, uid string) int {
	t.Helper()
	out := must(t, "", "ldapsearch", "-x", "-LLL", "-H", s.uri(), "-D", adminDN, "-w", adminPW, "-b", userDN(uid), "-s", "base", "pwdFailureTime", "pwdAccountLockedTime")
	if strings.Contains(out, "pwdAccountLockedTime") {
		t.Errorf("%s is locked", uid)
	}
	return strings.Count(out, "pwdFailureTime:")
}

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// decider is the decision over a real directory, on a clock of the test's.
type decider struct {
	*auth.Verifier
	upstream *backend.Upstream
}

// newDecider loads a configuration for slapd and connects.
func newDecider(t testing.TB, s *slapd, now func() time.Time) *decider {
	t.Helper()
	file := shortDir(t) + "/appbind.yaml"
	write(t, file, baseConfig(s, "", ""))
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	up, err := backend.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	up.Start(context.Background())
	t.Cleanup(up.Close)
	return &decider{auth.New(cfg, up, auth.NewMemory(now), log), up}
}

// Bind is auth.Binder: one bind on a link of the pool.
func (d *decider) Bind(ctx context.Context, dn string, password auth.Password) (*auth.Answer, error) {
	link, err := d.upstream.BindLink(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := link.Bind(ctx, dn, password, nil)
	if err != nil {
		link.Close()
		return nil, err
	}
	d.upstream.Release(link)
	return answer, nil
}

// try is one bind of a user.
func (d *decider) try(uid, password string) auth.Decision {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return d.Verify(ctx, auth.Bind{Name: userDN(uid), Password: auth.Password(password), Secure: true,
		Listener: auth.Listener{Anonymous: true, Fallback: "inherit", TOTP: "inherit"}}, d)
}

// TestSevenDays: pwdMaxFailure 5, failures never forgotten; two phones with
// stale main passwords ask every minute for a week. The account stays
// unlocked, an administrator's unlock and a password reset count at once, and
// the right main password is never refused.
func TestSevenDays(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Lockout: true})
	c := &clock{now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	d := newDecider(t, s, c.time)
	right := "alice-main"
	expect := func(password string, kind auth.Kind) {
		t.Helper()
		if got := d.try("alice", password); got.Kind != kind {
			t.Fatalf("%v: bind: kind %v, want %v (row %d, %s, %v)", c.time(), got.Kind, kind, got.Row, got.Reason, got.Err)
		}
	}
	for minute := range 7 * 24 * 60 {
		c.advance(time.Minute)
		expect("stale-one", auth.InvalidCredentials)
		expect("stale-two", auth.InvalidCredentials)
		switch {
		case minute == 3*24*60: // reset by an administrator
			right = "alice-reset"
			s.modify(fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: userPassword\nuserPassword: %s\n", userDN("alice"), right))
			expect(right, auth.Accepted)
			expect("alice-main", auth.InvalidCredentials)
		case minute == 5*24*60: // locked by somebody who does not come through appbind, then unlocked
			for range 5 {
				simpleBind(t, s.uri(), userDN("alice"), "guess")
			}
			expect(right, auth.InvalidCredentials)
			s.modify(fmt.Sprintf("dn: %s\nchangetype: modify\ndelete: pwdAccountLockedTime\n", userDN("alice")))
			expect(right, auth.Accepted)
		case minute%360 == 0:
			expect(right, auth.Accepted)
		}
	}
	if trace := failureTimes(t, s, "alice"); trace > 4 {
		t.Errorf("%d failures at the directory after a week", trace)
	}
	expect(right, auth.Accepted)
}
