package wire

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// ErrStalled says that the peer took nothing for the stall limit, or, to Offer,
// that it let more than the backlog pile up.
var ErrStalled = errors.New("peer does not read")

// maxRounds is how many writes a caller of Flush does, mostly with what others
// queued meanwhile, before a goroutine takes over.
const maxRounds = 16

// outBuffer is what waits to be written. Buffers are shared by all writers: an
// idle connection holds none.
type outBuffer struct{ b []byte }

var outBuffers = sync.Pool{New: func() any { return new(outBuffer) }}

// Writer sends messages on one connection. It coalesces: while one write is
// under way, messages that arrive are appended and go out together with the
// next. Whoever finds the connection free writes, for itself and for those who
// come meanwhile; only a caller that cannot wait (FlushBehind), or that has
// written for others long enough, leaves it to a goroutine, see Wait. Safe for
// concurrent use.
type Writer struct {
	conn    net.Conn
	out     *sender // for whoever is in write
	backlog int     // bytes that may wait behind a write under way

	mu      sync.Mutex // guards the fields below; no I/O under it
	change  sync.Cond  // a write has ended, or the writer was closed
	queued  *outBuffer // waits to be written; nil: nothing
	writing bool       // somebody is in write, or about to be
	err     error
}

// NewWriter writes to conn. Append blocks while more than backlog bytes wait
// behind a write; a write that is not taken within stall (0: no limit) fails
// with ErrStalled and closes conn. The writer owns conn's write deadline.
func NewWriter(conn net.Conn, backlog int, stall time.Duration) *Writer {
	w := &Writer{conn: conn, out: newSender(conn, stall), backlog: backlog}
	w.change.L = &w.mu
	return w
}

// Append queues what build appends to the given slice, without writing it:
// call Flush when no more is at hand. It blocks while the backlog is full, for
// as long as the write under way takes. build must not call the writer.
func (w *Writer) Append(build func(dst []byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.writing && w.waiting() > w.backlog {
		w.change.Wait()
	}
	return w.queue(build)
}

// Offer is Append that never blocks: with the backlog full it queues nothing
// and returns ErrStalled. The writer stays usable.
func (w *Writer) Offer(build func(dst []byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.writing && w.waiting() > w.backlog {
		return ErrStalled
	}
	return w.queue(build)
}

// OfferWithin is Offer with a limit of its own. taken: it was queued; not taken,
// and no error: more than limit bytes wait behind a write under way.
func (w *Writer) OfferWithin(limit int, build func(dst []byte) []byte) (taken bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.writing && w.waiting() > limit {
		return false, nil
	}
	err = w.queue(build)
	return err == nil, err
}

// waiting is the number of bytes that are queued. mu is held.
func (w *Writer) waiting() int {
	if w.queued == nil {
		return 0
	}
	return len(w.queued.b)
}

// queue appends what build appends. mu is held.
func (w *Writer) queue(build func(dst []byte) []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.queued == nil {
		w.queued = outBuffers.Get().(*outBuffer)
	}
	w.queued.b = build(w.queued.b)
	return nil
}

// Flush writes what is queued, unless a write is under way, which then takes it
// along. It returns the error of a write that has ended; one that is under way
// shows its error to the next call.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing || w.err != nil {
		return w.err
	}
	w.writing = true
	for range maxRounds {
		if !w.round() {
			return w.err
		}
	}
	go w.drain()
	return w.err
}

// FlushBehind is Flush that never blocks: what a plain socket takes at once is
// written at once, and a goroutine writes the rest. It is for callers that serve
// others besides this connection.
func (w *Writer) FlushBehind() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing || w.err != nil || w.queued == nil {
		return w.err
	}
	w.writing = true
	for range maxRounds {
		if w.out.raw == nil {
			break
		}
		if left, more := w.roundAtOnce(); !more {
			if left != nil {
				go w.drainRest(left)
			}
			return w.err
		}
	}
	go w.drain()
	return w.err
}

// leftover is what a plain socket did not take at once.
type leftover struct {
	out  *outBuffer
	rest []byte // of out
}

// drainRest writes what is left, and goes on until nothing is queued.
func (w *Writer) drainRest(left *leftover) {
	err := w.write(left.rest)
	left.out.recycle()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote(err)
	for w.round() {
	}
}

// drain goes on writing until nothing is queued.
func (w *Writer) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.round() {
	}
}

// take takes what is queued. Where nothing is, or an error ended the writer,
// writing ends and it returns nil. mu is held.
func (w *Writer) take() *outBuffer {
	out := w.queued
	w.queued = nil
	if out == nil || w.err != nil {
		w.writing = false
		w.change.Broadcast()
		return nil
	}
	return out
}

// wrote notes the end of a write. mu is held.
func (w *Writer) wrote(err error) {
	if w.err == nil {
		w.err = err
	}
	w.change.Broadcast()
}

// recycle erases and keeps a buffer that was written: it may have held a bind,
// and a password must not outlive its use.
func (out *outBuffer) recycle() {
	clear(out.b)
	if cap(out.b) <= maxKept {
		out.b = out.b[:0]
		outBuffers.Put(out)
	}
}

// round writes what is queued. When nothing is, or an error ended the writer,
// writing ends and it reports false. mu is held, but not during the write.
func (w *Writer) round() bool {
	out := w.take()
	if out == nil {
		return false
	}
	w.mu.Unlock()
	err := w.write(out.b)
	out.recycle()
	w.mu.Lock()
	w.wrote(err)
	return true
}

// roundAtOnce is round for a plain socket, without waiting for the peer. more:
// all was written, and there may be more; left: what was not.
func (w *Writer) roundAtOnce() (left *leftover, more bool) {
	out := w.take()
	if out == nil {
		return nil, false
	}
	w.mu.Unlock()
	rest, err := w.out.atOnce(out.b)
	if err != nil {
		w.abort()
	}
	if err == nil && len(rest) > 0 {
		w.mu.Lock()
		return &leftover{out, rest}, false
	}
	out.recycle()
	w.mu.Lock()
	w.wrote(err)
	return nil, true
}

// Write is Append and Flush.
func (w *Writer) Write(build func(dst []byte) []byte) error {
	if err := w.Append(build); err != nil {
		return err
	}
	return w.Flush()
}

// Close makes every later call fail with err (net.ErrClosed for nil) and drops
// what is queued. It waits for no write and does not close the connection.
func (w *Writer) Close(err error) {
	if err == nil {
		err = net.ErrClosed
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.queued = nil
	w.change.Broadcast()
}

// Err is why the writer takes nothing more: a failed write, or Close; nil: it does.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Wait returns when no write is under way, in a goroutine or elsewhere. For an
// end, call it after Close and after closing the connection.
func (w *Writer) Wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing {
		w.change.Wait()
	}
}

// write sends b whole; where that fails it closes the connection.
func (w *Writer) write(b []byte) error {
	err := w.out.send(b)
	if err != nil {
		w.abort()
	}
	return err
}

// abort closes the connection. Under TLS first what is below it: closing TLS
// tries to tell a peer that does not read, and waits for it.
func (w *Writer) abort() {
	if c, ok := w.conn.(*tls.Conn); ok {
		c.NetConn().Close()
	}
	w.conn.Close()
}
