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
	recorder *history.Recorder // nil: none is kept
}

// Note hands a bind over.
func (r *recording) Note(n proxy.Note) { r.recorder.Record(history.Event(n)) }

// record is the recording for a configuration: the present one, if its settings are the same, or a new one.
func (h *house) record(cfg *config.Config) *recording {
	if old := h.recording.Load(); old != nil && old.settings == cfg.History && old.file == cfg.HistoryFile() {
		return old
	}
	return &recording{cfg.History, cfg.HistoryFile(), history.New(cfg, &h.historyCounts, h.log)}
}

// noted puts a recording into a core.
func noted(core proxy.Core, r *recording) proxy.Core {
	if r.recorder != nil {
		core.History = r
	}
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
