package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"appbind/config"
	"appbind/history"
	"appbind/manage"
	"appbind/portal"
	"appbind/proxy"
)

const (
	// portalRetry is after how long a store that could not be opened is tried again: logins do not wait for it.
	portalRetry = 5 * time.Second
	// portalPurge is how often what is over is deleted from the store.
	portalPurge = 10 * time.Minute
	// portalEnd bounds the wait for requests at the end.
	portalEnd = 5 * time.Second
)

// pages are the self-service pages of one configuration.
type pages struct {
	server *portal.Server
	listen string
	cancel context.CancelFunc
	done   chan struct{} // closed when the store is closed
}

// openPages opens the address of the pages, unless it is the present one; nil: there are none.
func (h *house) openPages(cfg *config.Config) (*pages, error) {
	if cfg.Portal.Listen == "" {
		return nil, nil
	}
	if h.pages != nil && h.pages.listen == cfg.Portal.Listen && h.tlsPages == (cfg.Portal.Certificate != "") {
		return &pages{server: h.pages.server, listen: h.pages.listen}, nil
	}
	server, err := portal.Listen(&cfg.Portal, h.log)
	if err != nil {
		return nil, err
	}
	return &pages{server: server, listen: cfg.Portal.Listen}, nil
}

// discardPages closes what openPages has opened.
func (h *house) discardPages(p *pages) {
	if p != nil && (h.pages == nil || h.pages.server != p.server) {
		closePages(p.server)
	}
}

// usePages serves the pages of a configuration from now on, and no longer where they were before.
func (h *house) usePages(p *pages, core proxy.Core) {
	before := h.pages
	h.pages, h.tlsPages = p, core.Config.Portal.Certificate != ""
	if p != nil {
		ctx, cancel := context.WithCancel(context.Background())
		p.cancel, p.done = cancel, make(chan struct{})
		run := h.runPages
		if !core.Config.PortalOn() {
			p.server.Use(h.offPages(core.Config)) // at once, whatever becomes of the store
			run = h.endSessions
		}
		go run(ctx, p, core) // ends with cancel; endPages waits
	}
	if before == nil {
		return
	}
	h.retired.Go(func() { // a request may be under way with the old store
		if p == nil || p.server != before.server {
			closePages(before.server)
		} else {
			timer := time.NewTimer(portalEnd)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-p.done:
			}
		}
		before.cancel()
		<-before.done
	})
}

// closePages ends a server.
func closePages(s *portal.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), portalEnd)
	defer cancel()
	s.Close(ctx)
}

// endPages ends the pages for good.
func (h *house) endPages() {
	if h.pages != nil {
		closePages(h.pages.server)
		h.pages.cancel()
		<-h.pages.done
		h.pages = nil
	}
}

// runPages opens the store, as often as it takes, makes the pages and keeps their store tidy.
func (h *house) runPages(ctx context.Context, p *pages, core proxy.Core) {
	defer close(p.done)
	store, served := h.makePages(ctx, core)
	for store == nil {
		if !pause(ctx, portalRetry) {
			return
		}
		store, served = h.makePages(ctx, core)
	}
	defer store.Close()
	p.server.Use(served)
	for {
		if err := served.Purge(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("the store of the self-service pages is not tidied", "err", err)
		}
		if !pause(ctx, portalPurge) {
			return
		}
	}
}

// offPages are pages that are switched off; nil, which is 503 as well, where they cannot be made.
func (h *house) offPages(cfg *config.Config) *portal.Portal {
	off, err := portal.Off(portal.Parts{Config: cfg, Log: h.log, Now: time.Now})
	if err != nil {
		h.log.Error("the self-service pages cannot be made", "err", err)
		return nil
	}
	return off
}

// endSessions ends all sessions of pages that are switched off: none goes on when they are switched on again. It does so
// twice, since a request that was under way may have begun one, and as often as it takes.
func (h *house) endSessions(ctx context.Context, p *pages, core proxy.Core) {
	defer close(p.done)
	for range 2 {
		for !h.endedSessions(ctx, core.Config) {
			if !pause(ctx, portalRetry) {
				return
			}
		}
		if !pause(ctx, portalEnd) {
			return
		}
	}
}

