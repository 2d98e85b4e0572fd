package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"appbind/history"
)

// audit looks whether the audit log's file can be written. It is not made, since another user may run serve.
func (c *check) audit() {
	file := c.cfg.Audit.File
	if file == "" || file == "stdout" {
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(filepath.Dir(file)); e == nil {
			c.ok("audit log", "%s: will be made", file)
			return
		}
	}
	if err != nil {
		c.fail("audit log", "%v; serve does not start without it", err)
		return
	}
	f.Close()
	c.ok("audit log", "%s", file)
}

// history opens the history, where there is one. Logins do not depend on it, so nothing here is a failure.
func (c *check) history(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	file := c.cfg.HistoryFile()
	if c.cfg.History.Store == "postgres" {
		file = c.cfg.History.URL
	}
	store, err := history.Open(ctx, c.cfg)
	switch {
	case errors.Is(err, history.ErrNone):
		c.warn("history", "none is kept: history.store is none")
	case errors.Is(err, fs.ErrNotExist):
		c.ok("history", "%s: will be made", file)
	case err != nil:
		c.warn("history", "%s: %v; logins do not depend on it", file, err)
	default:
		store.Close()
		c.ok("history", "%s: version %d", file, store.Version())
	}
}
