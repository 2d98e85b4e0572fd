package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"appbind/events"
)

const (
	// FlushEvery is how often is written what was recorded, where the store answers.
	FlushEvery = 5 * time.Second
	// queued is how many events wait for the goroutine that merges them: more than a second at the highest rate of binds.
	queued = 8192
	// queuedChanges is how many notes of the administration wait for it.
	queuedChanges = 1024
	// hurry is the number of rows at which the next write does not wait.
	hurry = maxPending / 4
	// writeTime bounds one write, and closeTime what is left to write at the end.
	writeTime = 15 * time.Second
	closeTime = 5 * time.Second
	// A store that failed is tried again after a pause that grows from firstPause to longestPause.
	firstPause   = time.Second
	longestPause = time.Minute
)

// sink is where rows go: a Store.
type sink interface {
	// write stores rows, all or none. refused are how many the store will never take; they are not among those to try again.
	// watch: it marks the rows in which something is to be noticed, as row.sighting.
	write(ctx context.Context, rows []*row, watch bool) (refused int, err error)
	Close() error
}

// Counts is what recorders count. A later recorder goes on with the counts of the one before, so that no counter falls.
type Counts struct {
	written, full, memory, refused, stopped, panics atomic.Uint64
}

// Stats is what was counted, and how a Recorder is now.
type Stats struct {
	Written uint64 // events that are in the store
	// Dropped are events that are lost, by the reason: queue and memory (no room), refused (by the store), stopped (not written at the end).
	Dropped map[string]uint64
	Pending int  // rows that wait
	Up      bool // the last write succeeded
	Panics  uint64
}

// Recorder writes the history behind the binds. Make it with NewRecorder.
type Recorder struct {
	open func(context.Context) (sink, error)
	log  *slog.Logger

	watch func(events.Event) // is told what is noticed when uses are written; nil: nobody

	queue   chan Event
	changes chan noted
	wake    chan struct{} // something to write that should not wait
	gone    atomic.Bool   // Close was called
	ending  chan struct{} // closed by Close
	merged  chan struct{} // closed when nothing is collected any more
	done    chan struct{} // closed when all is written, or given up
	base    context.Context
	giveUp  context.CancelFunc

	counts *Counts
	up     atomic.Bool

	mu   sync.Mutex // guards rows; no I/O under it
	rows *pending

	// The goroutine that writes has these for itself.
	store   sink // nil: not open
	failing bool
	dropped uint64 // events that were lost until the last success
}

// options are what a Recorder needs.
type options struct {
	open     func(context.Context) (sink, error)
	interval time.Duration
	counts   *Counts
	log      *slog.Logger
	watch    func(events.Event) // nil: nobody
}

// start makes a recorder and starts its goroutines.
func start(o options) *Recorder {
	r := &Recorder{
		open: o.open, counts: o.counts, log: o.log,
		watch: o.watch, queue: make(chan Event, queued), changes: make(chan noted, queuedChanges), wake: make(chan struct{}, 1),
		ending: make(chan struct{}), merged: make(chan struct{}), done: make(chan struct{}),
		rows: newPending(o.interval),
	}
	r.base, r.giveUp = context.WithCancel(context.Background())
	r.up.Store(true)
	go r.collect()
	go r.run()
	return r
}

// Record takes note of a bind. It never waits: where there is no room the event is dropped and counted.
func (r *Recorder) Record(e Event) {
	if r.gone.Load() {
		r.counts.stopped.Add(1)
		return
	}
	select {
	case r.queue <- e:
	default:
		r.counts.full.Add(1)
	}
}

// Stats takes a snapshot.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	n := len(r.rows.rows)
	r.mu.Unlock()
	return Stats{
		Written: r.counts.written.Load(),
		Dropped: map[string]uint64{"queue": r.counts.full.Load(), "memory": r.counts.memory.Load(), "refused": r.counts.refused.Load(), "stopped": r.counts.stopped.Load()},
		Pending: n,
		Up:      r.up.Load(),
		Panics:  r.counts.panics.Load(),
	}
}

// collect merges events until Close, and what is in the queue then.
func (r *Recorder) collect() {
	defer close(r.merged)
	for {
		select {
		case e := <-r.queue:
			r.merge(&e)
		case n := <-r.changes:
			r.mergeNote(&n)
		case <-r.ending:
			for {
				select {
				case e := <-r.queue:
					r.merge(&e)
				case n := <-r.changes:
					r.mergeNote(&n)
				default:
					return
				}
			}
		}
	}
}

