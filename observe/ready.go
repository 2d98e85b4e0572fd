package observe

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readyFor is how long an answer to "are you ready" holds, good or bad.
	readyFor = time.Second
	// readyTime bounds finding out; supervisors wait for some seconds.
	readyTime = 3 * time.Second
)

// Note is an answer of Source.Ready that is no error: clients are served, and this is to be said besides.
type Note string

// Error is the note.
func (n Note) Error() string { return string(n) }

// readiness answers /readyz. One question is asked at one time, for all who wait.
type readiness struct {
	ask func(ctx context.Context) error
	now func() time.Time

	mu    sync.Mutex // held while asking; guards the fields below
	known error
	until time.Time
}

func newReadiness(ask func(ctx context.Context) error) *readiness {
	return &readiness{ask: ask, now: time.Now}
}

// check is the present answer.
func (r *readiness) check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now().Before(r.until) {
		return r.known
	}
	// Not the request's context: others may wait for the same answer.
	ctx, cancel := context.WithTimeout(context.Background(), readyTime)
	defer cancel()
	r.known = r.ask(ctx)
	r.until = r.now().Add(readyFor)
	return r.known
}

// ServeHTTP answers 200, with a note where there is one, or 503 with the reason.
func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	err := r.check()
	if note, ok := errors.AsType[Note](err); ok {
		line(w, http.StatusOK, string(note))
		return
	}
	if err != nil {
		line(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	line(w, http.StatusOK, "ready")
}

// switcher is a handler that can be replaced while it serves.
type switcher struct{ now atomic.Pointer[http.Handler] }

func (s *switcher) set(h http.Handler) { s.now.Store(&h) }

// ServeHTTP hands the request to the handler of the moment.
func (s *switcher) ServeHTTP(w http.ResponseWriter, r *http.Request) { (*s.now.Load()).ServeHTTP(w, r) }
