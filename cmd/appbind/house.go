package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"appbind/auth"
	"appbind/backend"
	"appbind/backend/embedded"
	"appbind/config"
	"appbind/events"
	"appbind/history"
	"appbind/jobs"
	"appbind/observe"
	"appbind/proxy"
)

// house is what outlives one configuration: the log, the memory of the
// decision, the embedded directory, and upstreams that still have clients.
type house struct {
	log           *slog.Logger
	lines         *logWriter // what log writes to
	level         *slog.LevelVar
	memory        *auth.Memory
	directory     *embedded.Directory // nil where the upstream is not embedded
	file          string              // what directory was loaded from
	guest         bool                // an embedded directory that another process serves will do
	endpoint      *observe.Endpoint   // metrics and health
	serving       atomic.Pointer[served]
	recording     atomic.Pointer[recording]
	historyCounts history.Counts
	keeps         bool         // the copy of lookup: replica is kept on disk; only by who serves
	working       *jobs.Runner // of the present configuration; serve has it for itself
	jobCounts     jobs.Counts
	telling       atomic.Pointer[telling]
	eventCounts   events.Counts
	out           io.Writer      // for an audit log on standard output
	postCounts    postCounts     // of the mails of the pages
	pages         *pages         // the self-service pages; nil: none
	tlsPages      bool           // they are served by TLS
	retired       sync.WaitGroup // one for each upstream of an earlier configuration
}

// served is what serves clients at the moment.
type served struct {
	server   *proxy.Server
	upstream *backend.Upstream
	cfg      *config.Config
}

// newHouse makes a house that logs to w.
func newHouse(w io.Writer, cfg config.Log) *house {
	h := &house{level: &slog.LevelVar{}, memory: auth.NewMemory(time.Now)}
	h.setLevel(cfg)
	h.log, h.lines = newLog(w, cfg.Format, h.level)
	return h
}

// guestHouse makes a house for a command that asks and ends. It logs nothing.
func guestHouse(cfg config.Log) *house {
	h := newHouse(io.Discard, cfg)
	h.guest = true
	return h
}

// setLevel takes the level over; config has checked it.
func (h *house) setLevel(cfg config.Log) {
	var level slog.Level
	if level.UnmarshalText([]byte(cfg.Level)) == nil {
		h.level.Set(level)
	}
}

// build makes what serves cfg, the upstream started. The caller closes the upstream.
func (h *house) build(ctx context.Context, cfg *config.Config) (proxy.Core, error) {
	if cfg.Upstream.Embedded != h.file && h.directory != nil {
		return proxy.Core{}, fmt.Errorf("upstream.embedded: a change needs a restart")
	}
	if err := h.embed(cfg); err != nil {
		return proxy.Core{}, err
	}
	for _, url := range inClear(cfg.Upstream) {
		h.log.Warn("passwords travel to the directory in clear", "upstream", url.String(), "hint", "use ldaps:// or upstream.starttls")
	}
	upstream, err := backend.New(cfg, h.log)
	if err != nil {
		return proxy.Core{}, err
	}
	if file := cfg.SnapshotFile(); file != "" && h.keeps {
		upstream.KeepSnapshot(file, h.memory)
	}
	h.memory.KeepServices(cfg.SnapshotFile() != "" && h.keeps)
	if before := h.serving.Load(); before != nil {
		upstream.Continue(before.upstream)
	}
	verifier := auth.New(cfg, upstream, h.memory, h.log)
	upstream.OnShared(verifier.ServiceBound)
	upstream.Start(ctx)
	return proxy.Core{Config: cfg, Upstream: upstream, Verifier: verifier}, nil
}

// embed starts the embedded directory where cfg has one, and makes it the upstream.
func (h *house) embed(cfg *config.Config) error {
	if cfg.Upstream.Embedded == "" {
		return nil
	}
	where := ""
	if h.directory == nil {
		directory, err := embedded.Start(cfg.Upstream.Embedded, h.log)
		other, inUse := errors.AsType[*embedded.InUse](err)
		switch {
		case inUse && h.guest:
			where = other.URL
		case err != nil:
			return err
		default:
			h.directory, h.file = directory, cfg.Upstream.Embedded
		}
	}
	if h.directory != nil {
		where = h.directory.URL()
	}
	url, err := config.ParseURL(where)
	if err != nil {
		return err
	}
	cfg.Upstream.URLs = []config.URL{url}
	return nil
}

// inClear are the servers on other machines to which every password, those of users and appbind's own, goes in clear.
func inClear(up config.Upstream) (list []config.URL) {
	for _, url := range up.URLs {
		if url.Scheme == "ldap" && !up.StartTLS && !url.Loopback() {
			list = append(list, url)
		}
	}
	return list
}

// retire ends the jobs, and closes the upstream, and the history and the journal if they were replaced, of an earlier configuration when the
// last client that uses it has left. What has begun with that configuration may yet ask it,
// and does so within bind_timeout; closed before, it would fail what works.
func (h *house) retire(ctx context.Context, old proxy.Core, oldHistory *recording, oldJournal *telling, oldJobs *jobs.Runner) {
	h.retired.Go(func() {
		rest(context.WithoutCancel(ctx), oldJobs)
		timer := time.NewTimer(time.Duration(old.Config.Upstream.BindTimeout))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		old.Upstream.Close()
		oldHistory.end()
		oldJournal.end()
	})
}

// close ends what build started, the server and the current upstream being
// closed before, and sees to it that every line of the log is written.
func (h *house) close() {
	h.retired.Wait()
	if h.directory != nil {
		h.directory.Close()
	}
	h.lines.Flush()
}

// protectMemory keeps passwords in memory out of core dumps and away from
// other processes of the same user.
func protectMemory() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
