package events

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"appbind/config"
)

// Counts is what journals count. A later journal goes on with the counts of the one before, so that no counter falls.
type Counts struct {
	written, auditQueue, auditStopped                                  atomic.Uint64
	delivered, webhookQueue, refused, outdated, webhookStopped, failed atomic.Uint64
}

// Stats is what was counted, and how a Journal is now.
type Stats struct {
	Audit, Webhook bool // there is one

	Written      uint64            // lines that are in the audit log
	AuditDropped map[string]uint64 // lines that are lost, by the reason: queue (no room), stopped (not written at the end)
	AuditUp      bool              // the last line could be written

	Delivered      uint64            // events that the webhook's receiver has taken
	Failed         uint64            // attempts that have failed
	WebhookDropped map[string]uint64 // events that are lost, by the reason: queue (no room), refused (by the receiver), outdated (not taken for a day), stopped (not taken before the end)
	WebhookPending int               // events that wait
}

// Options are what a journal needs beside its configuration.
type Options struct {
	Counts *Counts
	Log    *slog.Logger
	// Stdout is where audit.file: stdout goes.
	Stdout io.Writer
	// Guest is a process beside the one that serves: it appends to the audit log's file, and does not make it, which
	// would be another user's.
	Guest bool
}

// Journal takes events. Make it with Open. A nil Journal takes note of nothing. All methods may be called at the same time.
type Journal struct {
	counts  *Counts
	audit   *audit   // nil: there is none
	webhook *webhook // nil: there is none
}

// Open opens the audit log and starts the webhook of a configuration; nil where it has neither. The error names the
// audit log's file, which cannot be opened.
func Open(cfg *config.Config, o Options) (*Journal, error) {
	return open(cfg, o, nil)
}

// open is Open with the transport of HTTP; nil is the usual one.
func open(cfg *config.Config, o Options, transport http.RoundTripper) (*Journal, error) {
	if cfg.Audit.File == "" && cfg.Webhook.URL == "" {
		return nil, nil
	}
	j := &Journal{counts: o.Counts}
	var err error
	if cfg.Audit.File != "" {
		if j.audit, err = openAudit(cfg.Audit, o); err != nil {
			return nil, fmt.Errorf("audit.file: %w", err)
		}
	}
	if cfg.Webhook.URL != "" {
		j.webhook = startWebhook(cfg.Webhook, o, transport)
	}
	return j, nil
}

// Emit tells that something has happened. It never waits: where there is no room the event is dropped and counted.
func (j *Journal) Emit(e Event) {
	if j == nil {
		return
	}
	id := rand.Text()
	body := e.encode(id)
	if j.audit != nil {
		j.audit.put(body)
	}
	if j.webhook != nil && j.webhook.wants[e.Kind] {
		j.webhook.put(message{id: id, body: body, at: e.Time})
	}
}

// Reopen closes the audit log's file and opens it anew, after what was emitted before is written. Where that
// fails the old file stays in use.
func (j *Journal) Reopen() {
	if j != nil && j.audit != nil {
		j.audit.reopen()
	}
}

// Close writes what waits, and gives it up when ctx ends. Nothing may be emitted afterwards.
func (j *Journal) Close(ctx context.Context) {
	if j == nil {
		return
	}
	var wg sync.WaitGroup
	if j.audit != nil {
		wg.Go(func() { j.audit.close(ctx) })
	}
	if j.webhook != nil {
		wg.Go(func() { j.webhook.close(ctx) })
	}
	wg.Wait()
}

// Stats takes a snapshot.
func (j *Journal) Stats() Stats {
	if j == nil {
		return Stats{}
	}
	c := j.counts
	st := Stats{
		Audit: j.audit != nil, Webhook: j.webhook != nil,
		Written:      c.written.Load(),
		AuditDropped: map[string]uint64{"queue": c.auditQueue.Load(), "stopped": c.auditStopped.Load()},
		Delivered:    c.delivered.Load(), Failed: c.failed.Load(),
		WebhookDropped: map[string]uint64{"queue": c.webhookQueue.Load(), "refused": c.refused.Load(), "outdated": c.outdated.Load(), "stopped": c.webhookStopped.Load()},
	}
	if j.audit != nil {
		st.AuditUp = j.audit.up.Load()
	}
	if j.webhook != nil {
		st.WebhookPending = j.webhook.pending()
	}
	return st
}
