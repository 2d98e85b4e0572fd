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
	mu     sync.Mutex // guards byName, followers and done of each; no I/O under it
	byName map[string]*flight
}

// flight is one lookup under way.
type flight struct {
	begun     time.Time
	followers int
	done      chan struct{} // closed when entry and err are set; nil: nobody follows
	entry     *auth.Entry
	err       error
}

// find runs lookup for a name, or waits for one that runs and is young enough.
func (f *flights) find(ctx context.Context, c clock, name string,
	lookup func(context.Context, string) (*auth.Entry, error)) (entry *auth.Entry, err error) {
	now := c.now()
	f.mu.Lock()
	if fl := f.byName[name]; fl != nil && now.Sub(fl.begun) < maxJoin {
		if fl.followers++; fl.done == nil {
			fl.done = make(chan struct{})
		}
		f.mu.Unlock()
		return fl.follow(ctx, name, lookup)
	}
	fl := &flight{begun: now}
	if f.byName == nil {
		f.byName = map[string]*flight{}
	}
	f.byName[name] = fl // in the place of one that is too old
	f.mu.Unlock()
	err = errLeaderGone
	defer func() { f.end(name, fl, entry, err) }() // also after a panic, so that nobody waits for ever
	entry, err = lookup(ctx, name)
	return entry, err
}

// end ends a flight: nobody joins it any more, and who waits may look.
func (f *flights) end(name string, fl *flight, entry *auth.Entry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName[name] == fl {
		delete(f.byName, name)
	}
	if fl.done != nil {
		fl.entry, fl.err = copied(entry), err
		close(fl.done)
	}
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
