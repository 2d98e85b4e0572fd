package main

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"appbind/config"
	"appbind/mail"
)

const (
	// mailQueue bounds the mails of the pages that wait to be sent.
	mailQueue = 100
	// mailEnd bounds the sending of what waits when appbind ends.
	mailEnd = 10 * time.Second
	// mailPause is after how long a mail that was not taken is tried again, longer each time up to mailPauseMax.
	mailPause, mailPauseMax = 2 * time.Second, time.Minute
	// mailTime is for how long: news of an hour ago are in the audit.
	mailTime = time.Hour
)

// postCounts counts the mails of the pages, over all configurations.
type postCounts struct {
	sent, uncertain, queue, refused, outdated, stopped atomic.Uint64
}

// stats are the counts by outcome.
func (c *postCounts) stats() map[string]uint64 {
	return map[string]uint64{"sent": c.sent.Load(), "uncertain": c.uncertain.Load(), "queue": c.queue.Load(), "refused": c.refused.Load(),
		"outdated": c.outdated.Load(), "stopped": c.stopped.Load()}
}

// sender is a mail server.
type sender interface {
	Send(ctx context.Context, m *mail.Message) error
}

// post hands the mails of the pages to the mail server, one after the other, behind the pages: nothing that is done there waits for
// it, or fails with it. One goroutine does; it ends with the context of run, when what waits was sent, or mailEnd is over.
type post struct {
	server sender
	counts *postCounts
	log    *slog.Logger
	pause  time.Duration // mailPause
	rest   time.Duration // mailEnd

	mu    sync.Mutex // guards ended, and puts into queue
	ended bool       // nobody takes from queue any more
	queue chan letter
}

// letter is a mail and when it was written.
type letter struct {
	*mail.Message
	at time.Time
}

func newPost(server sender, counts *postCounts, log *slog.Logger) *post {
	return &post{server: server, counts: counts, log: log, pause: mailPause, rest: mailEnd, queue: make(chan letter, mailQueue)}
}

// put takes a mail, and does not wait. What finds no room is lost, counted and logged.
func (p *post) put(to, language, subject, text string) {
	m := letter{&mail.Message{To: to, ID: "portal." + rand.Text(), Content: mail.Content{Language: language, Subject: subject, Text: text}}, time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		p.lost(m, &p.counts.stopped, errEnded)
		return
	}
	select {
	case p.queue <- m:
	default:
		p.lost(m, &p.counts.queue, errors.New("too many wait"))
	}
}

var errEnded = errors.New("appbind ends, or its configuration was replaced")

func (p *post) lost(m letter, why *atomic.Uint64, err error) {
	why.Add(1)
	p.log.Error("portal: a mail was not sent", "to", m.To, "subject", m.Content.Subject, "err", err)
}

// run sends until ctx ends, and then what waits.
func (p *post) run(ctx context.Context) {
	hard, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(p.rest, giveUp) })()
	for {
		select {
		case m := <-p.queue:
			p.deliver(ctx, hard, m)
			continue
		default:
		}
		select {
		case m := <-p.queue:
			p.deliver(ctx, hard, m)
		case <-ctx.Done():
			if p.end() {
				return
			}
		}
	}
}

// end ends the queue; false: a mail has come into it meanwhile.
func (p *post) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = len(p.queue) == 0
	return p.ended
}

// deliver sends one mail, as often as it takes: for mailTime, and when soft has ended at most once more, until hard ends.
func (p *post) deliver(soft, hard context.Context, m letter) {
	for wait := p.pause; ; wait = min(2*wait, mailPauseMax) {
		err := p.server.Send(hard, m.Message)
		refused, isRefusal := errors.AsType[*mail.Refused](err)
		switch {
		case err == nil:
			p.counts.sent.Add(1)
			return
		case errors.Is(err, mail.ErrUncertain):
			p.counts.uncertain.Add(1)
			p.log.Warn("portal: a mail was sent perhaps", "to", m.To, "err", err)
			return
		case isRefusal && refused.Permanent:
			p.lost(m, &p.counts.refused, err)
			return
		case soft.Err() != nil:
			p.lost(m, &p.counts.stopped, err)
			return
		case time.Since(m.at) > mailTime:
			p.lost(m, &p.counts.outdated, err)
			return
		}
		p.log.Warn("portal: a mail was not taken, it is tried again", "to", m.To, "err", err)
		pause(soft, wait) // at the end it is tried once more
	}
}

// mailer is who takes the mails of the pages; nil where no mail server is configured. It ends with ctx.
func (h *house) mailer(ctx context.Context, cfg *config.Config) (func(to, language, subject, text string), error) {
	if cfg.Mail.Server == "" {
		return nil, nil
	}
	server, err := mail.New(&cfg.Mail, time.Now)
	if err != nil {
		return nil, err
	}
	p := newPost(server, &h.postCounts, h.log)
	h.retired.Go(func() { p.run(ctx) })
	return p.put, nil
}
