package wire

import (
	"errors"
	"net"
	"sync"
	"time"
)

// ErrStalled says that the peer took nothing for the stall limit, or let more
// than the backlog pile up.
var ErrStalled = errors.New("peer does not read")

// Writer sends messages on one connection. It coalesces: while one write is
// under way, messages that arrive are appended and go out together with the
// next. There is no goroutine of its own; whoever finds the connection free
// writes, for itself and for those who come meanwhile. Safe for concurrent use.
type Writer struct {
	conn    net.Conn
	stall   time.Duration // a write that takes longer ends the connection
	backlog int           // bytes that may wait behind a write under way

	mu      sync.Mutex // guards the fields below; no I/O under it
	room    sync.Cond  // signalled when a write has ended
	queued  []byte     // waits to be written
	spare   []byte     // the buffer of the last write, to be used again
	writing bool
	err     error
}

// NewWriter writes to conn. Append blocks while more than backlog bytes wait;
// a write that is not taken within stall fails with ErrStalled and closes conn.
func NewWriter(conn net.Conn, backlog int, stall time.Duration) *Writer {
	w := &Writer{conn: conn, stall: stall, backlog: backlog}
	w.room.L = &w.mu
	return w
}

// Append queues what build appends to the given slice, without writing it:
// call Flush when no more is at hand. It blocks while the backlog is full, for
// as long as the write under way takes.
func (w *Writer) Append(build func(dst []byte) []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && w.writing && len(w.queued) > w.backlog {
		w.room.Wait()
	}
	if w.err != nil {
		return w.err
	}
	w.queued = build(w.queued)
	return nil
}

// Flush writes what is queued, unless a write is under way, which then takes it along.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writing {
		return w.err
	}
	w.writing = true
	for w.err == nil && len(w.queued) > 0 {
		out := w.queued
		w.queued, w.spare = w.spare[:0], nil
		w.mu.Unlock()
		err := w.write(out)
		w.mu.Lock()
		if w.err == nil {
			w.err = err
		}
		if cap(out) <= maxKept {
			w.spare = out
		}
		w.room.Broadcast()
	}
	w.writing = false
	w.room.Broadcast()
	return w.err
}

// Write is Append and Flush.
func (w *Writer) Write(build func(dst []byte) []byte) error {
	if err := w.Append(build); err != nil {
		return err
	}
	return w.Flush()
}

// Close makes every later call fail with err. It waits for no write and does
// not close the connection.
func (w *Writer) Close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.queued = nil
	w.room.Broadcast()
}

// write sends b whole. Each part that the peer takes starts the stall limit anew.
func (w *Writer) write(b []byte) error {
	for len(b) > 0 {
		if w.stall > 0 {
			if err := w.conn.SetWriteDeadline(time.Now().Add(w.stall)); err != nil {
				return err
			}
		}
		n, err := w.conn.Write(b[:min(len(b), maxKept)])
		b = b[n:]
		if err == nil {
			continue
		}
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			if n > 0 {
				continue
			}
			err = ErrStalled
		}
		w.conn.Close()
		return err
	}
	return nil
}