// merge puts an event to those that wait.
func (r *Recorder) merge(e *Event) {
	r.mu.Lock()
	ok := r.rows.add(e)
	n := len(r.rows.rows)
	r.mu.Unlock()
	if !ok {
		r.counts.memory.Add(1)
	}
	if n == hurry {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// mergeNote puts a note to those that wait.
func (r *Recorder) mergeNote(n *noted) {
	r.mu.Lock()
	ok := r.rows.note(n)
	r.mu.Unlock()
	if !ok {
		r.counts.memory.Add(1)
	}
}

// run writes until Close, and once more.
func (r *Recorder) run() {
	defer close(r.done)
	timer := time.NewTimer(0) // what is wrong with the store is told at once
	defer timer.Stop()
	pause := firstPause
	for {
		select {
		case <-timer.C:
		case <-r.wake:
			if r.failing {
				continue // its pause is not cut short
			}
		case <-r.merged:
			r.finish()
			return
		}
		if r.round(writeTime) == nil {
			timer.Reset(FlushEvery)
			pause = firstPause
		} else {
			timer.Reset(pause)
			pause = min(2*pause, longestPause)
		}
	}
}

// finish writes what is left, and closes the store.
func (r *Recorder) finish() {
	if err := r.round(closeTime); err != nil {
		r.mu.Lock()
		n := uint64(0)
		for _, x := range r.rows.take() {
			n += uint64(x.times)
		}
		r.mu.Unlock()
		r.counts.stopped.Add(n)
		if n > 0 {
			r.log.Error("history is lost: it could not be written before the end", "events", n, "err", err)
		}
	}
	if r.store != nil {
		r.store.Close()
	}
}

// round opens the store where it is not, and writes what waits.
func (r *Recorder) round(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(r.base, limit)
	defer cancel()
	err := r.write(ctx)
	r.tell(err)
	if err != nil {
		// A connection that failed may be half alive; the next round begins anew.
		if r.store != nil {
			r.store.Close()
			r.store = nil
		}
		return err
	}
	return nil
}

// guard does f. A panic in it is our own bug, or the database library's; it must not end those who serve logins.
func (r *Recorder) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.counts.panics.Add(1)
			r.log.Error("appbind: internal error: panic in the history", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return f()
}

var errPanic = errors.New("internal error in the history")

// write hands what waits to the store, and takes it back where it fails.
func (r *Recorder) write(ctx context.Context) (err error) {
	if r.store == nil {
		if r.store, err = r.open(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	rows := r.rows.take()
	r.mu.Unlock()
	defer func() { r.putBack(rows) }()
	for len(rows) > 0 {
		some := rows[:min(len(rows), batch)]
		n := uint64(0)
		for _, x := range some {
			n += uint64(x.times)
		}
		var refused int
		err := r.guard(func() (err error) {
			refused, err = r.store.write(ctx, some, r.watch != nil)
			return err
		})
		switch {
		case errors.Is(err, errPanic): // it would come again with the same rows
			refused = int(n)
			for _, x := range some {
				x.sighting = ""
			}
		case err != nil:
			return err
		}
		r.counts.refused.Add(uint64(refused))
		r.counts.written.Add(n - uint64(refused))
		r.report(some)
		rows = rows[len(some):]
		if err != nil {
			return err
		}
	}
	return nil
}

// putBack merges rows that were not written with what came meanwhile.
func (r *Recorder) putBack(rows []*row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range rows {
		if !r.rows.merge(x) {
			r.counts.memory.Add(uint64(x.times))
		}
	}
}

// tell logs when the store fails, when it works again, and what was lost.
func (r *Recorder) tell(err error) {
	r.up.Store(err == nil)
	dropped := r.droppedNow()
	switch {
	case err != nil && !r.failing:
		r.log.Warn("history is not written; logins do not depend on it", "err", err)
	case err == nil && r.failing:
		r.log.Info("history is written again", "lost", dropped-r.dropped)
	case err == nil && dropped > r.dropped:
		r.log.Warn("history is incomplete: more came than could be written, or the store refused it", "lost", dropped-r.dropped)
	}
	if r.failing = err != nil; !r.failing {
		r.dropped = dropped
	}
}

func (r *Recorder) droppedNow() uint64 {
	return r.counts.full.Load() + r.counts.memory.Load() + r.counts.refused.Load()
}

// Close writes what was recorded and ends the recorder. What comes after it is
// dropped. It returns when all has ended, or when ctx ends: the store is
// then given up, and what was not written is lost.
func (r *Recorder) Close(ctx context.Context) {
	if !r.gone.Swap(true) {
		close(r.ending)
	}
	defer context.AfterFunc(ctx, r.giveUp)()
	select {
	case <-r.done:
	case <-ctx.Done():
		r.log.Error("history is given up: its store does not answer")
	}
}
