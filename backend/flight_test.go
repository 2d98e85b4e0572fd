package backend

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/wire"
)

// held is an upstream whose lookups of alice wait for release, under a clock that stands still.
func held(t *testing.T, answer func(d *fakeldap.Directory, c *fakeldap.Conn, m wire.Message)) (u *Upstream, clock *fakeClock, release func(), searches func() int) {
	t.Helper()
	d := directory()
	open := make(chan struct{})
	var count atomic.Int64
	s := fake(t, fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) {
		sr, err := wire.DecodeSearch(m.Body)
		if m.Op != wire.OpSearchRequest || err != nil || string(sr.Base) != alice {
			d.Handle(c, m)
			return
		}
		count.Add(1)
		go func() {
			<-open
			answer(d, c, m)
		}()
	}})
	clock = newFakeClock()
	u = upstream(t, testConfig(urlOf(s)), func(u *Upstream) { u.clock = clock.clock() })
	return u, clock, sync.OnceFunc(func() { close(open) }), func() int { return int(count.Load()) }
}

// followers waits until n have joined the flight for a name.
func followers(t *testing.T, u *Upstream, name string, n int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; {
		u.flights.mu.Lock()
		fl := u.flights.byName[name]
		joined := fl != nil && fl.followers == n
		u.flights.mu.Unlock()
		if joined {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d did not join", n)
		}
		runtime.Gosched()
	}
}

func TestFindIsShared(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(d *fakeldap.Directory, c *fakeldap.Conn, m wire.Message)
		ok     bool
	}{
		{"found", func(d *fakeldap.Directory, c *fakeldap.Conn, m wire.Message) { d.Handle(c, m) }, true},
		{"trouble", func(_ *fakeldap.Directory, c *fakeldap.Conn, m wire.Message) { c.Answer(m, wire.ResultOther) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, _, release, searches := held(t, c.answer)
			defer release()
			entries, errs := make([]*auth.Entry, 100), make([]error, 100)
			var wg sync.WaitGroup
			for i := range entries {
				wg.Go(func() { entries[i], errs[i] = u.Find(testContext(t, 5*time.Second), alice) })
			}
			followers(t, u, alice, len(entries)-1)
			release()
			wg.Wait()
			if n := searches(); n != 1 {
				t.Errorf("%d searches", n)
			}
			seen := map[*auth.Entry]bool{}
			for i, e := range entries {
				if (errs[i] == nil) != c.ok || c.ok && (e.DN != alice || len(e.Values) != 2) || e != nil && seen[e] {
					t.Fatalf("%+v %v", e, errs[i])
				}
				seen[e] = true
			}
			if len(u.flights.byName) != 0 {
				t.Error("a flight is left")
			}
		})
	}
}

// TestFindOutlivesItsLeader: who waits for a lookup whose caller leaves looks up alone.
func TestFindOutlivesItsLeader(t *testing.T) {
	u, _, release, searches := held(t, func(d *fakeldap.Directory, c *fakeldap.Conn, m wire.Message) { d.Handle(c, m) })
	defer release()
	ctx, leave := context.WithCancel(testContext(t, 5*time.Second))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = u.Find(ctx, alice) })
	followers(t, u, alice, 0)
	var e *auth.Entry
	var err error
	wg.Go(func() { e, err = u.Find(testContext(t, 5*time.Second), alice) })
	followers(t, u, alice, 1)
	leave()
	release()
	wg.Wait()
	if err != nil || e.DN != alice || searches() > 2 {
		t.Errorf("%+v %v after %d searches", e, err, searches())
	}
}

func TestFindAloneEndsWithItsCaller(t *testing.T) {
	u, _, release, _ := held(t, func(d *fakeldap.Directory, c *fakeldap.Conn, m wire.Message) { d.Handle(c, m) })
	defer release()
	ctx, leave := context.WithCancel(testContext(t, 5*time.Second))
	done := make(chan error, 1)
	go func() {
		_, err := u.Find(ctx, alice)
		done <- err
	}()
	followers(t, u, alice, 0)
	leave()
	if err := <-done; !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

// TestFindIsNotSharedForLong: whoever comes later gets an answer of its own, so
// that what was revoked meanwhile is seen. State is never shared.
func TestFindIsNotSharedForLong(t *testing.T) {
	u, clock, release, searches := held(t, func(d *fakeldap.Directory, c *fakeldap.Conn, m wire.Message) { d.Handle(c, m) })
	defer release()
	var wg sync.WaitGroup
	find := func() { _, _ = u.Find(testContext(t, 5*time.Second), alice) }
	wg.Go(find)
	followers(t, u, alice, 0)
	clock.advance(maxJoin)
	u.flights.mu.Lock()
	first := u.flights.byName[alice]
	u.flights.mu.Unlock()
	wg.Go(find)
	wg.Go(func() { _, _ = u.State(testContext(t, 5*time.Second), &auth.Entry{DN: alice}) })
	for end := time.Now().Add(5 * time.Second); searches() < 3 && time.Now().Before(end); runtime.Gosched() {
	}
	release()
	wg.Wait()
	if searches() != 3 || first.followers != 0 {
		t.Errorf("%d searches, %d followers", searches(), first.followers)
	}
}
