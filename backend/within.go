package backend

import (
	"context"
	"sync"
	"time"
)

// within is the context of one bind, see Within. Its timer and its channel are
// made when somebody waits for its end: a bind that is decided from memory needs
// neither.
type within struct {
	parent context.Context
	at     time.Time
	turn   int

	mu     sync.Mutex      // guards the fields below
	real   context.Context // nil: nobody has waited yet
	cancel context.CancelFunc
}

// Within is a context that ends with parent, and at the latest after limit.
// Everything that is asked within it begins at one and the same server: what a
// lookup says of a password is held against what a bind says of it. The
// CancelFunc must be called when it is not needed any more.
func (u *Upstream) Within(parent context.Context, now time.Time, limit time.Duration) (context.Context, context.CancelFunc) {
	w := &within{parent: parent, at: now.Add(limit), turn: u.turn()}
	return w, w.end
}

// Deadline implements context.Context.
func (w *within) Deadline() (time.Time, bool) {
	if d, ok := w.parent.Deadline(); ok && d.Before(w.at) {
		return d, true
	}
	return w.at, true
}

// Done implements context.Context.
func (w *within) Done() <-chan struct{} { return w.whole().Done() }

// Err implements context.Context.
func (w *within) Err() error {
	w.mu.Lock()
	idle := w.real == nil
	w.mu.Unlock()
	if idle && w.parent.Err() == nil && time.Until(w.at) > 0 {
		return nil
	}
	return w.whole().Err()
}

// Value implements context.Context. What package context looks for in there
// must be found, for context.Cause and for contexts that are made of this one.
func (w *within) Value(key any) any {
	if key == (turnKey{}) {
		return w
	}
	return w.whole().Value(key)
}

// whole makes the rest of the context.
func (w *within) whole() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.real == nil {
		w.real, w.cancel = context.WithDeadline(w.parent, w.at)
	}
	return w.real
}

// end frees what there is. Whoever asks later finds it ended.
func (w *within) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.real == nil {
		w.real = ended
		return
	}
	if w.cancel != nil {
		w.cancel()
	}
}

// timers are those of await that are not in use.
var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// await waits until done is closed or ctx has ended, whichever is first. Of a context of Within or UntilDown it
// makes no more than there is: nearly every wait ends well, and a context for each would cost more than the wait.
func await(ctx context.Context, done <-chan struct{}) {
	var down <-chan struct{}
	q, _ := ctx.(*untilDown)
	w, plain := ctx.(*within)
	if q != nil {
		down = q.alive.Done()
		w, plain = q.Context.(*within)
	}
	if !plain {
		select {
		case <-done:
		case <-ctx.Done():
		}
		return
	}
	timer := timers.Get().(*time.Timer)
	defer timers.Put(timer)
	defer timer.Stop()
	for examined := q == nil; ; {
		next := w.at
		if !examined && q.slow.Before(next) {
			next = q.slow
		}
		timer.Reset(time.Until(next))
		select {
		case <-done:
			return
		case <-w.parent.Done():
			return
		case <-down:
			return
		case <-timer.C:
		}
		switch {
		case ctx.Err() != nil:
			return
		case !examined:
			examined = true
			q.up.examineAll()
		}
	}
}

// ended is a context that has ended.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// turnKey is under what a context knows its turn.
type turnKey struct{}

// turnOf is the turn of ctx, else the next one.
func (u *Upstream) turnOf(ctx context.Context) int {
	if w, ok := ctx.Value(turnKey{}).(*within); ok {
		return w.turn
	}
	return u.turn()
}
