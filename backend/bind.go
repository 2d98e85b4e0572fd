package backend

import (
	"context"
	"errors"
	"fmt"

	"appbind/auth"
	"appbind/wire"
)

// maxTakes bounds how many dead links in a row are taken from the pool for one bind.
const maxTakes = 4

// bindSink waits for the answer to one bind.
type bindSink struct {
	server string
	answer *auth.Answer
	err    error
	done   chan struct{} // closed after one of answer and err is set
}

// Deliver takes the final response. An intermediate one has no meaning for a
// simple bind and is skipped.
func (s *bindSink) Deliver(m wire.Message, final, _ bool) {
	if !final {
		return
	}
	r, err := wire.DecodeResult(m.Body)
	switch {
	case err != nil:
		s.err = err
	case m.Op != wire.OpBindResponse && r.Code == wire.ResultSuccess:
		// An ExtendedResponse may end a bind (Samba, code 12), but never accepts it.
		s.err = errWrongOp
	default:
		s.answer = &auth.Answer{Code: r.Code, Diagnostic: string(r.Diagnostic), Server: s.server}
		if m.Controls != nil {
			s.answer.Controls = append([]byte{}, m.Controls...)
		}
	}
	close(s.done)
}

// Lost takes the end of the link.
func (s *bindSink) Lost(err error) {
	s.err = err
	close(s.done)
}

// Bind binds the link and waits for the answer, whatever its code is. It is
// sent once, and only where nothing else is outstanding on the link. Any error
// leaves the link useless: Close it. ErrNotSent tells that nothing was sent;
// when ctx ends first, the link is lost, since nobody knows who it is bound as.
func (l *Link) Bind(ctx context.Context, dn string, password auth.Password, controls []byte) (*auth.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrNotSent, ErrUnavailable, err)
	}
	sink := &bindSink{server: l.server.name, done: make(chan struct{})}
	body := wire.AppendSimpleBind(nil, dn, password)
	_, err := l.Send(wire.OpBindRequest, body, controls, sink, false)
	clear(body)
	if err != nil {
		return nil, err
	}
	await(ctx, sink.done)
	select {
	case <-sink.done:
	default:
		err := l.wrap(fmt.Errorf("bind was not answered in time: %w", ctx.Err()))
		if errors.Is(ctx.Err(), context.Canceled) {
			err = errClosed // whoever asked has left: no fault of the server
		} else {
			l.server.unanswered.Add(1)
		}
		l.lose(err)
		return nil, err
	}
	if sink.err != nil {
		err := l.wrap(sink.err)
		l.lose(err)
		return nil, err
	}
	return sink.answer, nil
}

// Bind takes a bind link and binds it, taking another one where a pooled link
// was dead before anything was sent. With an answer comes the link, which
// belongs to the caller as one from BindLink does.
func (u *Upstream) Bind(ctx context.Context, dn string, password auth.Password, controls []byte) (*auth.Answer, *Link, error) {
	ctx, done := u.UntilDown(ctx)
	defer done()
	var last error
	for range maxTakes {
		l, err := u.BindLink(ctx)
		if err != nil {
			return nil, nil, err
		}
		answer, err := l.Bind(ctx, dn, password, controls)
		if err == nil {
			return answer, l, nil
		}
		l.Close()
		if !errors.Is(err, ErrNotSent) || ctx.Err() != nil {
			return nil, nil, err
		}
		last = err
	}
	return nil, nil, last
}
