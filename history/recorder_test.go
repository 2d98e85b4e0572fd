package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"appbind/events"
)

// fake is a store that does what the test says.
type fake struct {
	mu     sync.Mutex // guards all fields
	fault  error      // panics, if it is errPanic
	hangs  bool
	opened []time.Time
	writes []time.Time
	times  int64
	rows   int
	closed int
	marks  events.Kind // what is noticed in every row
}

func (f *fake) open(context.Context) (sink, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened = append(f.opened, time.Now())
	if f.fault != nil {
		return nil, f.fault
	}
	return f, nil
}

func (f *fake) write(ctx context.Context, rows []*row, _ bool) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range rows {
		r.sighting = f.marks
	}
	if f.hangs {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return 0, ctx.Err()
	}
	if f.fault == errPanic {
		panic("test")
	}
	if f.fault != nil {
		return 0, f.fault
	}
	f.writes = append(f.writes, time.Now())
	for _, r := range rows {
		f.times += r.times
		f.rows++
	}
	return 0, nil
}

func (f *fake) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

// set changes what the store does.
func (f *fake) set(fault error, hangs bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault, f.hangs = fault, hangs
}

func (f *fake) stored() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times
}

// faked runs a test with a recorder that writes to a fake store, in a time of its own.
func faked(t *testing.T, test func(t *testing.T, f *fake, r *Recorder, log *bytes.Buffer)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, log := &fake{}, &bytes.Buffer{}
		r := start(options{open: f.open, interval: time.Minute, counts: &Counts{}, log: slog.New(slog.NewTextHandler(log, nil))})
		synctest.Wait()
		defer r.Close(t.Context())
		test(t, f, r, log)
	})
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestWrittenInTime: what is recorded is in the store after FlushEvery, which is what a kill may cost.
func TestWrittenInTime(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, _ *bytes.Buffer) {
		for i := range 100 {
			r.Record(phone(time.Now()))
			pass(FlushEvery)
			if got := f.stored(); got < int64(i) {
				t.Fatalf("%d stored after %d", got, i+1)
			}
		}
		pass(FlushEvery)
		if st := r.Stats(); st.Written != 100 || st.Pending != 0 || !st.Up {
			t.Errorf("%+v", st)
		}
	})
	if FlushEvery+writeTime > time.Minute {
		t.Error("a kill may cost more than a minute")
	}
}

// TestStoreFails: nothing is lost while there is room, the store is tried ever less often, and each change is told once.
func TestStoreFails(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, log *bytes.Buffer) {
		r.Record(phone(time.Now()))
		pass(FlushEvery)
		f.set(errors.New("disk full"), false)
		failed := time.Now()
		for range 600 {
			r.Record(phone(time.Now()))
			pass(time.Second)
		}
		if st := r.Stats(); st.Up || st.Pending == 0 || f.stored() != 1 {
			t.Errorf("%+v, %d stored", st, f.stored())
		}
		tries := len(f.opened)
		if tries < 12 || tries > 18 {
			t.Errorf("the store was tried %d times in ten minutes", tries)
		}
		for i := 3; i < tries; i++ {
			if d := f.opened[i].Sub(f.opened[i-1]); d < firstPause || d > longestPause {
				t.Errorf("a pause of %v", d)
			}
		}
		f.set(nil, false)
		pass(longestPause)
		if got := f.stored(); got != 601 {
			t.Errorf("%d stored, want 601", got)
		}
		for _, text := range []string{"history is not written", "history is written again"} {
			if n := strings.Count(log.String(), text); n != 1 {
				t.Errorf("%q was told %d times since %v:\n%s", text, n, failed, log)
			}
		}
	})
}

// TestHangingStore: a write that hangs is given up, and nobody waits for it.
func TestHangingStore(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, log *bytes.Buffer) {
		f.set(nil, true)
		before := time.Now()
		for i := range 3 * maxPending {
			r.Record(with(phone(time.Now()), func(e *Event) { e.Entry = fmt.Sprint(i) }))
			if i%(queued/2) == 0 {
				synctest.Wait() // the collector is never behind for long
			}
		}
		if !time.Now().Equal(before) {
			t.Error("a bind waited")
		}
		synctest.Wait()
		pass(5 * time.Minute)
		st := r.Stats()
		dropped := uint64(0)
		for _, n := range st.Dropped {
			dropped += n
		}
		if st.Pending != maxPending || dropped != 2*maxPending || st.Dropped["memory"] != 2*maxPending {
			t.Errorf("%+v", st)
		}
		f.set(nil, false)
		pass(longestPause)
		if st := r.Stats(); st.Written != maxPending || st.Pending != 0 {
			t.Errorf("%+v", st)
		}
		if !strings.Contains(log.String(), fmt.Sprintf("lost=%d", 2*maxPending)) {
			t.Errorf("the loss is not told:\n%s", log)
		}
	})
}

// TestFullQueue: where the collector does not get to run, events are dropped and counted.
func TestFullQueue(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, _ *bytes.Buffer) {
		r.mu.Lock()
		synctest.Wait()
		for range queued + 10 {
			r.Record(phone(time.Now()))
		}
		// One event may be in the collector's hand.
		if n := r.counts.full.Load(); n < 9 || n > 10 {
			t.Errorf("%d dropped", n)
		}
		r.mu.Unlock()
	})
}

