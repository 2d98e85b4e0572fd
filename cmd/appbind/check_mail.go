package main

import (
	"context"
	"time"

	"appbind/jobs"
	"appbind/manage"
)

// mail reads the texts, and connects to the mail server and logs in. Logins do not depend on it.
func (c *check) mail(ctx context.Context) {
	m := manage.New(c.cfg, c.up, false, time.Now)
	r, err := jobs.New(c.cfg, jobs.Options{Upstream: c.up, Manager: m, Counts: &jobs.Counts{}, Now: time.Now})
	switch {
	case err != nil:
		c.fail("mail", "%v", err) // serve would not start
		return
	case c.cfg.Mail.Server == "":
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	switch err := r.TryMail(ctx); {
	case err != nil:
		c.warn("mail", "%s: %v", c.cfg.Mail.Server, err)
	case c.cfg.History.Store == "none":
		c.warn("mail", "%s: no mail is sent, since history.store is none", c.cfg.Mail.Server)
	default:
		c.ok("mail", "%s (%s), from %s", c.cfg.Mail.Server, c.cfg.Mail.Security(), c.cfg.Mail.From)
	}
}
