package backend

import (
	"slices"
	"testing"
	"time"

	"appbind/backend/fakeldap"
)

// gone waits until the reader of a link has ended, and so all that the end of the link has set off.
func gone(t *testing.T, l *Link) {
	t.Helper()
	until(t, "the link is gone", 5*time.Second, func() bool {
		l.up.pool.mu.Lock()
		defer l.up.pool.mu.Unlock()
		_, there := l.up.pool.links[l]
		return !there
	})
}

// TestOwnEndIsNoReason: a link that we close ourselves is no reason to look at the server: a look ends with a
// link being closed, and would lead to the next look without an end. One that the server closes is. No prober runs here, so
// that what asks for it stays to be seen.
func TestOwnEndIsNoReason(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.BindDN = ""
	u := unstarted(t, cfg)
	t.Cleanup(u.Close)
	u.care.Add(1)
	go u.runCaretaker() // Close waits for it
	srv := u.servers[0]
	asked := func() bool { return len(srv.wake) > 0 }

	for range 50 { // the reader may see the end before Close does, or after
		l, err := u.AnonymousLink(testContext(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		gone(t, l)
		if asked() {
			t.Fatal("a link that we closed has the server examined")
		}
	}
	for range 10 {
		if !srv.probe() {
			t.Fatal("the probe fails")
		}
		until(t, "the probe's link is gone", 5*time.Second, func() bool {
			u.pool.mu.Lock()
			defer u.pool.mu.Unlock()
			return len(u.pool.links) == 0
		})
		if asked() {
			t.Fatal("a probe asks for the next one")
		}
	}
	l, err := u.AnonymousLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const links = 50 + 10 + 1 // accepting lags behind connecting
	if !s.Wait(testContext(t, 5*time.Second), func() bool { return s.Accepted() == links && s.Open() > 0 }) {
		t.Fatal("the server has not accepted the link")
	}
	s.CloseConns()
	until(t, "the server has closed a link, and is looked at", 5*time.Second, asked)
}

// TestLooksEnd: a look at a server that is well is one connection, not the first of many.
func TestLooksEnd(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := upstream(t, testConfig(urlOf(s)))
	before := s.Accepted()
	u.servers[0].examine()
	until(t, "a look", 5*time.Second, func() bool { return s.Accepted() > before })
	if s.Wait(testContext(t, 300*time.Millisecond), func() bool { return s.Accepted() > before+1 }) {
		t.Errorf("one look is %d connections", s.Accepted()-before)
	}
	if !slices.Contains(u.choice.Load().list, u.servers[0]) {
		t.Error("the server is not used any more")
	}
}
