package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// patience bounds every wait of these tests; none comes near it when all is well.
const patience = 10 * time.Second

const (
	serviceDN = "cn=dovecot,dc=example,dc=org"
	readerDN  = "cn=appbind,dc=example,dc=org"
	adminDN   = "cn=admin,dc=example,dc=org"
	aliceUser = "uid=alice,ou=people,dc=example,dc=org"
	bobUser   = "uid=bob,ou=people,dc=example,dc=org"

	servicePW = "service-password"
	alicePW   = "alice-main-password"
	phonePW   = "phone-app-password"
)

// phoneValue is phonePW as a stored app password.
func phoneValue() string {
	salt := []byte("12345678")
	sum := sha256.Sum256(append([]byte(phonePW), salt...))
	return "$app$phone${SSHA256}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...))
}

// logBuffer is a log that tests read.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// rig is a server between a fake directory and test clients.
type rig struct {
	t        *testing.T
	dir      *fakeldap.Directory
	up       *fakeldap.Server
	cfg      *config.Config
	log      *logBuffer
	mem      *auth.Memory
	server   *Server
	upstream []*backend.Upstream
	baseline int // goroutines
	// descriptors are those open before; what the runtime opens once is among them.
	descriptors int
	closing     sync.WaitGroup
}

// newRig starts a server. change changes its configuration before.
func newRig(t *testing.T, change ...func(cfg *config.Config)) *rig {
	t.Helper()
	return newRigOn(t, fakeldap.Options{}, change...)
}

// newRigOn is newRig on a fake with options of its own.
func newRigOn(t *testing.T, o fakeldap.Options, change ...func(cfg *config.Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: fakeldap.NewDirectory(), log: &logBuffer{}, mem: auth.NewMemory(time.Now), baseline: runtime.NumGoroutine(), descriptors: descriptors(t)}
	r.fill()
	var err error
	o.Handler = r.dir.Handle
	if r.up, err = fakeldap.Start(o); err != nil {
		t.Fatal(err)
	}
	r.cfg = r.config(change...)
	r.server = New(r.core(r.cfg), r.logger())
	r.server.recheck, r.server.rest = 50*time.Millisecond, 10*time.Millisecond
	if err := r.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func (r *rig) fill() {
	r.dir.Add("dc=example,dc=org", "", "objectClass", "domain")
	r.dir.Add("ou=people,dc=example,dc=org", "", "objectClass", "organizationalUnit")
	r.dir.Add(serviceDN, servicePW, "objectClass", "person")
	r.dir.Add(readerDN, "reader-password", "objectClass", "person")
	r.dir.Add(adminDN, "admin-password", "objectClass", "person")
	r.dir.Add(aliceUser, alicePW, "objectClass", "inetOrgPerson", "uid", "alice", "cn", "Alice", "mail", "alice@example.org",
		"appPassword", phoneValue())
	r.dir.Add(bobUser, "bob-main-password", "objectClass", "inetOrgPerson", "uid", "bob", "mail", "bob@example.org")
}

// config is a configuration with one listener on a free port.
func (r *rig) config(change ...func(cfg *config.Config)) *config.Config {
	cfg := config.Default()
	cfg.Listeners = []config.Listener{r.listener()}
	cfg.Upstream.URLs = []config.URL{{Scheme: "ldap", Address: r.up.Addr(), Host: "127.0.0.1"}}
	cfg.Upstream.BindDN, cfg.Upstream.BindPassword = readerDN, "reader-password"
	cfg.Users.Bases = []string{"ou=people,dc=example,dc=org"}
	cfg.Users.EnabledFilter = "none"
	cfg.ServiceAccounts = []string{serviceDN}
	cfg.Passthrough = []string{adminDN}
	for _, f := range change {
		f(cfg)
	}
	return cfg
}

// listener is a listener on a free port of 127.0.0.1.
func (r *rig) listener() config.Listener {
	l := config.DefaultListener()
	l.URL = config.URL{Scheme: "ldap", Address: "127.0.0.1:0", Host: "127.0.0.1"}
	return l
}

// core builds the core of a configuration.
func (r *rig) core(cfg *config.Config) Core {
	u, err := backend.New(cfg, r.logger())
	if err != nil {
		r.t.Fatal(err)
	}
	u.Start(context.Background())
	r.upstream = append(r.upstream, u)
	return Core{Config: cfg, Verifier: auth.New(cfg, u, r.mem, r.logger()), Upstream: u}
}

// closeOld closes the first upstream, which ends when the clients have left its links.
func (r *rig) closeOld() {
	old := r.upstream[0]
	r.upstream = r.upstream[1:]
	r.closing.Go(old.Close)
}

func (r *rig) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// close ends everything and looks for what was left behind.
func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if !eventually(func() bool { return clientCount(r.server) == 0 }) { // the test's clients have closed their ends
		r.t.Error("clients are still there")
	}
	_ = r.server.Shutdown(ctx) // tests that care shut down themselves
	for _, u := range r.upstream {
		u.Close()
	}
	r.closing.Wait()
	r.up.Close()
	if !eventually(func() bool { return runtime.NumGoroutine() <= r.baseline }) {
		buf := make([]byte, 1<<20)
		r.t.Errorf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), r.baseline, buf[:runtime.Stack(buf, true)])
	}
	if !eventually(func() bool { return descriptors(r.t) <= r.descriptors }) {
		r.t.Errorf("%d descriptors, %d before", descriptors(r.t), r.descriptors)
	}
	if r.t.Failed() {
		r.t.Logf("log:\n%s", r.log)
	}
}

