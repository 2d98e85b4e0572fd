package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"appbind/wire"
)

const (
	// writeBacklog is what may wait for a client behind a write under way;
	// more makes the upstream link of this client wait.
	writeBacklog = 1 << 20
	// lingerTime and lingerBytes bound the wait for a client to take its Notice
	// of Disconnection: closing with bytes unread would reset the connection and
	// could take the notice away from the client.
	lingerTime  = time.Second
	lingerBytes = 1 << 20
	// restAfter is how long nothing comes before a client goes on in a new goroutine. The stack of
	// the old one has grown, to four times what it takes to wait, and most clients are idle.
	restAfter = time.Second
)

// Ends of a client that need no notice.
var (
	errUnbind = errors.New("unbind")
	errIdle   = errors.New("idle for too long")
	errSlow   = errors.New("message not received in time")
	// errUndecided ends a client whose bind cannot be decided, where the listener wants no result for that.
	errUndecided = errors.New("bind could not be decided")
	// errUntrusted says why a well-formed context was not believed.
	errUntrusted = errors.New("the listener has no context: trusted, or the peer is neither local nor certified")
	// errPipelinedTLS ends a client that sent more behind its StartTLS request without waiting.
	errPipelinedTLS = errors.New("requests around StartTLS")
	// errDrain ends a client when the server stops: after its outstanding requests.
	errDrain = errors.New("shutting down")
	// errRest ends no client: it goes on in a new goroutine.
	errRest = errors.New("to go on in a new goroutine")
)

// disconnect ends a client with a Notice of Disconnection (RFC 4511 4.4.1).
type disconnect struct {
	refusal
	err error // what was behind it, for the log; may be nil
}

func (d *disconnect) Error() string {
	if d.err != nil {
		return d.diagnostic + ": " + d.err.Error()
	}
	return d.diagnostic
}

// conn is one client. Fields without a word on it belong to the goroutine that
// serves it.
type conn struct {
	srv *Server
	lis *listener

	raw  net.Conn // as accepted; for deadlines and Close from any goroutine
	sock net.Conn // raw, behind its PROXY header
	tls  *tls.Conn
	r    *wire.Reader
	w    *wire.Writer // replaced by StartTLS only, when nothing is outstanding
	peer netip.Addr   // who is connected to us, by a PROXY header where there is one; invalid on a unix socket
	hop  netip.Addr   // the other end of the socket
	// certified says that the client has shown a certificate of client_ca.
	certified bool
	// unannounced says that a PROXY header named nobody: the peer is the proxy itself.
	unannounced bool

	sess session

	opened  time.Time
	counted bool      // in the limits by address
	resting bool      // the goroutine leaves the client to a new one
	rested  bool      // no message has come since a goroutine took over
	first   bool      // no message has come yet
	began   time.Time // of the message that is being received; zero between messages
	idle    time.Time // since when nothing has come; zero while requests are handled
	checked time.Time // of the last recheck
	// deadline is that of the read under way. The socket's is armed, which is not
	// later and is moved only when it must be: most messages come long before it. A read that
	// ends before deadline, also by wake, goes on with the socket's deadline set anew.
	deadline, armed time.Time

	ended atomic.Pointer[error] // why to end, from other goroutines; see stop
	woken atomic.Bool           // late has something
	slow  atomic.Bool           // more than sharedBacklog waited for it: it gets a link of its own

	mu      sync.Mutex // guards the fields below; no I/O under it
	pending map[int32]*request
	late    []*request    // those of pending that timed out and must be answered
	emptied chan struct{} // closed when pending runs empty; nil: nobody waits
	room    chan struct{} // closed when pending is below maxPipelined; nil: nobody waits
}

func newConn(s *Server, l *listener, nc net.Conn) *conn {
	return &conn{srv: s, lis: l, raw: nc, sock: nc, first: true, opened: time.Now()}
}

// policy is the listener's policy of the moment.
func (c *conn) policy() *policy { return c.lis.policy.Load() }

// serve is the client's goroutine, from accept to close, or to a rest, after which it is a new one.
func (c *conn) serve() {
	defer c.leave()
	defer c.contain()
	if !c.counted {
		if err := c.open(); err != nil {
			c.debug("connection refused", err)
			return
		}
		c.debug("connection opened", nil)
		if c.tls != nil { // a handshake takes more of the stack than anything that follows
			c.resting = true
			return
		}
	}
	err := c.run()
	if c.resting = err == errRest; c.resting {
		return
	}
	c.debug("connection closed", err)
	c.goodbye(err)
}

