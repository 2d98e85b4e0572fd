package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"appbind/config"
)

const (
	// auditQueued is how many lines wait for the file.
	auditQueued = 4096
	// auditPause is the time between two attempts to write a line.
	auditPause = time.Second
)

// audit is the audit log. One goroutine owns the file.
type audit struct {
	name   string // "": standard output
	guest  bool
	counts *Counts
	log    *slog.Logger
	up     atomic.Bool
	gone   atomic.Bool // close was called

	queue  chan auditItem
	ending chan struct{} // closed by close
	giveUp chan struct{} // closed when the wait of close is over
	done   chan struct{} // closed when all is written, or given up

	// The goroutine has these for itself.
	to   io.Writer // nil: not open
	file *os.File  // to, where it is a file that is to be closed
	torn bool      // the last write ended within a line
}

// auditItem is a line, or with none the wish to open the file anew.
type auditItem struct{ line []byte }

// openAudit opens the audit log and starts its goroutine.
func openAudit(cfg config.Audit, o Options) (*audit, error) {
	a := &audit{name: cfg.File, guest: o.Guest, counts: o.Counts, log: o.Log, queue: make(chan auditItem, auditQueued),
		ending: make(chan struct{}), giveUp: make(chan struct{}), done: make(chan struct{})}
	if cfg.File == "stdout" {
		a.name, a.to = "", o.Stdout
	} else if err := a.open(); err != nil {
		return nil, err
	}
	a.up.Store(true)
	go a.run()
	return a, nil
}

// open opens the file, which nobody else may read where it is made here.
func (a *audit) open() error {
	// Opening a FIFO would wait for its reader, so look first.
	info, err := os.Stat(a.name)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", a.name)
	}
	flags := os.O_WRONLY | os.O_APPEND
	if !a.guest {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(a.name, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && !a.guest {
		return fmt.Errorf("the directory %s does not exist", filepath.Dir(a.name))
	}
	if err != nil {
		return err
	}
	if a.file != nil {
		a.file.Close()
	}
	a.file, a.to = f, f
	return nil
}

// put takes a line.
func (a *audit) put(line []byte) {
	if a.gone.Load() {
		a.counts.auditStopped.Add(1)
		return
	}
	select {
	case a.queue <- auditItem{append(line[:len(line):len(line)], '\n')}:
	default:
		a.counts.auditQueue.Add(1)
	}
}

// reopen has the file opened anew. Where the queue is full the file does not work, and is opened anew at each attempt.
func (a *audit) reopen() {
	select {
	case a.queue <- auditItem{}:
	default:
	}
}

// run writes until close, and what is in the queue then.
func (a *audit) run() {
	defer close(a.done)
	defer func() {
		if a.file != nil {
			a.file.Close()
		}
	}()
	for {
		select {
		case item := <-a.queue:
			a.do(item)
		case <-a.ending:
			for {
				select {
				case item := <-a.queue:
					a.do(item)
				default:
					return
				}
			}
		}
	}
}

// do carries out one item, however often it fails.
func (a *audit) do(item auditItem) {
	if item.line == nil {
		if a.name == "" {
			return
		}
		if err := a.open(); err != nil {
			a.log.Error("the audit log cannot be opened anew; the old file stays in use", "err", err)
		}
		return
	}
	for {
		err := a.write(item.line)
		if err == nil {
			a.counts.written.Add(1)
			if !a.up.Swap(true) {
				a.log.Info("the audit log is written again")
			}
			return
		}
		if a.up.Swap(false) {
			a.log.Error("the audit log cannot be written; it is tried again every second", "err", err)
		}
		if !a.wait() {
			a.counts.auditStopped.Add(1)
			return
		}
	}
}

// write writes one line.
func (a *audit) write(line []byte) error {
	if a.to == nil {
		if err := a.open(); err != nil {
			return err
		}
	}
	if a.torn {
		line = append([]byte("\n"), line...)
	}
	n, err := a.to.Write(line)
	if err == nil {
		a.torn = false
		return nil
	}
	a.torn = a.torn || n > 0
	if a.file != nil { // the next attempt opens it anew: it may have been a directory that was mounted over
		a.file.Close()
		a.file, a.to = nil, nil
	}
	return err
}

// wait waits for the next attempt; false: there is none.
func (a *audit) wait() bool {
	select { // once given up, nothing waits any more
	case <-a.giveUp:
		return false
	default:
	}
	t := time.NewTimer(auditPause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.giveUp:
		return false
	}
}

// close writes what waits until ctx ends.
func (a *audit) close(ctx context.Context) {
	a.gone.Store(true)
	close(a.ending)
	select {
	case <-a.done:
		return
	case <-ctx.Done():
	}
	close(a.giveUp)
	// A write that hangs is left to the end of the process.
	t := time.NewTimer(auditPause)
	defer t.Stop()
	select {
	case <-a.done:
	case <-t.C:
	}
}
