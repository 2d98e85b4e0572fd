package main

import (
	"context"
	"slices"
	"time"

	"appbind/config"
	"appbind/events"
	"appbind/history"
	"appbind/manage"
)

// journalTime bounds the wait for the audit log and the webhook at the end.
const journalTime = 5 * time.Second

// telling is the audit log and the webhook of a configuration, and the settings that they were made of.
type telling struct {
	audit   config.Audit
	webhook config.Webhook
	journal *events.Journal // nil: there is neither
}

// told reports whether a configuration has an audit log or a webhook.
func told(cfg *config.Config) bool { return cfg.Audit.File != "" || cfg.Webhook.URL != "" }

// same reports whether a configuration's settings are those of t.
func (t *telling) same(cfg *config.Config) bool {
	w := cfg.Webhook
	return t.audit == cfg.Audit && t.webhook.URL == w.URL && t.webhook.Secret == w.Secret && slices.Equal(t.webhook.Events, w.Events)
}

// tell is the telling for a configuration: the present one, if its settings are the same, or a new one.
func (h *house) tell(cfg *config.Config) (*telling, error) {
	if old := h.telling.Load(); old != nil && old.same(cfg) {
		return old, nil
	}
	journal, err := events.Open(cfg, events.Options{Counts: &h.eventCounts, Log: h.log, Stdout: h.out})
	if err != nil {
		return nil, err
	}
	return &telling{cfg.Audit, cfg.Webhook, journal}, nil
}

// use makes a telling the present one, and returns the one before, if it is another.
func (h *house) use(t *telling) *telling {
	if old := h.telling.Swap(t); old != t {
		return old
	}
	return nil
}

// silence ends a telling that is not the present one.
func (h *house) silence(t *telling) {
	if t != h.telling.Load() {
		t.end()
	}
}

// end writes and delivers what is left.
func (t *telling) end() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), journalTime)
	defer cancel()
	t.journal.Close(ctx)
}

// noticed hands over what the history notices, to whom is told at the moment.
func (h *house) noticed(e events.Event) {
	if t := h.telling.Load(); t != nil {
		t.journal.Emit(e)
	}
}

// eventStats are those of the present telling.
func (h *house) eventStats() (st events.Stats, ok bool) {
	if t := h.telling.Load(); t != nil && t.journal != nil {
		return t.journal.Stats(), true
	}
	return st, false
}

// notes tells the history, which knows an app password from its issue to its revocation, and the journal.
type notes struct {
	recorder *history.Recorder // nil: none is kept
	journal  *events.Journal   // nil: there is none
}

// Emit hands an event over.
func (n notes) Emit(e events.Event) {
	n.journal.Emit(e)
	if n.recorder == nil || e.Entry == "" {
		return
	}
	change := history.Change{Time: e.Time, Entry: e.Entry, DN: e.DN, ID: e.ID, Label: e.Label}
	switch e.Kind {
	case events.Issued:
		n.recorder.Issued(change)
	case events.Revoked, events.Expired:
		n.recorder.Revoked(change)
	}
}

var _ manage.Journal = notes{}
