package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"appbind/config"
	"appbind/proxy"
)

func serveCommand(s streams) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve -c FILE",
		Short: "Serve LDAP clients",
		Long: `Serve LDAP clients until SIGTERM or SIGINT; operations under way are finished
first. SIGHUP reads the configuration and the certificates again: a file with
mistakes is refused and the old one stays in force. No connection is dropped. The
audit log's file is opened anew.
The log goes to standard error.`,
		Example: "  appbind serve -c /etc/appbind/appbind.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			h := newHouse(s.err, cfg.Log)
			h.out = s.out
			return serve(c.Context(), h, cfg, hangup, nil)
		},
	}
	configFlag(c, &file)
	return c
}

// serve serves cfg until ctx ends, and reads cfg.File again on each hangup.
// ready, if set, is called when clients are served.
func serve(ctx context.Context, h *house, cfg *config.Config, hangup <-chan os.Signal, ready func(*proxy.Server)) error {
	if err := protectMemory(); err != nil {
		h.log.Warn("memory could leave the process in a core dump", "err", err)
	}
	defer h.close()
	if err := h.watch(cfg.Observe); err != nil {
		return err
	}
	defer h.unwatch()
	h.keeps = true
	telling, err := h.tell(cfg)
	if err != nil {
		return err
	}
	h.use(telling)
	defer func() { h.telling.Load().end() }() // after all who tell something
	core, err := h.build(ctx, cfg)
	if err != nil {
		return err
	}
	worker, err := h.jobsOf(core)
	if err != nil {
		core.Upstream.Close()
		return err
	}
	h.keep(h.record(cfg))
	core = noted(core, h.recording.Load(), telling)
	server := proxy.New(core, h.log)
	h.serving.Store(&served{server, core.Upstream, cfg})
	self, err := h.openPages(cfg)
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		h.discardPages(self)
		core.Upstream.Close()
		h.recording.Load().end()
		return err
	}
	h.work(cfg, worker)
	h.usePages(self, core)
	h.warnOff(cfg)
	h.log.Info("ready", "version", buildVersion(), "config", cfg.File)
	if ready != nil {
		ready(server)
	}
	for {
		select {
		case <-hangup:
			core = h.reload(ctx, server, core)
		case <-ctx.Done():
			return h.stop(ctx, server, core)
		}
	}
}

// stop lets the operations under way end, for limits.drain at most.
func (h *house) stop(ctx context.Context, server *proxy.Server, core proxy.Core) error {
	h.log.Info("stopping")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(core.Config.Limits.Drain))
	defer cancel()
	var resting sync.WaitGroup
	resting.Go(func() { rest(context.WithoutCancel(ctx), h.working) })
	h.endPages()
	err := server.Shutdown(drain)
	resting.Wait()
	core.Upstream.Close()
	h.recording.Load().end() // after the last client
	h.log.Info("stopped")
	return err
}

// refuse logs why the file is not taken: a line for each mistake.
func (h *house) refuse(err error) {
	const text = "configuration refused, the old one stays"
	mistakes, ok := errors.AsType[config.Mistakes](err)
	if !ok {
		h.log.Error(text, "err", err)
	}
	for _, m := range mistakes {
		h.log.Error(text, "err", m.String())
	}
}

// reload brings the file's present contents into force and returns them, or
// logs why it does not and returns what stays in force.
func (h *house) reload(ctx context.Context, server *proxy.Server, old proxy.Core) proxy.Core {
	h.telling.Load().journal.Reopen() // whatever becomes of the configuration
	cfg, err := config.Load(old.Config.File)
	if err != nil {
		h.refuse(err)
		return old
	}
	metrics, err := h.endpoint.Open(cfg.Observe)
	if err != nil {
		h.log.Error("configuration refused, the old one stays", "err", err)
		return old
	}
	telling, err := h.tell(cfg)
	if err != nil {
		h.log.Error("configuration refused, the old one stays", "err", err)
		h.endpoint.Discard(metrics)
		return old
	}
	self, err := h.openPages(cfg)
	if err != nil {
		h.log.Error("configuration refused, the old one stays", "err", err)
		h.endpoint.Discard(metrics)
		return old
	}
	core, err := h.build(ctx, cfg)
	if err != nil {
		h.log.Error("configuration refused, the old one stays", "err", err)
		h.endpoint.Discard(metrics)
		h.silence(telling)
		h.discardPages(self)
		return old
	}
	worker, err := h.jobsOf(core)
	if err != nil {
		h.log.Error("configuration refused, the old one stays", "err", err)
		h.endpoint.Discard(metrics)
		h.silence(telling)
		h.discardPages(self)
		core.Upstream.Close()
		return old
	}
	recording := h.record(cfg)
	core = noted(core, recording, telling)
	if err := server.Reload(core); err != nil {
		h.log.Error("configuration refused, the old one stays", "err", err)
		h.endpoint.Discard(metrics)
		h.discardPages(self)
		h.drop(recording)
		h.silence(telling)
		core.Upstream.Close()
		return old
	}
	h.serving.Store(&served{server, core.Upstream, cfg})
	h.endpoint.Use(metrics)
	h.usePages(self, core)
	h.setLevel(cfg.Log)
	h.retire(ctx, old, h.keep(recording), h.use(telling), h.work(cfg, worker))
	h.warnOff(cfg)
	h.log.Info("configuration reloaded", "config", cfg.File)
	return core
}
