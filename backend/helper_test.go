package backend

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

const (
	people    = "ou=people,dc=example,dc=org"
	alice     = "uid=alice," + people
	serviceDN = "cn=appbind,dc=example,dc=org"
)

// testConfig is a configuration with short timeouts.
func testConfig(urls ...config.URL) *config.Config {
	return &config.Config{
		Upstream: config.Upstream{URLs: urls, BindDN: serviceDN, BindPassword: "servicepw",
			ConnectTimeout: config.Duration(time.Second), BindTimeout: config.Duration(5 * time.Second),
			OperationTimeout: config.Duration(time.Minute), IdleTimeout: config.Duration(time.Minute),
			ServiceLinks: 2, MaxLinks: 20},
		Users:        config.Users{Bases: []string{people}, Filter: "(objectClass=person)", EnabledFilter: "none"},
		AppPasswords: config.AppPasswords{Attribute: "appPassword"},
	}
}

// logBuffer keeps the log of an Upstream under test.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// upstream makes and starts an Upstream; the end of the test closes it.
func upstream(t testing.TB, cfg *config.Config, change ...func(*Upstream)) *Upstream {
	t.Helper()
	u := unstarted(t, cfg, change...)
	u.Start(testContext(t, 5*time.Second))
	t.Cleanup(func() {
		u.pool.mu.Lock()
		var left []*Link // of a test that failed, or left them to us
		for l := range u.pool.links {
			left = append(left, l)
		}
		u.pool.mu.Unlock()
		for _, l := range left {
			l.Close()
		}
		u.Close()
	})
	return u
}

func unstarted(t testing.TB, cfg *config.Config, change ...func(*Upstream)) *Upstream {
	t.Helper()
	log := &logBuffer{}
	u, err := New(cfg, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(u)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return u
}

// holdings is what a process holds that must be given back: goroutines and descriptors.
type holdings struct{ goroutines, descriptors int }

// holding counts. What the runtime opens once, for its poller, is open by then.
func holding(t testing.TB) holdings {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return holdings{runtime.NumGoroutine(), len(names)}
}

// settle waits until no more goroutines and descriptors are left than before.
func settle(t testing.TB, before holdings) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		now := holding(t)
		if now.goroutines <= before.goroutines && now.descriptors <= before.descriptors {
			return
		}
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%+v, %+v before:\n%s", now, before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func testContext(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// fake starts a fake server. The end of the test closes it, when its clients
// are closed already, and checks that every goroutine has ended and every descriptor is closed.
func fake(t testing.TB, o fakeldap.Options) *fakeldap.Server {
	t.Helper()
	before := holding(t)
	s, err := fakeldap.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		settle(t, before)
	})
	return s
}

// urlOf is a fake's address for a configuration.
func urlOf(s *fakeldap.Server) config.URL {
	u := config.URL{Scheme: s.Scheme(), Address: s.Addr()}
	if u.Scheme != "ldapi" {
		u.Host = "127.0.0.1"
	}
	return u
}

// directory is a well-behaved directory with alice in it.
func directory() *fakeldap.Directory {
	d := fakeldap.NewDirectory()
	d.Add("dc=example,dc=org", "", "objectClass", "domain")
	d.Add(people, "", "objectClass", "organizationalUnit")
	d.Add(serviceDN, "servicepw", "objectClass", "applicationProcess")
	d.Add(alice, "alicepw", "objectClass", "person", "uid", "alice", "mail", "alice@example.org",
		"entryUUID", "6f2b7c1e-0000-4000-8000-000000000001", "appPassword", "$app$a$h", "appPassword", "$app$b$h")
	return d
}

// isRootDSE tells the searches of surveys and probes from those of a test.
func isRootDSE(m wire.Message) bool {
	if m.Op != wire.OpSearchRequest {
		return false
	}
	s, err := wire.DecodeSearch(m.Body)
	return err == nil && len(s.Base) == 0
}

// outcome is what a recording sink heard.
type outcome struct {
	op    wire.Op
	code  int32
	final bool
	lost  error
}

// recorder is a Sink that keeps what it hears.
type recorder struct {
	heard chan outcome
	onMsg func(wire.Message)
}

func newRecorder() *recorder { return &recorder{heard: make(chan outcome, 100)} }

func (r *recorder) Deliver(m wire.Message, final, _ bool) {
	if r.onMsg != nil {
		r.onMsg(m)
	}
	o := outcome{op: m.Op, final: final}
	if res, err := wire.DecodeResult(m.Body); err == nil {
		o.code = res.Code
	}
	r.heard <- o
}

func (r *recorder) Lost(err error) { r.heard <- outcome{lost: err} }

// next waits for what the sink hears next.
func (r *recorder) next(t *testing.T) outcome {
	t.Helper()
	select {
	case o := <-r.heard:
		return o
	case <-time.After(5 * time.Second):
		t.Fatal("the sink hears nothing")
		return outcome{}
	}
}

// quiet checks that nothing more was heard.
func (r *recorder) quiet(t *testing.T) {
	t.Helper()
	select {
	case o := <-r.heard:
		t.Fatalf("the sink heard %+v besides", o)
	default:
	}
}

// isDone waits for the end of a link.
func isDone(t *testing.T, l *Link) {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the link lives on")
	}
}

// unavailable checks for an error that must be trouble.
func unavailable(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrUnavailable) {
		t.Fatalf("error %v, want ErrUnavailable", err)
	}
}

// fakeClock is a clock that a test moves.
type fakeClock struct {
	mu     sync.Mutex
	at     time.Time
	timers []fakeTimer
}

type fakeTimer struct {
	at time.Time
	c  chan time.Time
}

func newFakeClock() *fakeClock { return &fakeClock{at: time.Unix(1_800_000_000, 0)} }

func (f *fakeClock) clock() clock {
	return clock{now: f.now, timer: f.timer}
}

func (f *fakeClock) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *fakeClock) timer(d time.Duration) (<-chan time.Time, func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := make(chan time.Time, 1)
	f.timers = append(f.timers, fakeTimer{f.at.Add(d), c})
	return c, func() bool { return true }
}

// advance moves the clock and fires what is due.
func (f *fakeClock) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = f.at.Add(d)
	var left []fakeTimer
	for _, x := range f.timers {
		if x.at.After(f.at) {
			left = append(left, x)
		} else {
			x.c <- f.at
		}
	}
	f.timers = left
}