// leave is the end of the client, or of one of its goroutines.
func (c *conn) leave() {
	if c.resting {
		c.resting = false
		go c.serve()
		return
	}
	defer c.srv.leave(c)
	defer c.srv.limits.leave()
	defer c.lis.counts.open.Add(-1)
	defer c.countStall()
	defer c.raw.Close()
	defer c.contain()
	if c.counted {
		defer c.srv.limits.leaveAddr(c.peer)
	}
	c.dropLink()
}

// open prepares the connection for its first message: PROXY header, limit per
// address, TLS.
func (c *conn) open() error {
	p, limits := c.policy(), c.srv.limitsNow()
	c.hop = peerAddr(c.raw.RemoteAddr())
	c.peer = c.hop
	if c.hop.IsValid() && p.expectsProxy(c.hop) {
		sock, from, err := readProxyHeader(c.raw, time.Duration(limits.Handshake))
		if err != nil {
			c.srv.counts.refused[refusedProxyHeader].Add(1)
			return err
		}
		c.sock = sock
		if c.unannounced = !from.IsValid(); !c.unannounced {
			c.peer = from
		}
	}
	if !p.serves(c.peer) {
		c.srv.counts.refused[refusedNetwork].Add(1)
		c.srv.limits.warn(c.srv.log, "connection refused: allow_from", "peer", c.peerName(), "listener", p.name)
		return errors.New("allow_from")
	}
	if !c.srv.limits.admitAddr(limits.ConnectionsPerAddress, c.peer) {
		c.srv.counts.refused[refusedAddress].Add(1)
		c.srv.limits.warn(c.srv.log, "connection refused: limits.connections_per_address", "peer", c.peerName(), "listener", p.name)
		return errors.New("limits.connections_per_address")
	}
	c.counted = true
	c.useStream(c.sock)
	if p.URL.Scheme == "ldaps" {
		if err := c.handshake(); err != nil {
			c.srv.counts.refused[refusedTLS].Add(1)
			return err
		}
	}
	return nil
}

// useStream makes nc the stream that messages are read from and written to.
func (c *conn) useStream(nc net.Conn) {
	limits := c.srv.limitsNow()
	c.armed = time.Time{}
	c.r = wire.NewReader(nc, limits.MessageBeforeBind)
	c.r.BeforeRead = c.beforeRead
	c.w = wire.NewWriter(nc, writeBacklog, time.Duration(limits.WriteStall))
}

// run reads and handles messages until the client ends; the error tells why.
func (c *conn) run() error {
	for {
		if err := c.r.Await(); err != nil {
			if err = c.readFailed(err); err != nil {
				return err
			}
			continue
		}
		if err := c.handle(); err != nil {
			return err
		}
	}
}

// handle handles the message that is there.
func (c *conn) handle() error {
	m, err := c.r.Next()
	if err != nil {
		return c.readFailed(err)
	}
	c.first, c.rested, c.began, c.idle = false, false, time.Time{}, time.Time{}
	// What does not pass here never reaches the upstream.
	if err := m.ValidateRequest(); err != nil {
		return malformed(err)
	}
	return c.dispatch(m)
}

