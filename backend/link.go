package backend

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"appbind/wire"
)

// writeBacklog is what may wait behind a write under way before senders block.
const writeBacklog = 256 << 10

// writeStall ends a link whose server takes nothing for so long.
const writeStall = 10 * time.Second

// noticeOfDisconnection is the responseName of RFC 4511 4.4.1.
const noticeOfDisconnection = "1.3.6.1.4.1.1466.20036"

// errClosed is how a link ends that its owner closes.
var errClosed = fmt.Errorf("%w: link closed", ErrUnavailable)

// Link is one connection to an upstream server. Safe for concurrent use.
type Link struct {
	up      *Upstream
	server  *server
	raw     net.Conn // the socket
	conn    net.Conn // the socket, or TLS on it
	reader  *wire.Reader
	writer  *wire.Writer
	pooled  bool   // takes a place of the pool
	strange bool   // one of those for anonymous links
	account string // who keeps it; "": nobody; guarded by pool.mu
	done    chan struct{}
	heard   atomic.Int64 // counts messages received

	mu         sync.Mutex // guards the fields below; no I/O and no Deliver under it
	pending    pending
	err        error // why it is lost
	binding    bool  // a bind is outstanding: nothing else may be sent
	ending     bool  // its owner closes it: that is no loss, though the reader may be the first to see the end
	spoiled    bool  // a request timed out: not to be used by anyone else
	retired    bool  // a service link that takes no more requests and ends when it is idle
	delivering bool  // the reader is in a sink
	resumed    int64 // the caretaker's round in which the reader last left a sink
	idleSince  time.Time
	group      *Group    // whose clients share it; nil: it has one owner
	bound      time.Time // when it was bound for its group
}

// newLink makes a link of a connection and starts its reader, which ends when
// the link is lost or closed; nil once Close has begun.
func newLink(s *server, raw, conn net.Conn, pooled, strange bool) *Link {
	if !s.up.own(&s.up.links) {
		raw.Close()
		return nil
	}
	l := &Link{up: s.up, server: s, raw: raw, conn: conn, pooled: pooled, strange: strange,
		reader:  wire.NewReader(conn, wire.MaxFromUpstream),
		writer:  wire.NewWriter(conn, writeBacklog, writeStall),
		done:    make(chan struct{}),
		pending: pending{byID: map[int32]*request{}}}
	s.up.pool.register(l)
	go l.runReader()
	return l
}

// Server names the server of the link, for the log.
func (l *Link) Server() string { return l.server.name }

// Done is closed when the link is lost or closed.
func (l *Link) Done() <-chan struct{} { return l.done }

// Outstanding is the number of requests that wait for a final response.
func (l *Link) Outstanding() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending.byID)
}

// Send sends a request, under an ID of the link's own, which it returns for
// Abandon. watch: the request is given up (Lost) after operation_timeout without
// a response. After an error, always ErrNotSent, nothing was sent and the sink
// hears nothing. Binds go through Bind, abandons through Abandon.
func (l *Link) Send(op wire.Op, body, controls []byte, sink Sink, watch bool) (int32, error) {
	id, err := l.enter(nil, op, sink, watch)
	if err != nil {
		return 0, err
	}
	err = l.writer.Append(func(dst []byte) []byte { return wire.AppendMessage(dst, id, op, body, controls) })
	return l.flush(id, err)
}

// Forward is Send of a client's message as it stands.
func (l *Link) Forward(m wire.Message, sink Sink, watch bool) (int32, error) {
	id, err := l.enter(nil, m.Op, sink, watch)
	if err != nil {
		return 0, err
	}
	err = l.writer.Append(func(dst []byte) []byte { return m.AppendTo(dst, id) })
	return l.flush(id, err)
}

