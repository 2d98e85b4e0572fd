package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"appbind/wire"
)

// errGone says that a link was lost, or its request given up, before the final response.
var errGone = errors.New("no final response")

// searchSink collects one search of ours.
type searchSink struct {
	each func(e wire.SearchEntry, controls []byte) error

	mu       sync.Mutex // held during each; guards the fields below
	result   wire.Result
	controls []byte // of the final response
	err      error
	entries  int
	ended    bool
	done     chan struct{} // closed when ended
}

// Deliver takes one response. References are ignored: they are never followed.
func (s *searchSink) Deliver(m wire.Message, final, _ bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
	case final:
		s.finish(m)
	case m.Op == wire.OpSearchResultEntry:
		e, err := wire.DecodeEntry(m.Body)
		s.entries++
		if err == nil && s.each != nil {
			err = s.each(e, m.Controls)
		}
		if err != nil {
			s.end(err)
		}
	}
}

// finish takes the final response, whose bytes do not outlive the call.
func (s *searchSink) finish(m wire.Message) {
	r, err := wire.DecodeResult(m.Body)
	if err == nil && m.Op != wire.OpSearchResultDone && r.Code == wire.ResultSuccess {
		err = errWrongOp // an ExtendedResponse may end a search (Samba, code 12), but not well
	}
	s.controls = clone(m.Controls)
	s.result = wire.Result{Code: r.Code, MatchedDN: clone(r.MatchedDN), Diagnostic: clone(r.Diagnostic), Referral: clone(r.Referral)}
	s.end(err)
}

// end closes the sink. The caller holds s.mu.
func (s *searchSink) end(err error) {
	if !s.ended {
		s.ended, s.err = true, err
		close(s.done)
	}
}

