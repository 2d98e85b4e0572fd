package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"appbind/backend"
	"appbind/config"
	"appbind/observe"
	"appbind/proxy"
)

// unwatchTime bounds the wait for a scrape that is under way at the end; a profile is given up.
const unwatchTime = 2 * time.Second

// Why appbind is not ready, as /readyz tells.
var (
	errStarting = errors.New("starting")
	errStopping = errors.New("not accepting clients: stopping, or not started")
	errUpstream = errors.New("upstream: no server answers")
	errRefused  = errors.New("upstream: the bind as upstream.bind_dn is refused")
)

// watch starts the endpoint of metrics and health, where it has an address.
func (h *house) watch(cfg config.Observe) (err error) {
	if h.endpoint, err = observe.New(h.source(), h.log); err != nil {
		return err
	}
	listening, err := h.endpoint.Open(cfg)
	if err != nil {
		return err
	}
	h.endpoint.Use(listening)
	return nil
}

// unwatch ends it.
func (h *house) unwatch() {
	ctx, cancel := context.WithTimeout(context.Background(), unwatchTime)
	defer cancel()
	h.endpoint.Close(ctx)
}

// source hands out what serves at the moment.
func (h *house) source() observe.Source {
	return observe.Source{
		Version: buildVersion(),
		Auth:    h.memory.Stats,
		Proxy: func() (st proxy.Stats, ok bool) {
			if s := h.serving.Load(); s != nil {
				return s.server.Stats(), true
			}
			return st, false
		},
		Upstream: func() (st backend.Stats, ok bool) {
			if s := h.serving.Load(); s != nil {
				return s.upstream.Stats(), true
			}
			return st, false
		},
		History: h.historyStats,
		Jobs:    h.jobCounts.Stats,
		Enabled: h.enabled,
		Post:    h.postCounts.stats,
		Events:  h.eventStats,
		Ready:   h.ready,
	}
}

// enabled is what the present configuration switches on and off.
func (h *house) enabled() map[string]bool {
	s := h.serving.Load()
	if s == nil {
		return nil
	}
	cfg := s.cfg
	return map[string]bool{"accept": cfg.Accepts(), "issue": cfg.AppPasswords.Enabled, "portal": cfg.PortalOn() && cfg.Portal.Listen != "", "jobs": cfg.JobsOn()}
}

// ready says whether a client who comes now is served: nil or a note, or why not.
func (h *house) ready(ctx context.Context) error {
	s := h.serving.Load()
	switch {
	case s == nil:
		return errStarting
	case !s.server.Serving():
		return errStopping
	}
	switch err := s.upstream.Ping(ctx); {
	case errors.Is(err, backend.ErrRefuses):
		return errRefused
	case err != nil:
		if r := s.upstream.Stats().Replica; r.Outage && s.cfg.Accepts() {
			// Main passwords are not served, but taking appbind away would end mail altogether.
			return observe.Note(fmt.Sprintf("ready: no server of the directory answers, app passwords are decided from a copy that is %v old", r.Age.Round(time.Second)))
		}
		return errUpstream
	}
	if off := switchedOff(s.cfg); len(off) > 0 {
		return observe.Note("ready; switched off: " + strings.Join(off, ", "))
	}
	return nil
}