// enter enters a request that is about to be sent. group is the one on whose
// behalf: a link that it shares no more may be bound as somebody else by now.
func (l *Link) enter(group *Group, op wire.Op, sink Sink, watch bool) (int32, error) {
	if wire.ResponseTo(op) == 0 {
		return 0, fmt.Errorf("%w: operation %#x has no response", ErrNotSent, byte(op))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return 0, fmt.Errorf("%w: %w", ErrNotSent, l.err)
	case l.binding, op == wire.OpBindRequest && len(l.pending.byID) > 0:
		// RFC 4511 4.2.1: nothing else is outstanding around a bind.
		return 0, fmt.Errorf("%w: a bind and another request at one time", ErrNotSent)
	case group != nil && (l.group != group || l.retired || l.spoiled || len(l.pending.byID) >= maxShared):
		return 0, fmt.Errorf("%w: the link is not shared any more, or full", ErrNotSent)
	}
	l.binding = op == wire.OpBindRequest
	l.server.count(op)
	return l.pending.add(request{sink: sink, op: op, watch: watch, heard: l.up.tick.Load()}), nil
}

// flush writes what was queued. If that fails the reader tells the sink: the
// link may have been lost long after the request had reached the server, so that
// part of its answer may be on its way through the sink just now.
func (l *Link) flush(id int32, appendErr error) (int32, error) {
	if appendErr == nil {
		if l.crowded() {
			runtime.Gosched()
		}
		if err := l.writer.Flush(); err != nil {
			l.lose(l.wrap(err))
		}
		return id, nil
	}
	err := l.wrap(appendErr)
	l.lose(err)
	l.mu.Lock()
	ours := l.pending.remove(id) != nil
	l.mu.Unlock()
	if !ours {
		return id, nil // the reader was first
	}
	return 0, fmt.Errorf("%w: %w", ErrNotSent, err)
}

// crowded reports whether several requests are outstanding, so that others are likely to
// have one to send as well: it then goes out with the next write, and one is enough for all.
func (l *Link) crowded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending.byID) > 1
}

// wrap makes an error of the connection one of this package.
func (l *Link) wrap(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, l.server.name, err)
}

// Abandon gives up a request: its sink hears nothing more, but for a call that
// is under way, and the server is told. An ID that is not outstanding is ignored.
func (l *Link) Abandon(id int32) {
	l.mu.Lock()
	sink := l.pending.remove(id)
	// The reader may be held up by this very sink, and must not hold up the next owner of the link.
	l.spoiled = l.spoiled || sink != nil && l.delivering
	own := l.pending.nextID()
	lost := l.err != nil
	l.mu.Unlock()
	if sink == nil || lost {
		return
	}
	defer l.settled()
	err := l.writer.Write(func(dst []byte) []byte {
		return wire.AppendMessage(dst, own, wire.OpAbandonRequest, wire.AppendAbandon(nil, id), nil)
	})
	if err != nil {
		l.lose(l.wrap(err))
	}
}

// Close closes the link. An Unbind is sent where nothing is outstanding, so
// that the write cannot wait; else the connection just ends. Requests that are
// outstanding hear Lost.
func (l *Link) Close() {
	l.mu.Lock()
	quiet := l.err == nil && len(l.pending.byID) == 0
	l.ending = true
	own := l.pending.nextID()
	l.mu.Unlock()
	if quiet {
		_ = l.writer.Write(func(dst []byte) []byte { // the connection ends either way
			return wire.AppendMessage(dst, own, wire.OpUnbindRequest, nil, nil)
		})
		l.conn.Close()
	}
	l.lose(errClosed)
}

// lose ends the link with a reason; the first one counts. The reader then tells the sinks.
func (l *Link) lose(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	inUse := len(l.pending.byID) > 0
	ours := l.ending || errors.Is(err, errClosed)
	l.mu.Unlock()
	close(l.done)
	if !ours {
		l.server.lost.Add(1)
	}
	l.writer.Close(err)
	l.raw.Close()
	switch {
	case ours: // a look at the server would close a link, and look again for that
	case inUse:
		l.server.suspect(err)
	case errors.Is(err, net.ErrClosed): // Close is at work, and the reader was faster
	default:
		l.server.examine() // servers close idle links; it may also have died
	}
}

