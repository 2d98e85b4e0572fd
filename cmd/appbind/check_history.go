package main

import (
	"context"
	"errors"
	"io/fs"

	"appbind/history"
)

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
