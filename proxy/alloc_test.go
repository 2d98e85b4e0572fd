//go:build !race

package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/secrets"
	"appbind/wire"
)

// tape is a directory that allocates nothing: what it was asked once it answers from memory,
// the first time as the server behind it does.
type tape struct {
	l  net.Listener
	to string
	wg sync.WaitGroup

	mu    sync.Mutex // guards known
	known map[string][]wire.Message
}

func newTape(tb testing.TB, to string) *tape {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	t := &tape{l: l, to: to, known: map[string][]wire.Message{}}
	t.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.wg.Go(func() { t.serve(c) })
		}
	})
	return t
}

func (t *tape) close() {
	t.l.Close()
	t.wg.Wait()
}

// serve answers on one connection; an error ends it, and the test fails for want of an answer.
func (t *tape) serve(c net.Conn) {
	defer c.Close()
	behind, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", t.to)
	if err != nil {
		return
	}
	defer behind.Close()
	r, answers, w := wire.NewReader(c, wire.MaxFromUpstream), wire.NewReader(behind, wire.MaxFromUpstream), wire.NewWriter(c, 1<<20, 0)
	for {
		m, err := r.Next()
		if err != nil {
			return
		}
		t.mu.Lock()
		list, found := t.known[string(m.Body)]
		t.mu.Unlock()
		if !found {
			if list, err = record(behind, answers, m); err != nil {
				return
			}
			t.mu.Lock()
			t.known[string(m.Body)] = list
			t.mu.Unlock()
		}
		if w.Write(func(dst []byte) []byte { return appendAll(dst, list, m.ID) }) != nil {
			return
		}
	}
}

// record has a request answered by the server behind.
func record(c net.Conn, r *wire.Reader, m wire.Message) (list []wire.Message, err error) {
	if _, err := c.Write(m.Raw); err != nil {
		return nil, err
	}
	for {
		a, err := r.Next()
		if err != nil {
			return nil, err
		}
		if a, err = wire.Parse(append([]byte(nil), a.Raw...)); err != nil {
			return nil, err
		}
		if list = append(list, a); a.Op == wire.ResponseTo(m.Op) {
			return list, nil
		}
	}
}

func appendAll(dst []byte, list []wire.Message, id int32) []byte {
	for _, m := range list {
		dst = m.AppendTo(dst, id)
	}
	return dst
}

// exchange is a request and what is expected of its result.
type exchange struct {
	frame []byte
	code  int32
}

const carolUser = "uid=carol,ou=people,dc=example,dc=org"

// hotClient is a client that allocates nothing, of a server that logs at its default level and has a tape behind it.
type hotClient struct {
	tb testing.TB
	s  *Server
	nc net.Conn
	r  *wire.Reader
}