// beforeRead sets the deadline of the next read.
func (c *conn) beforeRead(partial bool) error {
	now, limits := time.Now(), c.srv.limitsNow()
	switch {
	case partial:
		if c.began.IsZero() {
			c.began = now
		}
		c.deadline = c.began.Add(time.Duration(limits.MessageTime))
	case c.first:
		c.deadline = c.opened.Add(time.Duration(limits.FirstMessage))
	default:
		if c.idle.IsZero() {
			c.idle = now
		}
		c.deadline = c.idle.Add(time.Duration(limits.Idle))
		if wake := c.checked.Add(c.srv.recheck); c.sess.kind != anonymous && wake.Before(c.deadline) {
			c.deadline = wake
		}
		if rest := c.idle.Add(c.srv.rest); !c.rested && rest.Before(c.deadline) {
			c.deadline = rest
		}
	}
	if c.armed.IsZero() || c.deadline.Before(c.armed) {
		if err := c.raw.SetReadDeadline(c.deadline); err != nil {
			return err
		}
		c.armed = c.deadline
	}
	// After the deadline was set: stop and wakeFor leave their word first and
	// move the deadline then, so that one of the two is seen.
	if c.ended.Load() != nil || c.woken.Load() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// readFailed tells what an error of the reader means; nil: read on.
func (c *conn) readFailed(err error) error {
	if why := c.ended.Load(); why != nil {
		return *why
	}
	if errors.Is(err, wire.ErrMalformed) || errors.Is(err, wire.ErrTooLarge) {
		return malformed(err)
	}
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		return err
	}
	c.armed = time.Time{}
	if c.woken.CompareAndSwap(true, false) {
		return c.answerLate()
	}
	now := time.Now()
	if now.Before(c.deadline) {
		return nil // the socket's deadline was an earlier one, or a wake whose errand was seen to already
	}
	if c.first || c.r.Buffered() > 0 {
		return errSlow
	}
	if !c.rested && now.Sub(c.idle) >= c.srv.rest {
		c.rested = true
		return errRest
	}
	if c.outstanding() {
		c.idle = now // whoever waits for an answer is not idle
	}
	if now.Sub(c.idle) >= time.Duration(c.srv.limitsNow().Idle) {
		return errIdle
	}
	if c.sess.kind != anonymous && now.Sub(c.checked) >= c.srv.recheck {
		return c.recheck(now)
	}
	return nil
}

// stop ends the client from another goroutine: its own one wakes up and ends
// for this reason, with the notice that belongs to it. The first reason stays.
func (c *conn) stop(why error) {
	if c.ended.CompareAndSwap(nil, &why) {
		c.wake()
	}
}

// wake ends the read that the client's goroutine waits in.
func (c *conn) wake() {
	_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // fails only when it is closed already
}

// countStall counts a client that took nothing for too long. The connection is
// closed, so that a write under way ends at once and leaves its error.
func (c *conn) countStall() {
	if c.w == nil {
		return
	}
	c.w.Wait()
	if errors.Is(c.w.Err(), wire.ErrStalled) {
		c.srv.counts.stalled.Add(1)
	}
}

// kill closes the connection under whatever goes on.
func (c *conn) kill() { c.raw.Close() }

// goodbye ends the client's stream as the reason asks.
func (c *conn) goodbye(why error) {
	if errors.Is(why, errDrain) {
		c.drain()
		why = disconnected(resultDraining, nil)
	}
	d, ok := errors.AsType[*disconnect](why)
	if !ok {
		return
	}
	// Given up before the notice, so that nothing comes behind it.
	c.dropLink()
	err := c.w.Write(func(dst []byte) []byte { return wire.AppendNotice(dst, d.code, d.diagnostic) })
	if err == nil {
		// It may be in the hands of the link's reader, which was writing just then.
		c.w.Wait()
		c.linger()
	}
}

// drain waits until nothing is outstanding, or until the server gives up.
func (c *conn) drain() {
	c.mu.Lock()
	if len(c.pending) == 0 {
		c.mu.Unlock()
		return
	}
	c.emptied = make(chan struct{})
	emptied := c.emptied
	c.mu.Unlock()
	select {
	case <-emptied:
	case <-c.srv.base.Done():
	}
}

// linger closes the sending side and reads away what the client still sends,
// within lingerTime and lingerBytes.
func (c *conn) linger() {
	if c.tls != nil {
		_ = c.tls.CloseWrite()
	}
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.raw.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.raw, lingerBytes)
	}
}

// contain keeps a panic, which is our bug, to this client. Deferred in each
// goroutine that works for it.
func (c *conn) contain() {
	v := recover()
	if v == nil {
		return
	}
	c.srv.panics.Add(1)
	// The stack names functions and addresses, no contents of messages.
	c.srv.log.Error("appbind: internal error", "panic", panicText(v), "peer", c.peerName(), "stack", string(debug.Stack()))
	c.kill()
}

// panicText is a panic's value for the log. Only errors of the runtime are
// printed, which cannot hold what a client sent, and our own messages.
func panicText(v any) string {
	if err, ok := v.(error); ok {
		return err.Error()
	}
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprintf("%T", v)
}

// peerName is the peer for the log.
func (c *conn) peerName() string {
	if c.peer.IsValid() {
		return c.peer.String()
	}
	return "unix"
}

func (c *conn) debug(msg string, err error) {
	if !c.srv.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	args := []any{"peer", c.peerName(), "listener", c.policy().name}
	if err != nil {
		args = append(args, "err", err)
	}
	c.srv.log.Debug(msg, args...)
}
