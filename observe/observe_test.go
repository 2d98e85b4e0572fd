package observe

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/events"
	"appbind/history"
	"appbind/jobs"
	"appbind/proxy"
)

// sourceOf is a source with a figure in every metric.
func sourceOf(ready func(context.Context) error) Source {
	var d proxy.Durations
	d.Counts[0], d.Counts[1], d.Counts[len(d.Counts)-1], d.Sum = 2, 1, 1, 12*time.Second
	one := map[string]uint64{"search": 3}
	return Source{
		Version: "v1",
		Auth: func() auth.Stats {
			return auth.Stats{Hashed: 5, MemoryCounts: []auth.MemoryCount{{Name: "verified", N: 6}}}
		},
		Proxy: func() (proxy.Stats, bool) {
			return proxy.Stats{
				Listeners: []proxy.ListenerStats{{Name: "ldap://127.0.0.1:389", Open: 2, Accepted: 4,
					Binds: []proxy.BindCount{{Outcome: "denied", Reason: "no such user", Service: "imap", N: 7}}}},
				Refused: map[string]uint64{"descriptors": 1}, Operations: map[string]proxy.Durations{"search": d}, Denied: one,
				Binds: map[string]proxy.Durations{"accepted": d}, Panics: 1,
			}, true
		},
		Upstream: func() (backend.Stats, bool) {
			return backend.Stats{Panics: 2, Replica: backend.ReplicaInfo{On: true, Current: true, Held: true, Users: 9, Age: 3 * time.Second}, Servers: []backend.ServerStats{{Name: "ldap://a:389", Up: true,
				Links: map[string]int64{"idle": 1}, Requests: one}}}, true
		},
		History: func() (history.Stats, bool) {
			return history.Stats{Written: 8, Pending: 9, Up: true, Dropped: map[string]uint64{"queue": 1}}, true
		},
		Post:    func() map[string]uint64 { return map[string]uint64{"sent": 3, "queue": 1} },
		Enabled: func() map[string]bool { return map[string]bool{"accept": true, "portal": false} },
		Jobs: func() jobs.Stats {
			return jobs.Stats{Jobs: []jobs.JobStats{{Name: jobs.Notify, Last: time.Unix(1000, 0), Runs: map[string]uint64{"failed": 10}}, {Name: jobs.RemoveExpired}},
				Removed: map[string]uint64{"removed": 11}, Deleted: 12, Mails: map[string]uint64{"sent": 13}, Panics: 1}
		},
		Events: func() (events.Stats, bool) {
			return events.Stats{Audit: true, Webhook: true, AuditUp: true, Written: 2, Delivered: 3, Failed: 4, WebhookPending: 5,
				AuditDropped: map[string]uint64{"queue": 6}, WebhookDropped: map[string]uint64{"refused": 7}}, true
		},
		Ready: ready,
	}
}

func newEndpoint(t *testing.T, source Source, cfg config.Observe) *Endpoint {
	t.Helper()
	e, err := New(source, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	use(t, e, cfg)
	return e
}

func use(t *testing.T, e *Endpoint, cfg config.Observe) {
	t.Helper()
	l, err := e.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e.Use(l)
}

func ok(context.Context) error { return nil }

// get is the status and the body of one request on a connection of its own.
func get(t *testing.T, addr net.Addr, path string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	r, err := c.Get("http://" + addr.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

const anyPort = "127.0.0.1:0"

func TestMetrics(t *testing.T) {
	e := newEndpoint(t, sourceOf(ok), config.Observe{Listen: anyPort})
	code, body := get(t, e.Addr(), "/metrics")
	if code != 200 {
		t.Fatal(code)
	}
	for _, want := range []string{
		`appbind_binds_total{listener="ldap://127.0.0.1:389",outcome="denied",reason="no such user",service="imap"} 7`,
		`appbind_bind_duration_seconds_bucket{outcome="accepted",le="0.0001"} 2`,
		`appbind_bind_duration_seconds_bucket{outcome="accepted",le="10"} 3`,
		`appbind_bind_duration_seconds_bucket{outcome="accepted",le="+Inf"} 4`,
		`appbind_bind_duration_seconds_sum{outcome="accepted"} 12`,
		`appbind_operation_duration_seconds_count{operation="search"} 4`,
		`appbind_connections{listener="ldap://127.0.0.1:389"} 2`,
		`appbind_upstream_links{kind="idle",server="ldap://a:389"} 1`,
		`appbind_upstream_up{server="ldap://a:389"} 1`,
		`appbind_memory_entries{memory="verified"} 6`,
		`appbind_replica_current 1`, `appbind_replica_users 9`, `appbind_replica_age_seconds 3`, `appbind_outage 0`,
		`appbind_hashes_total 5`,
		`appbind_panics_total 4`,
		`appbind_job_last_success_timestamp_seconds{task="notify"} 1000`,
		`appbind_job_runs_total{outcome="failed",task="notify"} 10`,
		`appbind_expired_passwords_total{outcome="removed"} 11`,
		`appbind_history_rows_deleted_total 12`,
		`appbind_mails_total{outcome="sent"} 13`,
		`appbind_build_info{goversion="go1`,
		"\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("not scraped: %s", want)
		}
	}
	for _, m := range Metrics() {
		if !strings.Contains(body, "# TYPE "+m.Name+" "+m.Type+"\n") {
			t.Errorf("%s %s is not scraped", m.Type, m.Name)
		}
		if (m.Type == "counter") != strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s: counters, and only they, end in _total", m.Name)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

// TestBeforeTheStart: what is not there yet is not scraped, and no error.
func TestBeforeTheStart(t *testing.T) {
	s := sourceOf(func(context.Context) error { return errors.New("starting") })
	s.Proxy = func() (st proxy.Stats, ok bool) { return }
	s.Upstream = func() (st backend.Stats, ok bool) { return }
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(&collector{s})
	if _, err := registry.Gather(); err != nil {
		t.Error(err)
	}
	e := newEndpoint(t, s, config.Observe{Listen: anyPort})
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/readyz": 503, "/": 404, "/debug/pprof/": 404} {
		if code, body := get(t, e.Addr(), path); code != want || path == "/readyz" && body != "starting\n" {
			t.Errorf("%s: %d %q, want %d", path, code, body, want)
		}
	}
}

// TestReadyWithNote: what is to be said besides does not take appbind out of service.
func TestReadyWithNote(t *testing.T) {
	e := newEndpoint(t, sourceOf(func(context.Context) error { return Note("ready: a copy decides") }), config.Observe{Listen: anyPort})
	if code, body := get(t, e.Addr(), "/readyz"); code != 200 || body != "ready: a copy decides\n" {
		t.Errorf("%d %q", code, body)
	}
}

// TestReadiness: one question at one time, and its answer holds for a second.
func TestReadiness(t *testing.T) {
	var asked atomic.Int64
	bad := errors.New("upstream: no server answers")
	answer := make(chan error)
	r := newReadiness(func(ctx context.Context) error {
		asked.Add(1)
		if _, limited := ctx.Deadline(); !limited {
			t.Error("asked without a limit")
		}
		return <-answer
	})
	now := time.Now()
	r.now = func() time.Time { return now }
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := r.check(); err != bad {
				t.Errorf("%v", err)
			}
		})
	}
	answer <- bad
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	now = now.Add(readyFor)
	go func() { answer <- nil }()
	if err := r.check(); err != nil {
		t.Error(err)
	}
}