// newHotClient makes one; replica: users are held in memory.
func newHotClient(tb testing.TB, replica bool) *hotClient {
	r := &rig{dir: fakeldap.NewDirectory()}
	r.fill()
	for _, dn := range []string{aliceUser, bobUser} {
		r.dir.Remove(dn)
	}
	r.dir.Add(bobUser, "bob-main-password", "objectClass", "inetOrgPerson", "uid", "bob", "mail", "bob@example.org", "modifyTimestamp", "20260101000000Z")
	r.dir.Add(carolUser, "carol-main-password", "objectClass", "inetOrgPerson", "uid", "carol", "cn", "Carol", "mail", "carol@example.org",
		"appPassword", phoneValue(), "entryUUID", "0f8a3c6e-9a44-4b0e-8d2c-0123456789ab", "modifyTimestamp", "20260101000000Z")
	up, err := fakeldap.Start(fakeldap.Options{Handler: r.dir.Handle, Unrecorded: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(up.Close)
	t := newTape(tb, up.Addr())
	tb.Cleanup(t.close)
	r.up = up
	cfg := r.config(func(cfg *config.Config) {
		if replica { // which asks other things all the time; its binds ask nothing
			cfg.AppPasswords.Lookup = "replica"
			return
		}
		cfg.Upstream.URLs = []config.URL{{Scheme: "ldap", Address: t.l.Addr().String(), Host: "127.0.0.1"}}
	})
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	u, err := backend.New(cfg, log)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(u.Close)
	u.Start(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if i := u.Replica(ctx); i.Current != replica {
		tb.Fatalf("replica: %+v", i)
	}
	s := New(Core{Config: cfg, Verifier: auth.New(cfg, u, auth.NewMemory(time.Now), log), Upstream: u}, log)
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	return dialHot(tb, s)
}

func dialHot(tb testing.TB, s *Server) *hotClient {
	nc, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", s.Addrs()[0].String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(10 * patience)); err != nil {
		tb.Fatal(err)
	}
	return &hotClient{tb: tb, s: s, nc: nc, r: wire.NewReader(nc, wire.MaxFromUpstream)}
}

// ready brings it to where the work k begins, and has it do k once. Another client is logged in as the
// service account all the while, as the other connections of a mail server are.
func (c *hotClient) ready(k *hotWork) {
	other := exchange{bindRequest(1, serviceDN, servicePW), 0}
	dialHot(c.tb, c.s).do(&other)
	if k.login != nil {
		c.do(k.login)
	}
	c.do(&k.x)
}

// do sends a request and reads up to its result.
func (c *hotClient) do(x *exchange) {
	if _, err := c.nc.Write(x.frame); err != nil {
		c.tb.Fatal(err)
	}
	for {
		m, err := c.r.Next()
		if err != nil {
			c.tb.Fatal(err)
		}
		if m.Op != wire.OpBindResponse && m.Op != wire.OpSearchResultDone {
			continue
		}
		if res, err := wire.DecodeResult(m.Body); err != nil || res.Code != x.code {
			c.tb.Fatalf("result %d, want %d, %v", res.Code, x.code, err)
		}
		return
	}
}

// hotWork is what mail servers have appbind do all day, from the client's bytes to the client's answer, and what it allocates at most.
type hotWork struct {
	name    string
	login   *exchange // before; nil: none
	x       exchange
	most    float64
	replica bool
}

func hotWorks(tb testing.TB) []hotWork {
	revoked, err := secrets.Generate(nil)
	if err != nil {
		tb.Fatal(err)
	}
	bind := func(dn, password string, code int32) exchange { return exchange{bindRequest(5, dn, password), code} }
	uid := append([]byte{0xa3, 10, 4, 3, 'u', 'i', 'd', 4, 3}, "bob"...)   // (uid=bob), who has no app password
	own := append([]byte{0xa3, 12, 4, 3, 'u', 'i', 'd', 4, 5}, "carol"...) // (uid=carol)
	people := "ou=people,dc=example,dc=org"
	service, carol := bind(serviceDN, servicePW, 0), bind(carolUser, phonePW, 0)
	return []hotWork{
		{name: "app password", x: carol, most: 29},
		{name: "app password that was revoked", x: bind(carolUser, revoked.Password, 49), most: 30},
		{name: "main password", x: bind(carolUser, "carol-main-password", 0), most: 36},
		{name: "main password, known bad", x: bind(carolUser, "wrong", 49), most: 29},
		{name: "service account", x: service, most: 15},
		{name: "search", login: &service, x: exchange{searchRequest(6, people, wire.ScopeWhole, uid), 0}, most: 2},
		{name: "app password, replica", x: carol, most: 10, replica: true},
		{name: "app password that was revoked, replica", x: bind(carolUser, revoked.Password, 49), most: 10, replica: true},
		{name: "search of the own entry", login: &carol, x: exchange{searchRequest(6, people, wire.ScopeWhole, own), 0}, most: 33},
	}
}

func BenchmarkHot(b *testing.B) {
	for _, k := range hotWorks(b) {
		b.Run(k.name, func(b *testing.B) {
			c := newHotClient(b, k.replica)
			c.ready(&k)
			b.ReportAllocs()
			for b.Loop() {
				c.do(&k.x)
			}
		})
	}
}

// TestHotAllocations pins what each of them costs, sockets included.
func TestHotAllocations(t *testing.T) {
	for _, k := range hotWorks(t) {
		c := newHotClient(t, k.replica)
		c.ready(&k)
		for range 100 {
			c.do(&k.x)
		}
		n := testing.AllocsPerRun(2000, func() { c.do(&k.x) })
		if n > k.most {
			t.Errorf("%s: %v allocations, at most %v", k.name, n, k.most)
		}
	}
}
