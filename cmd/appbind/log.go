package main

import (
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// logDelay is how long a line may wait for others, so that a busy server
	// writes some hundred times a second and not once for each bind.
	logDelay = 5 * time.Millisecond
	// logBacklog is what may wait behind a write under way; then whoever logs waits too.
	logBacklog = 256 << 10
	// logKept is the largest buffer that is kept.
	logKept = 64 << 10
)

// logWriter writes the lines of the log. A line that comes alone is written at
// once. One that comes within logDelay of the last write waits for the end of that time,
// and goes out with all that came meanwhile, in their order. What waits is written by Flush,
// which must come before the end of the process. Safe for concurrent use.
type logWriter struct {
	to io.Writer

	mu      sync.Mutex // guards the fields below; no I/O under it
	ended   sync.Cond  // a write has ended
	waiting []byte     // lines to write
	spare   []byte     // an empty buffer
	writing bool       // somebody is in Write of to, or about to be
	last    time.Time  // when the last write began
	timer   *time.Timer
	set     bool // timer runs, or its function is about to
}

func newLogWriter(to io.Writer) *logWriter {
	w := &logWriter{to: to}
	w.ended.L = &w.mu
	w.timer = time.AfterFunc(time.Hour, w.flushLater)
	w.timer.Stop()
	return w
}

// Write takes one line, or several. It never fails: nobody could be told.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing && len(w.waiting) > logBacklog {
		w.ended.Wait()
	}
	w.waiting = append(w.waiting, line...)
	switch now := time.Now(); {
	case w.writing, w.set: // goes out with what follows
	case now.Sub(w.last) >= logDelay || len(w.waiting) > logBacklog:
		w.flush(now)
	default:
		w.set = true
		w.timer.Reset(logDelay - now.Sub(w.last))
	}
	return len(line), nil
}

// flushLater is what the timer does.
func (w *logWriter) flushLater() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set = false
	if !w.writing {
		w.flush(time.Now())
	}
}

// Flush returns when everything that was logged before is written.
func (w *logWriter) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing {
		w.ended.Wait()
	}
	w.flush(time.Now())
}

// flush writes until nothing waits. mu is held, but not during a write.
func (w *logWriter) flush(now time.Time) {
	for w.writing = true; len(w.waiting) > 0; {
		lines := w.waiting
		w.waiting, w.spare, w.last = w.spare[:0], nil, now
		w.mu.Unlock()
		_, _ = w.to.Write(lines)
		w.mu.Lock()
		if cap(lines) <= logKept {
			w.spare = lines[:0]
		}
		w.ended.Broadcast()
	}
	w.writing = false
	w.ended.Broadcast()
}

// newLog makes the log of a configuration's format, and what must be flushed at its end.
func newLog(to io.Writer, format string, level slog.Leveler) (*slog.Logger, *logWriter) {
	w := newLogWriter(to)
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), w
	}
	return slog.New(slog.NewTextHandler(w, options)), w
}