// TestManyRowsHurry: the next write does not wait when much is pending, but a failing store keeps its pause.
func TestManyRowsHurry(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, _ *bytes.Buffer) {
		fill := func() {
			for i := range hurry {
				r.Record(with(phone(time.Now()), func(e *Event) { e.Entry = fmt.Sprint(i) }))
			}
			synctest.Wait()
		}
		fill()
		if f.stored() == 0 {
			t.Error("nothing is stored")
		}
		f.set(errors.New("down"), false)
		fill()
		tries := len(f.opened)
		fill()
		if len(f.opened) != tries {
			t.Error("the pause was cut short")
		}
	})
}

// TestCloseWritesAll: what was recorded before Close is stored by it.
func TestCloseWritesAll(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, _ *bytes.Buffer) {
		for range 1000 {
			r.Record(phone(time.Now()))
		}
		r.Close(t.Context())
		if f.stored() != 1000 || f.closed != 1 {
			t.Errorf("%d stored, closed %d times", f.stored(), f.closed)
		}
		r.Record(phone(time.Now()))
		r.Close(t.Context())
		if st := r.Stats(); st.Dropped["stopped"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestCloseGivesUp: the end does not wait for a store that hangs, and what is lost is counted and told.
func TestCloseGivesUp(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, log *bytes.Buffer) {
		f.set(nil, true)
		r.Record(phone(time.Now()))
		r.Record(phone(time.Now()))
		begun := time.Now()
		r.Close(t.Context())
		if took := time.Since(begun); took > closeTime+time.Second {
			t.Errorf("Close took %v", took)
		}
		if st := r.Stats(); st.Dropped["stopped"] != 2 || !strings.Contains(log.String(), "history is lost") {
			t.Errorf("%+v\n%s", st, log)
		}
	})
}

func TestCloseWithinContext(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, log *bytes.Buffer) {
		f.set(nil, true)
		r.Record(phone(time.Now()))
		pass(FlushEvery + time.Second) // a write is under way
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		r.Close(ctx)
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("Close took %v", took)
		}
	})
}

// TestPanic: a bug costs nobody a login, and and only what it struck is lost.
func TestPanic(t *testing.T) {
	faked(t, func(t *testing.T, f *fake, r *Recorder, log *bytes.Buffer) {
		f.set(errPanic, false)
		r.Record(phone(time.Now()))
		pass(FlushEvery)
		if st := r.Stats(); st.Panics != 1 || st.Up || !strings.Contains(log.String(), "internal error: panic") {
			t.Errorf("%+v\n%s", st, log)
		}
		f.set(nil, false)
		r.Record(phone(time.Now()))
		pass(longestPause)
		if st := r.Stats(); !st.Up || st.Written != 1 || st.Dropped["refused"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestUnopenedStore: a store that cannot be opened is nothing to close.
func TestUnopenedStore(t *testing.T) {
	t.Parallel()
	cfg := sqliteConfig(t)
	cfg.StateDir += "/missing"
	r := New(cfg, &Counts{}, slog.New(slog.DiscardHandler), nil)
	r.Record(phone(begin))
	r.Close(t.Context())
	if st := r.Stats(); st.Panics != 0 || st.Up || st.Dropped["stopped"] != 1 {
		t.Errorf("%+v", st)
	}
}

// TestRecordAllocatesNothing: a bind pays for a copy into the queue.
func TestRecordAllocatesNothing(t *testing.T) {
	r := &Recorder{queue: make(chan Event, 1), counts: &Counts{}}
	e := phone(begin)
	if n := testing.AllocsPerRun(100, func() { r.Record(e) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	f := &fake{}
	r := start(options{open: f.open, interval: time.Minute, counts: &Counts{}, log: slog.New(slog.DiscardHandler)})
	defer r.Close(b.Context())
	e := phone(begin)
	b.ReportAllocs()
	for b.Loop() {
		r.Record(e)
	}
}

// TestSteadyLoad: a real store keeps up, and no event is lost.
func TestSteadyLoad(t *testing.T) {
	t.Parallel()
	for _, m := range makers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			cfg := m.make(t)
			r := New(cfg, &Counts{}, slog.New(slog.DiscardHandler), nil)
			const users, each = 300, 20
			var wg sync.WaitGroup
			for u := range users {
				wg.Go(func() {
					for i := range each {
						r.Record(with(phone(begin), func(e *Event) { e.Entry, e.ID = fmt.Sprint(u), fmt.Sprintf("%04d", i) }))
					}
				})
			}
			wg.Wait()
			// Close gives the store closeTime, which is too little for so much on a machine that has other work.
			st := r.Stats()
			tick, deadline := time.NewTicker(10*time.Millisecond), time.After(2*time.Minute)
			defer tick.Stop()
			for ; st.Written+st.Dropped["queue"] < users*each; st = r.Stats() {
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatalf("%+v", st)
				}
			}
			r.Close(t.Context())
			if st = r.Stats(); st.Written+st.Dropped["queue"] != users*each || st.Written < queued/2 {
				t.Errorf("%+v", st)
			}
			s := opened(t, cfg)
			if n := len(passwords(t, s, "")); uint64(n) != st.Written {
				t.Errorf("%d passwords, %d written", n, st.Written)
			}
		})
	}
}
