package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"appbind/auth"
)

// maxJoin is the age up to which a lookup under way is shared with those who
// come for the same name. It bounds by how much an answer can be older than the
// bind that it decides: a password that was revoked before that is seen.
const maxJoin = 50 * time.Millisecond

// flights is the lookups under way, so that the same name asked for many times
// at once, as when all the connections of a phone come back, costs one search.
// Only what was found is shared; each bind judges it for itself.
type flights struct {
	mu     sync.Mutex // guards byName and the followers of each; no I/O under it
	byName map[string]*flight
}

// flight is one lookup under way.
type flight struct {
	begun     time.Time
	followers int
	done      chan struct{} // closed when entry and err are set
	entry     *auth.Entry
	err       error
}

// find runs lookup for a name, or waits for one that runs and is young enough.
func (f *flights) find(ctx context.Context, c clock, name string,
	lookup func(context.Context, string) (*auth.Entry, error)) (*auth.Entry, error) {
	now := c.now()
	f.mu.Lock()
	if fl := f.byName[name]; fl != nil && now.Sub(fl.begun) < maxJoin {
		fl.followers++
		f.mu.Unlock()
		return fl.follow(ctx, name, lookup)
	}
	fl := &flight{begun: now, done: make(chan struct{})}
	if f.byName == nil {
		f.byName = map[string]*flight{}
	}
	f.byName[name] = fl // in the place of one that is too old
	f.mu.Unlock()
	defer f.end(name, fl) // also after a panic, so that nobody waits for ever
	fl.err = errLeaderGone
	lead, end := f.detach(ctx, fl)
	defer end()
	entry, err := lookup(lead, name)
	fl.entry, fl.err = copied(entry), err
	return entry, err
}

// end ends a flight: nobody joins it any more, and who waits may look.
func (f *flights) end(name string, fl *flight) {
	f.mu.Lock()
	if f.byName[name] == fl {
		delete(f.byName, name)
	}
	f.mu.Unlock()
	close(fl.done)
}

// copied is an entry for one bind alone; the values are only read.
func copied(e *auth.Entry) *auth.Entry {
	if e == nil {
		return nil
	}
	own := *e
	return &own
}

// errLeaderGone is what followers find when the lookup ended in a panic.
var errLeaderGone = errors.New("appbind: internal error: lookup did not end")

// detach is ctx with its deadline, but ended by its owner only while nobody follows.
func (f *flights) detach(ctx context.Context, fl *flight) (context.Context, func()) {
	lead, cancel := context.WithoutCancel(ctx), context.CancelFunc(nil)
	if deadline, ok := ctx.Deadline(); ok {
		lead, cancel = context.WithDeadline(lead, deadline)
	} else {
		lead, cancel = context.WithCancel(lead)
	}
	stop := context.AfterFunc(ctx, func() {
		f.mu.Lock()
		alone := fl.followers == 0
		f.mu.Unlock()
		if alone {
			cancel()
		}
	})
	return lead, func() {
		stop()
		cancel()
	}
}

// follow waits for the flight. Who has time left when it ran out of time, or
// was given up, looks up alone.
func (fl *flight) follow(ctx context.Context, name string,
	lookup func(context.Context, string) (*auth.Entry, error)) (*auth.Entry, error) {
	select {
	case <-fl.done:
	case <-ctx.Done():
		return nil, errors.Join(ErrUnavailable, ctx.Err())
	}
	ended := errors.Is(fl.err, context.DeadlineExceeded) || errors.Is(fl.err, context.Canceled)
	if ended && ctx.Err() == nil {
		return lookup(ctx, name)
	}
	return copied(fl.entry), fl.err
}
