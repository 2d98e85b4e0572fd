package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// isUp polls a server's health.
func isUp(t *testing.T, u *Upstream, i int, want bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); u.Info().Servers[i].Up != want; {
		if time.Now().After(deadline) {
			t.Fatalf("server %d: up is %v", i, !want)
		}
	}
}

// isDown polls until a server is known to be down, not merely suspect.
func isDown(t *testing.T, u *Upstream, i int) {
	t.Helper()
	health := func() health {
		u.healthMu.Lock()
		defer u.healthMu.Unlock()
		return u.servers[i].health
	}
	for deadline := time.Now().Add(5 * time.Second); health() != down; {
		if time.Now().After(deadline) {
			t.Fatalf("server %d: health %d", i, health())
		}
	}
}

// servedBy is which server answers a bind.
func servedBy(t *testing.T, u *Upstream) string {
	t.Helper()
	answer, l, err := u.Bind(testContext(t, 5*time.Second), alice, auth.Password("alicepw"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Release(l)
	if answer.Code != 0 {
		t.Errorf("code %d", answer.Code)
	}
	return l.Server()
}

func TestFailoverAndRecovery(t *testing.T) {
	a := fake(t, fakeldap.Options{Handler: directory().Handle})
	b := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := upstream(t, testConfig(urlOf(a), urlOf(b)))
	if got := servedBy(t, u); !strings.HasSuffix(got, a.Addr()) {
		t.Fatalf("served by %s, want the first", got)
	}
	a.Pause()
	isUp(t, u, 0, false) // the loss of idle links is enough to have it examined
	if got := servedBy(t, u); !strings.HasSuffix(got, b.Addr()) {
		t.Fatalf("served by %s, want the second", got)
	}
	e, err := u.Find(testContext(t, 5*time.Second), alice)
	if err != nil || !e.Eligible {
		t.Fatalf("lookup on the second: %+v, %v", e, err)
	}
	// Who showed a state, and who answered a bind, is told by the same name.
	st, err := u.State(testContext(t, 5*time.Second), e)
	if got := servedBy(t, u); err != nil || e.State.Server != got || st.Server != got {
		t.Errorf("the state is of %q and %q, the bind of %q, %v", e.State.Server, st.Server, got, err)
	}
	if err := a.Resume(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	isUp(t, u, 0, true)
	if took := time.Since(start); took > 1100*time.Millisecond {
		t.Errorf("recovery was noticed after %v", took)
	}
	if got := servedBy(t, u); !strings.HasSuffix(got, a.Addr()) {
		t.Errorf("served by %s after recovery, want the first", got)
	}
}

// With every server known to be down everything fails at once, as trouble.
func TestAllDown(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	s.Pause()
	u := upstream(t, testConfig(urlOf(s)))
	isUp(t, u, 0, false)
	start := time.Now()
	for range 100 {
		_, err := u.BindLink(testContext(t, 5*time.Second))
		unavailable(t, err)
		_, err = u.Find(testContext(t, 5*time.Second), alice)
		unavailable(t, err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("200 failures took %v", took)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	isUp(t, u, 0, true)
	if _, err := u.Find(testContext(t, 5*time.Second), alice); err != nil {
		t.Errorf("first lookup after recovery: %v", err)
	}
}

func TestSpread(t *testing.T) {
	a := fake(t, fakeldap.Options{Handler: directory().Handle})
	b := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(a), urlOf(b))
	cfg.Upstream.Balance = "spread"
	u := upstream(t, cfg)
	seen := map[string]int{}
	for range 10 {
		seen[servedBy(t, u)]++
	}
	if len(seen) != 2 {
		t.Errorf("binds went to %v", seen)
	}
}

// A server that is stopped still accepts connections: it costs one timeout,
// the second server answers within the caller's time, and the probe finds out.
func TestSilentServer(t *testing.T) {
	dir := directory()
	a := fake(t, fakeldap.Options{Handler: dir.Handle})
	b := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(a), urlOf(b))
	cfg.Upstream.ConnectTimeout = config.Duration(200 * time.Millisecond)
	u := upstream(t, cfg)
	if _, err := u.Find(testContext(t, 5*time.Second), alice); err != nil {
		t.Fatal(err)
	}
	a.SetHandler(nil)
	start := time.Now()
	if _, err := u.Find(testContext(t, time.Second), alice); err != nil {
		t.Errorf("lookup with the first server silent: %v after %v", err, time.Since(start))
	}
	isDown(t, u, 0) // a probe found out, since it still accepts connections
	start = time.Now()
	if got := servedBy(t, u); !strings.HasSuffix(got, b.Addr()) {
		t.Errorf("served by %s", got)
	}
	if took := time.Since(start); took > 150*time.Millisecond {
		t.Errorf("a server known to be down still cost %v", took)
	}
	a.SetHandler(dir.Handle)
	isUp(t, u, 0, true)
}

// A lookup that is answered busy or unavailable goes to the next server; other codes are final, 49 included.
func TestLookupNextServer(t *testing.T) {
	for code, want := range map[int32]int{wire.ResultBusy: 1, wire.ResultUnavailable: 1,
		wire.ResultInvalidCredentials: 0, wire.ResultOther: 0, wire.ResultReferral: 0} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			a := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, code) })})
			b := fake(t, fakeldap.Options{Handler: directory().Handle})
			u := upstream(t, testConfig(urlOf(a), urlOf(b)))
			n := 0
			r, err := u.ServiceSearch(testContext(t, 5*time.Second), u.lookup.search(alice, wire.ScopeBase, presentObjectClass, nil), nil,
				func(wire.SearchEntry, []byte) error { n++; return nil })
			if err != nil || n != want || want == 0 && r.Code != code {
				t.Errorf("first server says %d: %d entries, code %d, %v", code, n, r.Code, err)
			}
			if !u.Info().Servers[0].Up {
				t.Errorf("code %d made the server ill", code)
			}
		})
	}
}

// A link that a server closes under a request is suspicious, and cleared by a probe.
func TestSuspect(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: onUserBind(func(c *fakeldap.Conn, _ wire.Message) { c.Close() })})
	u := upstream(t, testConfig(urlOf(s)))
	for range 5 {
		_, _, err := u.Bind(testContext(t, 5*time.Second), alice, auth.Password("x"), nil)
		unavailable(t, err)
		if _, err := u.Find(testContext(t, 5*time.Second), alice); err != nil {
			t.Fatalf("one lost link hurts others: %v", err)
		}
	}
	isUp(t, u, 0, true)
	if n := userBinds(s, alice); n != 5 {
		t.Errorf("%d binds for 5", n)
	}
}

// Callers who leave, or have no time left, say nothing about a server.
func TestImpatientCaller(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := upstream(t, testConfig(urlOf(s)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 10 {
		if _, err := u.AnonymousLink(ctx); err == nil {
			t.Fatal("connected for a caller who had left")
		}
	}
	if !u.Info().Servers[0].Up {
		t.Error("the server is held to be down")
	}
}

func TestRareLog(t *testing.T) {
	var r rareLog
	now := time.Unix(1_800_000_000, 0)
	for i, c := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Second, false}, {58 * time.Second, false}, {time.Second, true}} {
		now = now.Add(c.after)
		if got := r.allow(now); got != c.want {
			t.Errorf("line %d allowed: %v", i, got)
		}
	}
}
