package backend

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/wire"
)

// rights is a directory that can stop to show anything below its root DSE.
type rights struct {
	dir    *fakeldap.Directory
	hidden atomic.Bool
	code   int32 // the answer to a search then
}

func (r *rights) handle(c *fakeldap.Conn, m wire.Message) {
	if r.hidden.Load() && m.Op == wire.OpSearchRequest && base(m) != "" {
		c.Answer(m, r.code)
		return
	}
	r.dir.Handle(c, m)
}

// An identity that has lost its right to read finds nobody. That is trouble, and not a wrong password of everybody.
func TestFindWithoutRights(t *testing.T) {
	for name, code := range map[string]int32{"no such object": wire.ResultNoSuchObject, "an empty result": wire.ResultSuccess} {
		t.Run(name, func(t *testing.T) {
			d := &rights{dir: directory(), code: code}
			s := fake(t, fakeldap.Options{Handler: d.handle})
			cfg := testConfig(urlOf(s))
			cfg.Users.NameFilter = "(uid=%s)"
			clk, log := newFakeClock(), &logBuffer{}
			u := upstream(t, cfg, func(u *Upstream) { u.clock, u.log = clk.clock(), log.logger() })
			for _, who := range []string{alice, "alice"} {
				if _, err := u.Find(testContext(t, 5*time.Second), who); err != nil {
					t.Fatal(err)
				}
			}
			d.hidden.Store(true)
			clk.advance(visibleFor)
			for _, who := range []string{alice, "alice", "nobody", "uid=nobody," + people, alice} {
				if e, err := u.Find(testContext(t, 5*time.Second), who); err == nil || errors.Is(err, auth.ErrNotFound) || !strings.Contains(err.Error(), people) {
					t.Errorf("%s: %+v, %v; want trouble that names the base", who, e, err)
				}
			}
			if n := strings.Count(log.String(), "users.bases cannot be seen"); n != 1 {
				t.Errorf("logged %d times", n)
			}
			d.hidden.Store(false)
			for _, who := range []string{"nobody", "uid=nobody," + people} {
				if _, err := u.Find(testContext(t, 5*time.Second), who); !errors.Is(err, auth.ErrNotFound) {
					t.Errorf("%s, with the right to read again: %v", who, err)
				}
			}
		})
	}
}

// Of two servers one may have lost the entries, or the rights: what the other shows says nothing about it.
func TestFindWithoutRightsOnOneServer(t *testing.T) {
	good, bad := &rights{dir: directory()}, &rights{dir: directory(), code: wire.ResultNoSuchObject}
	bad.hidden.Store(true)
	s1, s2 := fake(t, fakeldap.Options{Handler: good.handle}), fake(t, fakeldap.Options{Handler: bad.handle})
	cfg := testConfig(urlOf(s1), urlOf(s2))
	cfg.Upstream.Balance = "spread"
	u := upstream(t, cfg)
	found, trouble := 0, 0
	for range 10 {
		ctx, end := u.Within(testContext(t, 5*time.Second), time.Now(), 5*time.Second)
		defer end()
		if _, err := u.Find(ctx, "uid=nobody,"+people); errors.Is(err, auth.ErrNotFound) {
			found++
		} else {
			trouble++
		}
	}
	if found != 5 || trouble != 5 {
		t.Errorf("%d answers of the good server, %d of the bad one, want 5 each", found, trouble)
	}
}

// Only one of the bases that a name can stand below must be visible for a DN, all of them for another name.
func TestFindBases(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(s))
	cfg.Users.Bases, cfg.Users.NameFilter = []string{people, "ou=gone,dc=example,dc=org"}, "(uid=%s)"
	u := upstream(t, cfg)
	for name, missing := range map[string]bool{"uid=nobody," + people: true, "uid=nobody,ou=gone,dc=example,dc=org": false, "nobody": false} {
		if _, err := u.Find(testContext(t, 5*time.Second), name); err == nil || errors.Is(err, auth.ErrNotFound) != missing {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A flood of unknown names does not become a flood of questions about the base.
func TestVisibleIsRemembered(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	clk := newFakeClock()
	u := upstream(t, testConfig(urlOf(s)), func(u *Upstream) { u.clock = clk.clock() })
	searches := func(n int) int {
		before := len(s.Received(wire.OpSearchRequest))
		for range n {
			if _, err := u.Find(testContext(t, 5*time.Second), "uid=nobody,"+people); !errors.Is(err, auth.ErrNotFound) {
				t.Fatal(err)
			}
		}
		return len(s.Received(wire.OpSearchRequest)) - before
	}
	searches(1)
	if n := searches(20); n != 40 {
		t.Errorf("%d searches for 20 unknown names, want 40", n)
	}
	clk.advance(visibleFor)
	if n := searches(20); n != 41 {
		t.Errorf("%d searches for 20 unknown names after a while, want 41", n)
	}
}
