package backend

import (
	"context"
	"fmt"

	"appbind/auth"
	"appbind/wire"
)

// Reply is the final response to one request, with bytes of its own.
type Reply struct {
	Op       wire.Op
	Body     []byte
	Controls []byte // nil: none
	Result   wire.Result
}

// exchangeSink waits for the final response to one request.
type exchangeSink struct {
	reply *Reply
	err   error
	done  chan struct{} // closed after one of reply and err is set
}

// Deliver takes the final response; intermediate ones have no meaning for what is exchanged here.
func (s *exchangeSink) Deliver(m wire.Message, final, _ bool) {
	if !final {
		return
	}
	r := &Reply{Op: m.Op, Body: clone(m.Body), Controls: clone(m.Controls)}
	if r.Result, s.err = wire.DecodeResult(r.Body); s.err == nil {
		s.reply = r
	}
	close(s.done)
}

// Lost takes the end of the link.
func (s *exchangeSink) Lost(err error) {
	s.err = err
	close(s.done)
}

// Exchange sends one request that has a single response (no bind, no search) and
// waits for it, within ctx. With ErrNotSent nothing was sent; after any other
// error nobody knows whether the request was carried out. A request that is not
// answered in time is abandoned.
func (l *Link) Exchange(ctx context.Context, op wire.Op, body, controls []byte) (*Reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrNotSent, ErrUnavailable, err)
	}
	sink := &exchangeSink{done: make(chan struct{})}
	id, err := l.Send(op, body, controls, sink, true)
	if err != nil {
		return nil, err
	}
	select {
	case <-sink.done:
		if sink.err != nil {
			return nil, l.wrap(sink.err)
		}
		return sink.reply, nil
	case <-ctx.Done():
		l.Abandon(id)
		return nil, l.wrap(fmt.Errorf("no answer in time: %w", ctx.Err()))
	}
}

// Search runs one search on the link, as whoever the link is bound as. Entries
// go to each, one after the other, from another goroutine, never after the
// return. Errors: those of each, and ErrUnavailable.
func (l *Link) Search(ctx context.Context, s *wire.SearchRequest, controls []byte,
	each func(e wire.SearchEntry, controls []byte) error) (wire.Result, error) {
	return l.search(ctx, s, controls, each)
}

// FindLive is Find in the directory itself, whatever lookup says: what is
// changed must not be judged by a copy.
func (u *Upstream) FindLive(ctx context.Context, name string) (*auth.Entry, error) {
	if name == "" {
		return nil, auth.ErrNotFound // the root DSE is nobody
	}
	return u.find(ctx, name)
}

// FindBy finds, live, the one user with a value of an attribute, as the attribute's matching rule compares. All who match
// users.filter count, disabled or not: a value that two have stands for neither. Errors: auth.ErrNotFound,
// auth.ErrAmbiguous, ErrUnavailable.
func (u *Upstream) FindBy(ctx context.Context, attribute, value string) (*auth.Entry, error) {
	if value == "" {
		return nil, auth.ErrNotFound
	}
	sv, err := u.surveyed(ctx)
	if err != nil {
		return nil, err
	}
	equal := wire.AppendElement(nil, wire.TagOctetString, []byte(attribute))
	equal = wire.CloseElement(wire.AppendElement(equal, wire.TagOctetString, []byte(value)), 0, tagEqual)
	r, err := u.below(ctx, sv, wire.AppendAnd(nil, equal, u.lookup.filter))
	switch {
	case err != nil:
		return nil, err
	case len(r.found) == 0:
		return nil, auth.ErrNotFound
	case len(r.found) > 1:
		return nil, auth.ErrAmbiguous
	}
	e, err := u.findDN(ctx, sv, r.found[0].DN)
	if err == nil && e.Key != r.found[0].Key {
		err = auth.ErrNotFound // the name went to another entry meanwhile
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// Supports reports whether the root DSE lists a control.
func (u *Upstream) Supports(control string) bool {
	return u.survey.Load().root.offers(control)
}
