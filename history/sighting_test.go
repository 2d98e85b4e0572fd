package history

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"appbind/config"
	"appbind/events"
)

// sightings is what is noticed when events are written, each in a batch of its own.
func sightings(t *testing.T, s *Store, list ...Event) (noticed []string) {
	t.Helper()
	for _, e := range list {
		p := newPending(time.Minute)
		if !p.add(&e) {
			t.Fatal("no room")
		}
		rows := p.take()
		if refused, err := s.write(t.Context(), rows, true); err != nil || refused != 0 {
			t.Fatalf("refused %d, %v", refused, err)
		}
		r := Recorder{watch: func(e events.Event) {
			noticed = append(noticed, fmt.Sprintf("%s %s %s %s %v %s", e.Kind, e.DN, e.ID, e.Label, e.Addr, e.Reason))
		}}
		r.report(rows)
	}
	return noticed
}

// from is the phone used from an address.
func from(at time.Time, addr string) Event {
	return with(phone(at), func(e *Event) { e.Addr = netip.MustParseAddr(addr) })
}

// TestNewNetworks: the first network of an app password is the one to compare with; any other is new once, for that app password.
func TestNewNetworks(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		at := func(m int) time.Time { return begin.Add(time.Duration(m) * time.Hour) }
		const isNew = "new_network uid=alice ph0n phone "
		for _, c := range []struct {
			event Event
			want  []string
		}{
			{with(from(at(0), "192.0.2.1"), func(e *Event) { e.Addr = netip.Addr{} }), nil}, // not known: nothing to compare with
			{from(at(1), "192.0.2.1"), nil},
			{from(at(2), "192.0.2.200"), nil},
			{from(at(3), "192.0.3.1"), []string{isNew + "192.0.3.1 "}},
			{from(at(4), "192.0.2.1"), nil},
			{from(at(5), "192.0.3.9"), nil},
			{from(at(6), "::ffff:192.0.2.7"), nil},
			{from(at(7), "2001:db8:1:1::1"), []string{isNew + "2001:db8:1:1::1 "}},
			{from(at(8), "2001:db8:1:ffff::2"), nil},
			{from(at(9), "2001:db8:2::1"), []string{isNew + "2001:db8:2::1 "}},
			{with(from(at(10), "198.51.100.1"), func(e *Event) { e.Denied = ReasonExpired }), []string{"stale_device uid=alice ph0n phone 198.51.100.1 " + ReasonExpired}},
			{from(at(11), "198.51.100.1"), []string{isNew + "198.51.100.1 "}}, // a failure is no use
			{with(from(at(12), "203.0.113.1"), func(e *Event) { e.ID = "0ther" }), nil},
			{with(from(at(13), "203.0.113.1"), func(e *Event) { e.Kind, e.ID, e.Label = Main, "", "" }), nil},
			{with(from(at(14), "203.0.113.200"), func(e *Event) { e.Kind, e.ID, e.Label = Main, "", "" }), nil},
		} {
			if got := sightings(t, s, c.event); !slices.Equal(got, c.want) {
				t.Errorf("%v %s: noticed %q, want %q", c.event.Addr, c.event.Denied, got, c.want)
			}
		}
	})
}

// TestStaleDevices: told when they begin, and again after a day of silence; made-up selectors are nobody's.
func TestStaleDevices(t *testing.T) {
	onAll(t, func(t *testing.T, cfg *config.Config, s *Store) {
		gone := func(h int, id string) Event {
			return with(phone(begin.Add(time.Duration(h)*time.Hour)), func(e *Event) { e.ID, e.Label, e.Denied = id, "", ReasonGone })
		}
		want := []string{"stale_device uid=alice ph0n phone 192.0.2.7 " + ReasonGone}
		if got := sightings(t, s, gone(0, "ph0n"), gone(0, "aaaa")); got != nil {
			t.Errorf("unknown selectors: %q", got)
		}
		write(t, s, phone(begin))
		if err := s.Revoked(t.Context(), Change{Time: begin.Add(time.Hour), Entry: "entryuuid:a", ID: "ph0n"}); err != nil {
			t.Fatal(err)
		}
		if got := sightings(t, s, gone(2, "ph0n")); !slices.Equal(got, want) {
			t.Errorf("noticed %q, want %q", got, want)
		}
		if got := sightings(t, s, gone(3, "ph0n"), gone(26, "ph0n"), gone(49, "ph0n"), gone(49, "aaaa")); got != nil {
			t.Errorf("the same again: %q", got)
		}
		if got := sightings(t, s, gone(75, "ph0n")); !slices.Equal(got, want) {
			t.Errorf("after a day: %q, want %q", got, want)
		}
	})
}

