package history

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"appbind/config"
)

// at is the store by a clock that stands.
func (s *Store) at(now time.Time) *Store {
	d := *s.dialect
	d.clock = fmt.Sprintf("CAST(%d AS BIGINT)", now.UnixMilli())
	return &Store{db: s.db, dialect: &d}
}

func acquired(t *testing.T, s *Store, owner string, lasts time.Duration) Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), "job", owner, lasts, false)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLease: one holder at a time, until he gives it back or is taken for dead; then it is due again after a pause.
func TestLease(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		ctx := t.Context()
		if states, err := s.Jobs(ctx); err != nil || len(states) != 0 {
			t.Errorf("%v, %v", states, err)
		}
		l := acquired(t, s.at(begin), "a", time.Minute)
		if !l.Now.Equal(begin) {
			t.Errorf("the store's time is %v", l.Now)
		}
		for _, force := range []bool{false, true} {
			if _, err := s.at(begin.Add(59*time.Second)).Acquire(ctx, "job", "b", time.Minute, force); !errors.Is(err, ErrHeld) {
				t.Errorf("a second holder: %v", err)
			}
		}
		if _, err := s.at(begin).Acquire(ctx, "another job", "b", time.Minute, false); err != nil {
			t.Error(err)
		}
		if err := s.at(begin.Add(59*time.Second)).Renew(ctx, l, time.Minute); err != nil {
			t.Error(err)
		}
		later := begin.Add(100 * time.Second)
		if states, err := s.at(later).Jobs(ctx); err != nil || !states["job"].Held || !states["job"].Due || !states["job"].Succeeded.IsZero() {
			t.Errorf("%v, %v", states, err)
		}
		if err := s.at(later).End(ctx, l, time.Hour, true); err != nil {
			t.Error(err)
		}
		if _, err := s.at(later.Add(time.Hour-time.Millisecond)).Acquire(ctx, "job", "b", time.Minute, false); !errors.Is(err, ErrHeld) {
			t.Errorf("before it is due: %v", err)
		}
		states, err := s.at(later.Add(time.Hour - time.Millisecond)).Jobs(ctx)
		if want := (JobState{Succeeded: later.Local()}); err != nil || states["job"].Held || states["job"].Due || !states["job"].Succeeded.Equal(want.Succeeded) {
			t.Errorf("%+v, %v", maps.Collect(maps.All(states)), err)
		}
		m := acquired(t, s.at(later.Add(time.Hour)), "b", time.Minute)
		if err := s.at(later.Add(time.Hour)).End(ctx, m, 0, false); err != nil {
			t.Error(err)
		}
		if states, err := s.Jobs(ctx); err != nil || !states["job"].Succeeded.Equal(later) {
			t.Errorf("after a failure: %v, %v", states, err)
		}
		if _, err := s.at(later.Add(time.Hour)).Acquire(ctx, "job", "hand", time.Minute, true); err != nil {
			t.Errorf("by hand: %v", err)
		}
	})
}

// TestLostLease: whoever slept over the end of his lease changes nothing under it, whether somebody took it since or not.
func TestLostLease(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		ctx := t.Context()
		n := Notice{Entry: "e", Ident: "i", Expires: begin}
		l := acquired(t, s.at(begin), "a", time.Minute)
		over := s.at(begin.Add(time.Minute))
		lost := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrLost) {
				t.Errorf("%s: %v", what, err)
			}
		}
		lost("renew", over.Renew(ctx, l, time.Minute))
		lost("claim", over.Claim(ctx, l, time.Hour, n))
		m := acquired(t, over, "b", time.Minute)
		lost("renew", over.Renew(ctx, l, time.Minute))
		lost("claim", over.Claim(ctx, l, time.Hour, n))
		lost("end", over.End(ctx, l, 0, true))
		// The same instance, woken up: its name alone is not enough.
		m.fence = l.fence
		m.Owner = "b"
		lost("an older lease of the holder", over.Renew(ctx, m, time.Minute))
		if list, err := s.Notices(ctx, time.Time{}); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

// TestLeaseRace: of many at the same time one gets it; the store's own clock tells.
func TestLeaseRace(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		for range 3 {
			var mu sync.Mutex // guards got
			var got []Lease
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					l, err := s.Acquire(t.Context(), "job", fmt.Sprint(i), time.Minute, false)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						got = append(got, l)
					case !errors.Is(err, ErrHeld):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			l := one(t, got)
			if d := time.Since(l.Now).Abs(); d > time.Minute {
				t.Errorf("the store's clock is %v away", d)
			}
			if err := s.End(t.Context(), l, 0, true); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestNotices: what was claimed is known, and how it ended.
func TestNotices(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		ctx := t.Context()
		st := s.at(begin)
		l := acquired(t, st, "a", time.Minute)
		a, b := Notice{"e", "a", begin.Add(time.Hour)}, Notice{"e", "b", begin.Add(2 * time.Hour)}
		is := func(n Notice, want NoticeState) {
			t.Helper()
			list, err := s.Notices(ctx, begin)
			got := list[n.Key()]
			if err != nil || got.Tries != want.Tries || got.Done != want.Done || !got.Later.Equal(want.Later) {
				t.Errorf("%s: %+v, want %+v; %v", n.Ident, got, want, err)
			}
		}
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		check(st.Claim(ctx, l, time.Hour, a, b))
		is(a, NoticeState{Tries: 1, Later: begin.Add(time.Hour)})
		check(st.Settle(ctx, SentMaybe, time.Minute, a))
		is(a, NoticeState{Tries: 1, Later: begin.Add(time.Minute)})
		check(st.Claim(ctx, l, time.Hour, a))
		is(a, NoticeState{Tries: 2, Later: begin.Add(time.Hour)})
		check(st.Settle(ctx, NotSent, 0, a))
		is(a, NoticeState{Tries: 1, Later: begin})
		check(st.Settle(ctx, Sent, 0, a))
		is(a, NoticeState{Later: begin, Done: true})
		check(st.Settle(ctx, GivenUp, 0, b))
		is(b, NoticeState{Later: begin, Done: true})
		is(Notice{"e", "a", begin.Add(3 * time.Hour)}, NoticeState{Later: time.Time{}})
		check(s.ForgetNotices(ctx, begin.Add(90*time.Minute)))
		if list, err := s.Notices(ctx, time.Unix(0, 0)); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		if list, err := s.Notices(ctx, begin.Add(3*time.Hour)); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

// TestEarlierTables: tables of an earlier version gain the new ones and keep what is in them.
func TestEarlierTables(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		write(t, s, phone(begin))
		for _, q := range []string{"DROP TABLE history_jobs", "DROP TABLE history_notices", "DELETE FROM history_schema WHERE version > 1"} {
			if _, err := s.db.Exec(q); err != nil {
				t.Fatal(err)
			}
		}
		later := opened(t, cfg)
		acquired(t, later, "a", time.Minute)
		one(t, passwords(t, later, ""))
	})
}
