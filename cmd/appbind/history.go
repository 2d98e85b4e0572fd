package main

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"appbind/config"
	"appbind/history"
	"appbind/proxy"
)

// historyTime bounds the wait for the history at the end: what is left to write, and no more.
const historyTime = 10 * time.Second

// recording is the history that binds are noted in, and the settings that it was made of.
type recording struct {
	settings config.History
	file     string
	watched  bool              // somebody is told what the history notices
	recorder *history.Recorder // nil: none is kept
	cfg      *config.Config    // of the settings

	past  atomic.Pointer[history.Store] // for questions; nil: none was asked, or the recording has ended
	ended atomic.Bool
}

// Note hands a bind over.
func (r *recording) Note(n proxy.Note) { r.recorder.Record(history.Event(n)) }

// record is the recording for a configuration: the present one, if its settings are the same, or a new one.
func (h *house) record(cfg *config.Config) *recording {
	watched := told(cfg)
	if old := h.recording.Load(); old != nil && old.settings == cfg.History && old.file == cfg.HistoryFile() && old.watched == watched {
		return old
	}
	watch := h.noticed
	if !watched {
		watch = nil // to notice something costs the store some reads
	}
	return &recording{settings: cfg.History, file: cfg.HistoryFile(), watched: watched, recorder: history.New(cfg, &h.historyCounts, h.log, watch), cfg: cfg}
}

// noted puts a recording and a telling into a core.
func noted(core proxy.Core, r *recording, t *telling) proxy.Core {
	if r.recorder != nil {
		core.History, core.Uses = r, r
	}
	core.Journal = notes{r.recorder, t.journal}
	return core
}

// keep makes a recording the present one, and returns the one before, if it is another.
func (h *house) keep(r *recording) *recording {
	if old := h.recording.Swap(r); old != r {
		return old
	}
	return nil
}

// drop ends a recording that is not the present one.
func (h *house) drop(r *recording) {
	if r != h.recording.Load() {
		r.end()
	}
}

// end writes what is left.
func (r *recording) end() {
	if r == nil || r.recorder == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), historyTime)
	defer cancel()
	r.recorder.Close(ctx)
	r.ended.Store(true)
	r.closePast()
}

// closePast ends questions to the history.
func (r *recording) closePast() {
	if store := r.past.Swap(nil); store != nil {
		_ = store.Close() // only read
	}
}

// LastUses asks the history, over a connection of its own that is opened at the first question.
func (r *recording) LastUses(ctx context.Context, entry string) (of func(entry, id, label string) proxy.LastUse, err error) {
	store := r.past.Load()
	if store == nil {
		store, err = history.Open(ctx, r.cfg)
		if errors.Is(err, fs.ErrNotExist) {
			return func(string, string, string) proxy.LastUse { return proxy.LastUse{} }, nil // nothing was written yet
		}
		if err != nil {
			return nil, err
		}
		if !r.past.CompareAndSwap(nil, store) {
			defer store.Close() // another one was faster
		} else if r.ended.Load() {
			r.closePast()
			return nil, errNoPast
		}
	}
	list, err := store.Passwords(ctx, entry)
	if err != nil {
		return nil, err
	}
	known := history.NewKnown(list)
	return func(entry, id, label string) (last proxy.LastUse) {
		if p := known.App(entry, id, label); p != nil {
			last = proxy.LastUse{At: p.LastUsed, Addr: p.Addr}
		}
		return last
	}, nil
}

// historyStats are those of the present recording.
func (h *house) historyStats() (st history.Stats, ok bool) {
	if r := h.recording.Load(); r != nil && r.recorder != nil {
		return r.recorder.Stats(), true
	}
	return st, false
}
