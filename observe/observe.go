// Package observe is the HTTP endpoint for those who watch appbind: /metrics for
// Prometheus, /healthz and /readyz for a supervisor, /debug/pprof/ on request.
//
// # What is served
//
//	/metrics       all metrics, see metrics.go; each is a line of doc/metrics.md
//	/healthz       200 as long as the process answers
//	/readyz        200 when clients are served and the upstream answers; else 503 and a line that tells why
//	/debug/pprof/  Go's profiler, with observe.pprof only
//
// Nothing is counted here. The packages that do the work keep plain atomics, and
// hand out snapshots of them, which are asked for when somebody scrapes: a bind
// pays some additions, and no lock, allocation or library.
//
// # Security
//
// The endpoint asks nobody who he is; config keeps the profiler to loopback. No
// metric holds a user's name, a client's address, or anything of a password.
// Labels are of fixed lists, or names of the configuration's listeners and
// servers, so that no client can make up series.
//
// # Limits
//
// A request has a few seconds to arrive and a minute and a half to be answered;
// a few scrapes run at one time. /readyz asks the upstream at most once a second,
// however often it is asked.
package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/events"
	"appbind/history"
	"appbind/jobs"
	"appbind/proxy"
)

const (
	requestTime  = 5 * time.Second  // for a request to arrive
	responseTime = 90 * time.Second // a CPU profile takes 30 s unless asked otherwise
	idleTime     = 2 * time.Minute  // above the usual pause between two scrapes
	maxHeader    = 16 << 10
	maxScrapes   = 4 // at one time
	// maxConnections waits with accepting more: descriptors are for logins. One that says nothing makes room after requestTime.
	maxConnections = 64
)

// Source is where the figures come from. The functions are called for each
// scrape, from several goroutines, and report false while there is nothing yet.
type Source struct {
	Version  string
	Proxy    func() (proxy.Stats, bool)
	Upstream func() (backend.Stats, bool)
	Auth     func() auth.Stats
	History  func() (history.Stats, bool)
	Jobs     func() jobs.Stats
	Enabled  func() map[string]bool   // what the configuration switches on and off
	Post     func() map[string]uint64 // mails of the self-service pages, by outcome
	Events   func() (events.Stats, bool)
	// Ready is nil when clients are served and the upstream answers, a Note when they are served in spite
	// of something. The text of the error is shown to whoever asks.
	Ready func(ctx context.Context) error
}

// Endpoint is the HTTP endpoint, which may have an address or none. Make it with New.
type Endpoint struct {
	log     *slog.Logger
	metrics http.Handler
	ready   *readiness

	base   context.Context // ends when waiting for requests is over
	giveUp context.CancelFunc

	mu      sync.Mutex // serialises Open's users and Close, and guards current
	current *Listening
	old     sync.WaitGroup // servers whose address was changed
}

// New makes an endpoint without an address.
func New(source Source, log *slog.Logger) (*Endpoint, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		&collector{source},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("appbind: internal error: %w", err)
		}
	}
	e := &Endpoint{
		log:   log,
		ready: newReadiness(source.Ready),
		metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			ErrorLog:            errorLog{log},
			ErrorHandling:       promhttp.ContinueOnError,
			MaxRequestsInFlight: maxScrapes,
		}),
	}
	e.base, e.giveUp = context.WithCancel(context.Background())
	return e, nil
}

// errorLog takes the library's complaints into the log.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(v ...any) { l.log.Warn("metrics", "err", fmt.Sprint(v...)) }

// Listening is an address that is open, or none. It serves after Use.
type Listening struct {
	cfg    config.Observe
	ln     net.Listener // nil: no address
	server *http.Server
	done   chan struct{} // closed when the server has ended
}

// Open opens the address of a configuration, unless it is the present one.
// What it returns must be handed to Use or to Discard.
func (e *Endpoint) Open(cfg config.Observe) (*Listening, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := &Listening{cfg: cfg, done: make(chan struct{})}
	switch {
	case cfg.Listen == "":
		return l, nil
	case e.current != nil && e.current.cfg == cfg:
		return e.current, nil
	case e.current != nil && e.current.cfg.Listen == cfg.Listen:
		l.ln = e.current.ln // the same socket; only what is served there changes
	default:
		ln, err := net.Listen("tcp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("observe.listen: %w", err)
		}
		l.ln = netutil.LimitListener(ln, maxConnections)
	}
	return l, nil
}

// Discard closes what Open has opened.
func (e *Endpoint) Discard(l *Listening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l.ln != nil && (e.current == nil || l.ln != e.current.ln) {
		l.ln.Close()
	}
}

// Use serves at l from now on, and no longer where it was before. Requests under way there are finished.
func (e *Endpoint) Use(l *Listening) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.current
	if l == before {
		return
	}
	e.current = l
	switch {
	case l.ln == nil:
	case before != nil && before.ln == l.ln:
		before.server.Handler.(*switcher).set(e.handler(l.cfg))
		l.server, l.done = before.server, before.done
		return
	default:
		e.serve(l)
	}
	if before != nil && before.ln != nil {
		e.old.Go(func() { e.end(before) })
	}
}

// serve starts the server of l.
func (e *Endpoint) serve(l *Listening) {
	handler := &switcher{}
	handler.set(e.handler(l.cfg))
	l.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: requestTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      responseTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	e.log.Info("serving metrics", "address", l.ln.Addr().String())
	go func() { // ends with the server, which end waits for
		defer close(l.done)
		if err := l.server.Serve(l.ln); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("metrics are not served any more", "err", err)
		}
	}()
}

// end ends the server of l when its requests under way are answered, for responseTime at most.
func (e *Endpoint) end(l *Listening) {
	ctx, cancel := context.WithTimeout(e.base, responseTime)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		l.server.Close()
	}
	<-l.done
}

// Close ends all that serves. Requests under way are finished, until ctx ends.
func (e *Endpoint) Close(ctx context.Context) {
	defer context.AfterFunc(ctx, e.giveUp)()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current != nil && e.current.ln != nil {
		e.end(e.current)
	}
	e.current = nil
	e.old.Wait()
}

// Addr is the address that is served; nil: none.
func (e *Endpoint) Addr() net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil || e.current.ln == nil {
		return nil
	}
	return e.current.ln.Addr()
}

// handler is what is served.
func (e *Endpoint) handler(cfg config.Observe) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", e.metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { line(w, http.StatusOK, "ok") })
	mux.Handle("GET /readyz", e.ready)
	if cfg.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// line answers with one line of text.
func line(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}