// runReader delivers responses until the link is lost, and then tells the sinks that still wait.
func (l *Link) runReader() {
	defer l.up.links.Done()
	defer l.up.pool.ended(l)
	l.lose(l.wrap(l.readAll()))
	l.forsake()
	for {
		l.mu.Lock()
		var sink Sink
		for id := range l.pending.byID {
			sink = l.pending.remove(id)
			break
		}
		err := l.err
		l.mu.Unlock()
		if sink == nil {
			l.settled()
			return
		}
		_ = l.guard(func() { sink.Lost(err) }) // it is lost already
	}
}

// readAll reads until an error.
func (l *Link) readAll() error {
	for {
		m, err := l.reader.Next()
		if err != nil {
			return err
		}
		if err := m.ValidateResponse(); err != nil {
			return err
		}
		l.heard.Add(1)
		if err := l.dispatch(m); err != nil {
			return err
		}
	}
}

// dispatch delivers one response; an error loses the link.
func (l *Link) dispatch(m wire.Message) error {
	if m.ID == 0 {
		return unsolicited(m)
	}
	sink, final, err := l.match(m)
	if sink == nil {
		return err
	}
	err = l.guard(func() { sink.Deliver(m, final, l.reader.Ready()) })
	l.mu.Lock()
	l.delivering, l.resumed = false, l.up.tick.Load()
	l.mu.Unlock()
	if final {
		l.settled()
	}
	return err
}

// match finds the sink of a response and marks the reader as delivering. No
// sink and no error: the answer to a request that was given up, to be dropped.
func (l *Link) match(m wire.Message) (sink Sink, final bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.pending.byID[m.ID]
	if r == nil {
		if !l.pending.used(m.ID) {
			return nil, false, errUnknownID
		}
		return nil, false, nil
	}
	final, ok := classify(r.op, m.Op)
	if !ok {
		return nil, false, errWrongOp
	}
	sink, r.heard = r.sink, l.up.tick.Load()
	if final {
		l.pending.remove(m.ID)
		l.binding = false
	}
	l.delivering = true
	return sink, final, nil
}

// unsolicited takes a message with ID 0. A notice of disconnection ends the
// link; notices that we do not know are ignored (RFC 4511 4.4).
func unsolicited(m wire.Message) error {
	if m.Op != wire.OpExtendedResponse {
		return errNotNotice
	}
	r, err := wire.DecodeResult(m.Body)
	if err != nil {
		return err
	}
	name, _, err := wire.ExtendedTail(r.Tail)
	if err == nil && string(name) == noticeOfDisconnection {
		err = fmt.Errorf("%w (result %d)", errDisconnect, r.Code)
	}
	return err
}

// guard calls a sink. A panic in it is our own bug; it costs this link and no other.
func (l *Link) guard(call func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			l.up.panics.Add(1)
			l.up.log.Error("appbind: internal error: panic in the receiver of a response",
				"upstream", l.server.name, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errors.New("internal error in the receiver of a response")
		}
	}()
	call()
	return nil
}

// expire gives up the watched requests that have heard nothing for the given
// number of the caretaker's rounds. While the reader is held up by a sink of
// ours, the silence is not the server's.
func (l *Link) expire(now, rounds int64) {
	var lost []Sink
	l.mu.Lock()
	if !l.delivering {
		for id, r := range l.pending.byID {
			if r.watch && now-max(r.heard, l.resumed) > rounds {
				lost = append(lost, l.pending.remove(id))
			}
		}
	}
	l.spoiled = l.spoiled || len(lost) > 0
	l.mu.Unlock()
	if len(lost) == 0 {
		return
	}
	l.server.unanswered.Add(uint64(len(lost)))
	err := l.wrap(errors.New("no response within operation_timeout"))
	l.server.suspect(err)
	for _, sink := range lost {
		if l.guard(func() { sink.Lost(err) }) != nil {
			l.lose(l.wrap(errors.New("internal error in the receiver of a response")))
		}
	}
	l.settled()
}
