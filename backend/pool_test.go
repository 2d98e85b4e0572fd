package backend

import (
	"context"
	"errors"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// bindLink takes a link that must be there.
func bindLink(t *testing.T, u *Upstream) *Link {
	t.Helper()
	l, err := u.BindLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// placesOf is how many places of the pool are free.
func placesOf(u *Upstream) int {
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	return u.pool.places
}

// smallPool is an Upstream with n places and no bind_dn.
func smallPool(t *testing.T, n int, change ...func(*Upstream)) (*Upstream, *fakeldap.Server) {
	t.Helper()
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.BindDN = ""
	cfg.Upstream.MaxLinks = n + cfg.Upstream.ServiceLinks
	return upstream(t, cfg, change...), s
}

func TestPoolLastInFirstOut(t *testing.T) {
	u, _ := smallPool(t, 5)
	a, b, c := bindLink(t, u), bindLink(t, u), bindLink(t, u)
	u.Release(a)
	u.Release(b)
	u.Release(c)
	for i, want := range []*Link{c, b, a} {
		if got := bindLink(t, u); got != want {
			t.Errorf("take %d is not the one released last", i)
		}
	}
	for _, l := range []*Link{a, b, c} {
		l.Close()
	}
}

// Over max_links one waits within ctx; a place or an idle link that comes free is handed on.
func TestPoolBound(t *testing.T) {
	u, _ := smallPool(t, 2)
	a, b := bindLink(t, u), bindLink(t, u)
	_, err := u.BindLink(testContext(t, 20*time.Millisecond))
	unavailable(t, err)

	got := make(chan *Link)
	take := func(f func(context.Context) (*Link, error)) {
		l, err := f(testContext(t, 5*time.Second))
		if err != nil {
			t.Error(err)
		}
		got <- l
	}
	go take(u.BindLink)
	u.Release(a)
	if l := <-got; l != a {
		t.Error("the waiter did not get the released link")
	}
	go take(u.AnonymousLink)
	b.Close()
	fresh := <-got
	if fresh == b || fresh == a {
		t.Error("an anonymous link that was used before")
	}
	// An idle bind link makes room for an anonymous one.
	fresh.Close()
	c := bindLink(t, u)
	u.Release(a)
	go take(u.AnonymousLink)
	second := <-got
	isDone(t, a)
	c.Close()
	second.Close()
}

// Anonymous clients have a quarter of the links; whoever has a password finds one.
func TestPoolShareOfStrangers(t *testing.T) {
	u, _ := smallPool(t, 8)
	ctx := testContext(t, 5*time.Second)
	var links []*Link
	for range 2 {
		l, err := u.AnonymousLink(ctx)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	if _, err := u.AnonymousLink(ctx); !errors.Is(err, errStrangers) {
		t.Errorf("a third: %v", err)
	}
	for range 6 {
		links = append(links, bindLink(t, u))
	}
	// What one gives back another may have: the bind link waits for the place.
	links[0].Close()
	bindLink(t, u).Close()
	l, err := u.AnonymousLink(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range append(links, l) {
		l.Close()
	}
}

// A link that is lost or has something outstanding is of no use to the next, and its place is free again.
func TestPoolRelease(t *testing.T) {
	u, s := smallPool(t, 5)
	s.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if isRootDSE(m) {
			c.Answer(m, 0)
		}
	})
	busy := bindLink(t, u)
	r := newRecorder()
	if _, err := busy.Send(wire.OpDelRequest, []byte("dc=x"), nil, r, false); err != nil {
		t.Fatal(err)
	}
	u.Release(busy)
	isDone(t, busy)
	unavailable(t, r.next(t).lost)

	lost := bindLink(t, u)
	for s.CloseConns(); lost.alive(); s.CloseConns() { // the fake may not have accepted it yet
		s.Wait(testContext(t, 10*time.Millisecond), func() bool { return !lost.alive() })
	}
	u.Release(lost)
	for deadline := time.Now().Add(5 * time.Second); placesOf(u) != 5; {
		if time.Now().After(deadline) {
			t.Fatalf("%d places free at the end, want 5", placesOf(u))
		}
	}
	u.pool.mu.Lock()
	defer u.pool.mu.Unlock()
	if n := len(u.servers[0].idle); n != 0 {
		t.Errorf("%d useless links were pooled", n)
	}
}

// Idle links are retired after idle_timeout; the ones in use are not.
func TestPoolIdleTimeout(t *testing.T) {
	clk := newFakeClock()
	u, _ := smallPool(t, 5, func(u *Upstream) { u.clock = clk.clock() })
	old, used := bindLink(t, u), bindLink(t, u)
	u.Release(old)
	clk.advance(40 * time.Second)
	fresh := bindLink(t, u)
	u.Release(used)
	clk.advance(40 * time.Second)
	u.takeCare(clk.now())
	u.Release(fresh)
	if fresh != old {
		t.Fatal("the idle link was not used again")
	}
	clk.advance(19 * time.Second)
	u.takeCare(clk.now())
	if !used.alive() || !fresh.alive() {
		t.Fatal("retired before idle_timeout")
	}
	clk.advance(2 * time.Second)
	u.takeCare(clk.now())
	isDone(t, used)
	if !fresh.alive() {
		t.Fatal("retired although it was used since")
	}
	clk.advance(time.Minute)
	u.takeCare(clk.now())
	isDone(t, fresh)
}

// The caretaker makes its rounds by the clock.
func TestCaretaker(t *testing.T) {
	clk := newFakeClock()
	u, _ := smallPool(t, 5, func(u *Upstream) { u.clock = clk.clock() })
	l := bindLink(t, u)
	u.Release(l)
	for deadline := time.Now().Add(5 * time.Second); l.alive(); clk.advance(time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("an idle link lives on")
		}
	}
}

// A reload closes idle links at once; those in use survive until their owners close them.
func TestCloseWaitsForOwners(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := unstarted(t, testConfig(urlOf(s)))
	u.Start(testContext(t, 5*time.Second))
	ctx := testContext(t, 5*time.Second)
	_, own, err := u.Bind(ctx, alice, auth.Password("alicepw"), nil)
	if err != nil {
		t.Fatal(err)
	}
	toRelease, idle := bindLink(t, u), bindLink(t, u)
	u.Release(idle)
	closed := make(chan struct{})
	go func() {
		u.Close()
		close(closed)
	}()
	isDone(t, idle)
	r := newRecorder()
	if _, err := own.Send(wire.OpDelRequest, []byte("dc=x"), nil, r, true); err != nil {
		t.Fatal(err)
	}
	if o := r.next(t); !o.final {
		t.Errorf("a link in use heard %+v", o)
	}
	_, err = u.BindLink(ctx)
	unavailable(t, err)
	for err = nil; err == nil; { // a lookup that began a moment ago still has its link
		_, err = u.Find(ctx, alice)
	}
	unavailable(t, err)
	u.Release(toRelease)
	isDone(t, toRelease)
	select {
	case <-closed:
		t.Fatal("Close did not wait for the link in use")
	default:
	}
	own.Close()
	<-closed
	u.Close()
}

// The address of a closed link's server hears an unbind.
func TestCloseUnbinds(t *testing.T) {
	u, s := smallPool(t, 5)
	l := bindLink(t, u)
	l.Close()
	if !s.WaitReceived(wire.OpUnbindRequest, 1) {
		t.Error("no unbind")
	}
	if err := l.wrap(errClosed); err != errClosed {
		t.Errorf("wrapped twice: %v", err)
	}
}

func TestRound(t *testing.T) {
	for _, c := range []struct{ idle, operation, want time.Duration }{
		{time.Minute, time.Minute, time.Second},
		{time.Second, time.Minute, 250 * time.Millisecond},
		{time.Minute, 2 * time.Second, 500 * time.Millisecond},
		{0, 0, time.Millisecond},
	} {
		u := &Upstream{cfg: &config.Config{Upstream: config.Upstream{IdleTimeout: config.Duration(c.idle), OperationTimeout: config.Duration(c.operation)}}}
		if got := u.round(); got != c.want {
			t.Errorf("idle %v, operation %v: round %v, want %v", c.idle, c.operation, got, c.want)
		}
	}
}
