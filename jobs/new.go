package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"appbind/backend"
	"appbind/config"
	"appbind/history"
	"appbind/mail"
	"appbind/manage"
)

// Options are what the jobs of a configuration need beside it.
type Options struct {
	Upstream *backend.Upstream
	Manager  *manage.Manager
	Events   Events // nil: nobody takes note
	Counts   *Counts
	Now      func() time.Time
	Log      *slog.Logger
}

// New makes the jobs of a configuration. Nothing runs before Start. Errors are mistakes in mail.templates, mail.language and mail.ca.
func New(cfg *config.Config, o Options) (*Runner, error) {
	texts, err := mail.LoadTexts(cfg.Mail.Templates, cfg.Mail.Language, time.Local)
	if err != nil {
		return nil, err
	}
	if err := texts.Check(kindExpiring, sample(linkOf(cfg), o.Now())); err != nil {
		return nil, err
	}
	server, err := mail.New(&cfg.Mail, o.Now)
	if err != nil {
		return nil, err
	}
	j, on := &cfg.Jobs, cfg.JobsOn()
	wanted := map[string]bool{RemoveExpired: j.RemoveExpired, Notify: j.Notify && (server != nil || o.Events != nil), PurgeHistory: j.PurgeHistory}
	opt := options{
		on:           func(job string) bool { return on && wanted[job] },
		interval:     time.Duration(j.Interval),
		removeAfter:  time.Duration(j.RemoveAfter),
		notifyBefore: time.Duration(j.NotifyBefore),
		retention:    time.Duration(cfg.History.Retention),
		link:         linkOf(cfg),
		open:         opener(cfg),
		dir:          &site{m: o.Manager, up: o.Upstream, mail: cfg.Mail.Attribute},
		texts:        texts,
		events:       o.Events,
		counts:       o.Counts,
		now:          o.Now,
		log:          o.Log,
	}
	if server != nil {
		opt.mail = server
	}
	return newRunner(opt), nil
}

// linkOf is the page that mails point to; "": there is none.
func linkOf(cfg *config.Config) string {
	if cfg.Mail.Link != "" {
		return cfg.Mail.Link
	}
	return cfg.Portal.URL
}

// opener opens the history of a configuration; nil where it keeps none.
func opener(cfg *config.Config) func(ctx context.Context) (store, error) {
	if cfg.History.Store == "none" {
		return nil
	}
	return func(ctx context.Context) (store, error) {
		s, err := history.Open(ctx, cfg)
		if err != nil {
			return nil, err // not a store that holds a nil Store
		}
		return s, nil
	}
}

// Sample sends a mail as users get it, with invented app passwords, to an address.
func (r *Runner) Sample(ctx context.Context, to, preferredLanguage string) error {
	if r.mail == nil {
		return ErrNoServer
	}
	content, err := r.texts.Render(kindExpiring, preferredLanguage, sample(r.link, r.now()))
	if err != nil {
		return err
	}
	err = r.mail.Send(ctx, &mail.Message{To: to, ID: fmt.Sprintf("sample.%d", r.now().UnixNano()), Content: content})
	if errors.Is(err, mail.ErrUncertain) {
		return fmt.Errorf("%w; look into the mailbox", err)
	}
	return err
}

// TryMail connects to the mail server and logs in, and sends nothing.
func (r *Runner) TryMail(ctx context.Context) error {
	if r.mail == nil {
		return ErrNoServer
	}
	return r.mail.Try(ctx)
}