// descriptors counts those that are open.
func descriptors(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the runtime opens its poller's with the first socket
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// eventually polls ok within patience.
func eventually(ok func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if ok() {
			return true
		}
	}
	return ok()
}

// served is the one client that the server has.
func (r *rig) served() *conn {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	for c := range r.server.clients {
		return c
	}
	r.t.Fatal("no client")
	return nil
}

// client is a raw client.
type client struct {
	t  *testing.T
	nc net.Conn
	r  *wire.Reader
}

// dial connects to the first listener.
func (r *rig) dial() *client { return r.dialTo(r.server.Addrs()[0]) }

func (r *rig) dialTo(a net.Addr) *client {
	r.t.Helper()
	nc, err := net.Dial(a.Network(), a.String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	return newClient(r.t, nc)
}

func newClient(t *testing.T, nc net.Conn) *client {
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, nc: nc, r: wire.NewReader(nc, wire.MaxFromUpstream)}
}

// write sends bytes; errors show at the next read.
func (c *client) write(b ...[]byte) { _, _ = c.nc.Write(bytes.Join(b, nil)) }

// read returns the next message.
func (c *client) read() wire.Message {
	c.t.Helper()
	m, err := c.r.Next()
	if err != nil {
		c.t.Fatalf("no message: %v", err)
	}
	return m
}

// result reads one message, which must be the result op of request id.
func (c *client) result(id int32, op wire.Op) wire.Result {
	c.t.Helper()
	m := c.read()
	if m.ID != id || m.Op != op {
		c.t.Fatalf("message %d %#x, want %d %#x", m.ID, m.Op, id, op)
	}
	res, err := wire.DecodeResult(m.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res
}

// want is result with a demanded code.
func (c *client) want(id int32, op wire.Op, code int32) {
	c.t.Helper()
	if res := c.result(id, op); res.Code != code {
		c.t.Fatalf("result %d (%s), want %d", res.Code, res.Diagnostic, code)
	}
}

// wantNotice reads up to a Notice of Disconnection and the end behind it.
func (c *client) wantNotice(code int32) {
	c.t.Helper()
	m := c.read()
	for m.ID != 0 {
		m = c.read()
	}
	res, err := wire.DecodeResult(m.Body)
	if err != nil || m.Op != wire.OpExtendedResponse || res.Code != code {
		c.t.Fatalf("notice %d (%s) %v, want %d", res.Code, res.Diagnostic, err, code)
	}
	c.wantEnd()
}

// wantEnd demands that the server ends the connection without another word.
func (c *client) wantEnd() {
	c.t.Helper()
	m, err := c.r.Next()
	if err == nil {
		c.t.Fatalf("message %d %#x instead of the end", m.ID, m.Op)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the connection was not closed")
	}
	if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		c.t.Fatalf("end: %v", err)
	}
}