// TestSightingsAreOfWhatIsStored: what is rolled back is told when it is stored, once.
func TestSightingsAreOfWhatIsStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fake{marks: events.NewNetwork}
		told := make(chan events.Event, 10)
		r := start(options{open: f.open, interval: time.Minute, counts: &Counts{},
			log: slog.New(slog.DiscardHandler), watch: func(e events.Event) { told <- e }})
		defer r.Close(t.Context())
		synctest.Wait()
		for _, c := range []struct {
			fault error
			told  int // in the end; what makes the store panic is given up
		}{{errors.New("down"), 1}, {errPanic, 0}} {
			f.set(c.fault, false)
			r.Record(phone(time.Now()))
			pass(2 * FlushEvery)
			if len(told) != 0 {
				t.Errorf("%v: told, and not stored: %+v", c.fault, <-told)
			}
			f.set(nil, false)
			pass(4 * FlushEvery)
			if len(told) != c.told {
				t.Fatalf("%v: told %d times", c.fault, len(told))
			}
			for range c.told {
				if e := <-told; e.ID != "ph0n" || e.Addr != home || e.Entry != "entryuuid:a" {
					t.Errorf("%+v", e)
				}
			}
		}
	})
}

// TestNotedBehind: what the administration notes is written behind it, and its order does not count.
func TestNotedBehind(t *testing.T) {
	t.Parallel()
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			cfg := m.make(t)
			r := New(cfg, &Counts{}, slog.New(slog.DiscardHandler), nil)
			now := time.Now().Truncate(time.Millisecond)
			change := func(label string, d time.Duration) Change {
				return Change{Time: now.Add(d), Entry: "entryuuid:a", DN: "uid=alice", ID: label, Label: label}
			}
			var wg sync.WaitGroup
			for _, f := range []func(){
				func() { r.Revoked(change("late", 0)) }, func() { r.Issued(change("late", -time.Hour)) },
				func() { r.Issued(change("again", time.Minute)) }, func() { r.Revoked(change("again", 0)) },
				func() { r.Issued(change("both", 0)) }, func() { r.Revoked(change("both", 0)) },
			} {
				wg.Go(f)
			}
			wg.Wait()
			r.Close(t.Context())
			s := opened(t, cfg)
			got := map[string]Password{}
			for _, p := range passwords(t, s, "entryuuid:a") {
				got[p.Label] = p
			}
			if p := got["late"]; !p.Issued.Equal(now.Add(-time.Hour)) || !p.Revoked.Equal(now) {
				t.Errorf("late: %+v", p)
			}
			if p := got["again"]; !p.Issued.Equal(now.Add(time.Minute)) || !p.Revoked.IsZero() {
				t.Errorf("again: %+v", p)
			}
			if p := got["both"]; !p.Revoked.Equal(now) {
				t.Errorf("both: %+v", p)
			}
			// Each in a transaction of its own, the later one first.
			for _, err := range []error{
				s.Revoked(t.Context(), change("reversed", 0)), s.Issued(t.Context(), change("reversed", -time.Hour)),
				s.Issued(t.Context(), change("renewed", time.Minute)), s.Revoked(t.Context(), change("renewed", 0)),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range passwords(t, s, "entryuuid:a") {
				if p.Label == "reversed" && !p.Revoked.Equal(now) || p.Label == "renewed" && !p.Revoked.IsZero() {
					t.Errorf("reversed: %+v", p)
				}
			}
			r.Issued(change("after", 0))
			if n := r.Stats().Dropped["stopped"]; n != 1 {
				t.Errorf("%d dropped after the end", n)
			}
		})
	}
}