func (h *house) endedSessions(ctx context.Context, cfg *config.Config) bool {
	store, err := portal.OpenStore(ctx, cfg)
	if err == nil {
		err = store.EndAll(ctx)
		store.Close()
	}
	if err != nil && ctx.Err() == nil {
		h.log.Error("the self-service pages are off, and the sessions not ended yet", "err", err)
	}
	return err == nil
}

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// makePages opens the store and makes the pages; nil where that does not work now.
func (h *house) makePages(ctx context.Context, core proxy.Core) (*portal.Store, *portal.Portal) {
	cfg := core.Config
	store, err := portal.OpenStore(ctx, cfg)
	if err != nil {
		h.log.Error("the self-service pages wait for their store", "err", err)
		return nil, nil
	}
	send, err := h.mailer(ctx, cfg)
	if err != nil {
		h.log.Error("the self-service pages cannot be made", "err", err)
		store.Close()
		return nil, nil
	}
	served, err := portal.New(portal.Parts{Config: cfg, Mail: send, Journal: core.Journal, Upstream: core.Upstream, Verifier: core.Verifier, Store: store, Log: h.log, Now: time.Now,
		Manager: manage.New(cfg, core.Upstream, proxy.SharedAttribute(cfg.AppPasswords.Attribute), time.Now).WithJournal(core.Journal).WithTurns(core.Verifier),
		History: func(ctx context.Context) (*history.Store, error) { return history.Open(ctx, cfg) }})
	if err != nil {
		h.log.Error("the self-service pages cannot be made", "err", err)
		store.Close()
		return nil, nil
	}
	return store, served
}

// portalCommand is what admins of the self-service pages do at the command line.
func portalCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "portal COMMAND -c FILE",
		Short: "Help users with the self-service pages",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q (see '%s --help')", args[0], c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(enrolCodeCommand(s))
	for _, sub := range c.Commands() {
		sub.Args = usageArgs(sub.Args)
	}
	return c
}

func enrolCodeCommand(s streams) *cobra.Command {
	d := &desk{streams: s}
	var user string
	c := &cobra.Command{
		Use:   "enrol-code -c FILE --user NAME",
		Short: "Issue a one-time code for a user's first second factor",
		Long: `Issue a one-time code with which a user, after signing in to the self-service
pages with the main password, sets up a second factor. It is printed once, is good
for portal.enrol_code, and takes the place of an earlier one. Whoever has
it and the main password is the user: make sure who you give it to.`,
		Example: "  appbind portal enrol-code -c /etc/appbind/appbind.yaml --user alice",
		RunE: func(c *cobra.Command, _ []string) error {
			if user == "" {
				return &usageError{fmt.Errorf("--user NAME is required (see '%s --help')", c.CommandPath())}
			}
			return d.run(c, func(ctx context.Context) error { return d.enrolCode(ctx, user) })
		},
	}
	d.flags(c)
	c.Flags().StringVar(&user, "user", "", "the user's `NAME` or DN (required)")
	return c
}

// enrolCode issues and prints a code.
func (d *desk) enrolCode(ctx context.Context, name string) error {
	u, err := d.find(ctx, name)
	switch {
	case err != nil:
		return err
	case !u.Eligible:
		return fmt.Errorf("%s: %w", printable(name), manage.ErrNotEligible)
	}
	store, err := portal.OpenStore(ctx, d.cfg)
	if err != nil {
		return fmt.Errorf("the store of the self-service pages: %w", err)
	}
	defer store.Close()
	code, until, err := portal.IssueEnrolCode(ctx, store, &d.cfg.Portal, u, time.Now())
	if err != nil {
		return err
	}
	if err := portal.Issued(ctx, store, d, u, systemUser(), time.Now()); err != nil {
		fmt.Fprintf(d.err, "appbind: done, and not noted in the audit: %v\n", err)
	}
	if d.json {
		return json.NewEncoder(d.out).Encode(map[string]string{"user": u.DN, "code": code, "expires": until.UTC().Format(time.RFC3339)})
	}
	_, err = fmt.Fprintf(d.out, "%s\ngood for %s until %s\n", code, u.DN, until.UTC().Format("2006-01-02 15:04 UTC"))
	return err
}