// bind binds and demands a code.
func (c *client) bind(id int32, dn, password string, code int32) {
	c.t.Helper()
	c.write(bindRequest(id, dn, password))
	c.want(id, wire.OpBindResponse, code)
}

// whoAmI asks who the client is.
func (c *client) whoAmI(id int32) string {
	c.t.Helper()
	c.write(extendedRequest(id, oidWhoAmI, nil))
	res := c.result(id, wire.OpExtendedResponse)
	_, value, err := wire.ExtendedTail(res.Tail)
	if err != nil || res.Code != wire.ResultSuccess || value == nil {
		c.t.Fatalf("who am i: result %d, %v", res.Code, err)
	}
	return string(value)
}

// search runs a search and returns the DNs of the entries and the result's code.
func (c *client) search(id int32, base string, scope int, filter []byte) ([]string, int32) {
	c.t.Helper()
	c.write(searchRequest(id, base, scope, filter))
	var dns []string
	for {
		m := c.read()
		if m.ID != id {
			c.t.Fatalf("message %d, want %d", m.ID, id)
		}
		if m.Op == wire.OpSearchResultDone {
			res, err := wire.DecodeResult(m.Body)
			if err != nil {
				c.t.Fatal(err)
			}
			return dns, res.Code
		}
		e, err := wire.DecodeEntry(m.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		dns = append(dns, string(e.DN))
	}
}

func bindRequest(id int32, dn, password string) []byte {
	return wire.AppendMessage(nil, id, wire.OpBindRequest, wire.AppendSimpleBind(nil, dn, []byte(password)), nil)
}

func extendedRequest(id int32, name string, value []byte) []byte {
	return wire.AppendMessage(nil, id, wire.OpExtendedRequest, wire.AppendExtended(nil, name, value), nil)
}

// present is the filter (name=*).
func present(name string) []byte { return append([]byte{0x87, byte(len(name))}, name...) }

var anyEntry = present("objectClass")

func searchRequest(id int32, base string, scope int, filter []byte, controls ...byte) []byte {
	s := wire.SearchRequest{Base: []byte(base), Scope: scope, Filter: filter}
	if controls == nil {
		return wire.AppendMessage(nil, id, wire.OpSearchRequest, s.Append(nil), nil)
	}
	return wire.AppendMessage(nil, id, wire.OpSearchRequest, s.Append(nil), controls)
}

func deleteRequest(id int32, dn string) []byte {
	return wire.AppendMessage(nil, id, wire.OpDelRequest, []byte(dn), nil)
}

func abandonRequest(id, target int32) []byte {
	return wire.AppendMessage(nil, id, wire.OpAbandonRequest, wire.AppendAbandon(nil, target), nil)
}

// bindMessage is a bind of any version, with controls.
func bindMessage(id int32, version byte, dn, password string, controls []byte) []byte {
	body := wire.AppendSimpleBind(nil, dn, []byte(password))
	body[2] = version
	return wire.AppendMessage(nil, id, wire.OpBindRequest, body, controls)
}

func saslBind(id int32, mechanism string, credentials string) []byte {
	sasl := append([]byte{0x04, byte(len(mechanism))}, mechanism...)
	if credentials != "" {
		sasl = append(append(sasl, 0x04, byte(len(credentials))), credentials...)
	}
	body := append([]byte{0x02, 1, 3, 0x04, 0, 0xa3, byte(len(sasl))}, sasl...)
	return wire.AppendMessage(nil, id, wire.OpBindRequest, body, nil)
}