// TestReload: another address is opened before the old one goes; the same one stays open.
func TestReload(t *testing.T) {
	e := newEndpoint(t, sourceOf(ok), config.Observe{Listen: anyPort})
	first := e.Addr()
	// The same address, with the profiler.
	use(t, e, config.Observe{Listen: anyPort, PProf: true})
	if e.Addr().String() != first.String() {
		t.Error("the same address was opened again")
	}
	if code, _ := get(t, first, "/debug/pprof/cmdline"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
	use(t, e, config.Observe{Listen: anyPort})
	if code, _ := get(t, first, "/debug/pprof/cmdline"); code != 404 {
		t.Errorf("pprof, switched off: %d", code)
	}
	// A busy one changes nothing.
	busy, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if _, err := e.Open(config.Observe{Listen: busy.Addr().String()}); err == nil || !strings.Contains(err.Error(), "observe.listen") {
		t.Errorf("busy: %v", err)
	}
	// One that is opened and then not wanted is free again; the present one is not touched.
	for _, listen := range []string{"127.0.0.2:0", anyPort} {
		l, err := e.Open(config.Observe{Listen: listen})
		if err != nil {
			t.Fatal(err)
		}
		e.Discard(l)
	}
	if code, _ := get(t, first, "/healthz"); code != 200 {
		t.Errorf("after a reload that failed: %d", code)
	}
	use(t, e, config.Observe{Listen: "127.0.0.2:0"})
	if code, _ := get(t, e.Addr(), "/healthz"); code != 200 {
		t.Errorf("the new address: %d", code)
	}
	e.old.Wait()
	expectClosed(t, first)
	last := e.Addr()
	use(t, e, config.Observe{})
	e.old.Wait()
	expectClosed(t, last)
	if e.Addr() != nil {
		t.Error("an address without one")
	}
	use(t, e, config.Observe{Listen: anyPort})
	last = e.Addr()
	e.Close(context.Background())
	expectClosed(t, last)
}

// TestFlood: connections beyond the bound wait until there is room, and are served then.
func TestFlood(t *testing.T) {
	e := newEndpoint(t, sourceOf(ok), config.Observe{Listen: "127.0.0.1:0"})
	request := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", e.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answered := func(c net.Conn, within time.Duration) error {
		_ = c.SetReadDeadline(time.Now().Add(within))
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			r.Body.Close()
		}
		return err
	}
	var held []net.Conn
	for range maxConnections {
		held = append(held, request())
		if err := answered(held[len(held)-1], time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	late := request()
	if err := answered(late, 200*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one too many: %v", err)
	}
	held[7].Close()
	if err := answered(late, time.Minute); err != nil {
		t.Errorf("when there was room: %v", err)
	}
}

// expectClosed demands that nobody listens.
func expectClosed(t *testing.T, addr net.Addr) {
	t.Helper()
	if c, err := net.Dial("tcp", addr.String()); err == nil {
		c.Close()
		t.Errorf("%s is still open", addr)
	}
}