// Lost takes the end of the link.
func (s *searchSink) Lost(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(fmt.Errorf("%w: %w", errGone, err))
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// searchFailure is a search without a final response: what was lost, and whether anything had come.
type searchFailure struct {
	err     error
	entries int
	// timeout: the server did not answer in time.
	timeout bool
	// gone: the link was lost.
	gone bool
}

func (f *searchFailure) Error() string { return f.err.Error() }
func (f *searchFailure) Unwrap() error { return f.err }

// maxBody is up to which size a buffer in bodies is kept.
const maxBody = 4 << 10

// bodies are the buffers in which searches are put together.
var bodies = sync.Pool{New: func() any {
	room := make([]byte, 0, 1024)
	return &room
}}

// search runs one search on a link, within ctx and, for a ctx without an end,
// operation_timeout. An error is a *searchFailure, unless each failed.
func (l *Link) search(ctx context.Context, s *wire.SearchRequest, controls []byte,
	each func(wire.SearchEntry, []byte) error) (wire.Result, error) {
	return l.searchInto(ctx, s, controls, &searchSink{each: each, done: make(chan struct{})})
}

// searchInto is search with a sink of the caller's, for the controls of the final response.
func (l *Link) searchInto(ctx context.Context, s *wire.SearchRequest, controls []byte, sink *searchSink) (wire.Result, error) {
	room := bodies.Get().(*[]byte)
	*room = s.Append((*room)[:0])
	id, err := l.Send(wire.OpSearchRequest, *room, controls, sink, true) // which copies it
	if cap(*room) <= maxBody {
		bodies.Put(room)
	}
	if err != nil {
		return wire.Result{}, &searchFailure{err: err, gone: true}
	}
	await(ctx, sink.done)
	late := sink.giveUp(ctx.Err())
	switch {
	case late:
		l.server.unanswered.Add(1)
		l.Abandon(id)
		err := fmt.Errorf("%w: %s did not answer a search in time: %w", ErrUnavailable, l.server.name, ctx.Err())
		return wire.Result{}, &searchFailure{err: err, entries: sink.entries, timeout: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	case sink.err == nil:
		return sink.result, nil
	case errors.Is(sink.err, errGone):
		return wire.Result{}, &searchFailure{err: sink.err, entries: sink.entries, gone: true}
	}
	l.Abandon(id) // each wants no more, or the answer is not one
	return wire.Result{}, sink.err
}

// giveUp ends a sink that has not ended, and reports whether it had not.
// Nothing of it changes after that.
func (s *searchSink) giveUp(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := !s.ended
	s.end(err)
	return late
}

// ServiceSearch runs one search on a service link (bound as upstream.bind_dn).
// Entries go to each, one after the other, from another goroutine, never after
// the return; the message is valid only during the call, and each must not
// block. An error of each ends the search and is returned. References are
// ignored. The search is tried once more on a fresh link if the link is lost
// before the first entry, and on the next server where one is in trouble or
// answers busy or unavailable (51, 52) before the first entry; any other code is
// returned as it is. Errors other than those of each are ErrUnavailable.
func (u *Upstream) ServiceSearch(ctx context.Context, s *wire.SearchRequest, controls []byte,
	each func(e wire.SearchEntry, controls []byte) error) (wire.Result, error) {
	r, _, err := u.searchService(ctx, s, controls, each)
	return r, err
}

// searchService is ServiceSearch that also says who answered.
func (u *Upstream) searchService(ctx context.Context, s *wire.SearchRequest, controls []byte,
	each func(e wire.SearchEntry, controls []byte) error) (wire.Result, *server, error) {
	c, turn := u.choice.Load(), u.turnOf(ctx)
	var result wire.Result
	var srv *server
	last := error(nil)
	for i := range c.list {
		srv = c.at(turn, i)
		r, err := u.serverSearch(ctx, srv, len(c.list)-i, s, controls, each)
		if err == nil && r.Code != wire.ResultBusy && r.Code != wire.ResultUnavailable {
			return r, srv, nil
		}
		result, last = r, err
		if f, ok := errors.AsType[*searchFailure](err); err != nil && !ok || ok && f.entries > 0 || ctx.Err() != nil {
			break
		}
	}
	if len(c.list) == 0 {
		last = u.allDown()
	}
	return result, srv, last
}

// serverSearch runs a search on one server, with one more try on a fresh link.
// While further servers are left, this one gets half of the time that remains.
func (u *Upstream) serverSearch(ctx context.Context, srv *server, left int, s *wire.SearchRequest, controls []byte,
	each func(wire.SearchEntry, []byte) error) (wire.Result, error) {
	if deadline, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	for try := 0; ; try++ {
		r, err := srv.service.pick().search(ctx, srv, s, controls, each)
		f, failed := errors.AsType[*searchFailure](err)
		if !failed || !f.gone || f.entries > 0 || try > 0 {
			return r, err
		}
	}
}

// search runs a search on the slot's link. A link on which nothing at all came
// back in time is used no more: the network in between may have dropped it.
func (sl *serviceSlot) search(ctx context.Context, srv *server, s *wire.SearchRequest, controls []byte,
	each func(wire.SearchEntry, []byte) error) (wire.Result, error) {
	if err := sl.enter(ctx); err != nil {
		err := fmt.Errorf("%w: too many lookups under way on %s: %w", ErrUnavailable, srv.name, err)
		return wire.Result{}, &searchFailure{err: err}
	}
	defer func() { <-sl.room }()
	l, err := sl.get(ctx, srv)
	if err != nil {
		return wire.Result{}, &searchFailure{err: err}
	}
	defer l.endIfRetired()
	before := l.heard.Load()
	r, err := l.search(ctx, s, controls, each)
	if f, ok := errors.AsType[*searchFailure](err); ok && f.timeout && l.heard.Load() == before {
		srv.suspect(err)
		l.retire()
	}
	return r, err
}

// enter takes room on the slot, within ctx.
func (sl *serviceSlot) enter(ctx context.Context) error {
	select {
	case sl.room <- struct{}{}:
		return nil
	default: // ctx is not asked for its channel unless there is something to wait for
	}
	select {
	case sl.room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
