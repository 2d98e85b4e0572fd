package main

import (
	"context"
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
	return &recording{cfg.History, cfg.HistoryFile(), watched, history.New(cfg, &h.historyCounts, h.log, watch)}
}

// noted puts a recording and a telling into a core.
func noted(core proxy.Core, r *recording, t *telling) proxy.Core {
	if r.recorder != nil {
		core.History = r
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
}

// historyStats are those of the present recording.
func (h *house) historyStats() (st history.Stats, ok bool) {
	if r := h.recording.Load(); r != nil && r.recorder != nil {
		return r.recorder.Stats(), true
	}
	return st, false
}
