package embedded

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/wire"
)

// dial is a raw connection to an address, with a deadline.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fixture) dial(t *testing.T) net.Conn {
	t.Helper()
	return dial(t, f.gate.listener.Addr().String())
}

// rootSearch is a search of the root DSE.
var rootSearch = wire.AppendMessage(nil, 7, wire.OpSearchRequest,
	[]byte("\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00\x87\x0bobjectClass\x30\x00"), nil)

// answer is the next message.
func answer(t *testing.T, r *wire.Reader) wire.Message {
	t.Helper()
	m, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// gldap closes the connection on an Abandon; the gate keeps it away.
func TestAbandonIsHarmless(t *testing.T) {
	t.Parallel()
	c := demo(t).dial(t)
	abandon := wire.AppendMessage(nil, 6, wire.OpAbandonRequest, []byte{5}, nil)
	if _, err := c.Write(append(abandon, rootSearch...)); err != nil {
		t.Fatal(err)
	}
	r := wire.NewReader(c, 1<<20)
	if m := answer(t, r); m.ID != 7 || m.Op != wire.OpSearchResultEntry {
		t.Errorf("got %d %x", m.ID, m.Op)
	}
	if m := answer(t, r); m.ID != 7 || m.Op != wire.OpSearchResultDone {
		t.Errorf("got %d %x", m.ID, m.Op)
	}
}

// A message over the limit, or none at all, ends its connection and no other.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	f := demo(t)
	other := f.admin(t)
	for name, data := range map[string]string{
		"too large": "\x30\x84\x00\x04\x00\x00\x02\x01\x01",
		"no LDAP":   "GET / HTTP/1.0\r\n\r\n",
		"nonsense":  "\x30\x05\x02\x01\x01\x63\x00",
		"SASL bind": string(wire.AppendMessage(nil, 1, wire.OpBindRequest, []byte("\x02\x01\x03\x04\x00\xa3\x0a\x04\x08EXTERNAL"), nil)),
	} {
		c := f.dial(t)
		if _, err := io.WriteString(c, data); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", name, err)
		}
		one(t, other, aliceDN)
	}
}

// A client that half-closes after an Unbind gets what was asked before it.
func TestAnswersBeforeUnbind(t *testing.T) {
	t.Parallel()
	c := demo(t).dial(t)
	if _, err := c.Write(append(append([]byte{}, rootSearch...), wire.AppendMessage(nil, 8, wire.OpUnbindRequest, nil, nil)...)); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(all), "objectClass") {
		t.Errorf("%d bytes, %v", len(all), err)
	}
}

// gldap's accept loop ends for good at the first error; the gate starts another engine behind the same address.
func TestEngineRestart(t *testing.T) {
	t.Parallel()
	f := demo(t)
	old := f.admin(t)
	one(t, old, aliceDN)
	f.gate.mu.Lock()
	e := f.gate.engine
	f.gate.mu.Unlock()
	stopped := make(chan error, 1)
	go func() { stopped <- e.server.Stop() }()
	eventually(t, "a new engine", func() bool {
		f.gate.mu.Lock()
		defer f.gate.mu.Unlock()
		return f.gate.engine != e
	})
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	one(t, f.admin(t), aliceDN)
	if _, err := old.Search(ldap.NewSearchRequest(aliceDN, 0, 0, 0, 0, false, "(uid=*)", nil, nil)); err == nil {
		t.Error("a connection of the old engine still works")
	}
	if !strings.Contains(f.log.String(), "starts again") {
		t.Error("the restart is not logged")
	}
}

func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	f := demo(t)
	g := f.gate
	g.mu.Lock()
	for range 2 * maxConnections {
		c, _ := net.Pipe()
		g.conns[c] = struct{}{}
	}
	g.mu.Unlock()
	c := f.dial(t)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("one connection too many: %v", err)
	}
}

// Another program may hold a connection to gldap's own port: Close says so and does not wait for ever.
func TestStrangerAtThePrivatePort(t *testing.T) {
	t.Parallel()
	f := demo(t)
	c := dial(t, f.gate.engine.addr)
	if _, err := c.Write(rootSearch); err != nil {
		t.Fatal(err)
	}
	answer(t, wire.NewReader(c, 1<<20))
	f.Close()
	if !strings.Contains(f.log.String(), "another program holds a connection") {
		t.Errorf("log: %s", f.log)
	}
}

// A panic in a handler costs the request, not the process.
func TestPanicIsContained(t *testing.T) {
	t.Parallel()
	f := demo(t)
	c := f.admin(t)
	f.store.current.Store(&tree{}) // no suffix: nothing in the program makes such a tree
	_, err := c.Search(ldap.NewSearchRequest("", 0, 0, 0, 0, false, "(objectClass=*)", nil, nil))
	if codeOf(err) != 80 {
		t.Errorf("got %v, want 80", err)
	}
	if !strings.Contains(f.log.String(), "appbind: internal error") {
		t.Error("the panic is not logged")
	}
	if err := c.UnauthenticatedBind(""); err != nil {
		t.Errorf("the connection is gone: %v", err)
	}
}

// What gldap would close the connection for is refused, and the connection lives on.
func TestRefused(t *testing.T) {
	t.Parallel()
	f := demo(t)
	c := f.admin(t)
	if _, err := c.Compare(aliceDN, "uid", "alice"); err == nil {
		t.Error("compare succeeded")
	}
	if err := c.ModifyDN(ldap.NewModifyDNRequest(aliceDN, "uid=alicia", true, "")); err == nil {
		t.Error("modify DN succeeded")
	}
	one(t, c, aliceDN)

	raw := f.dial(t)
	r := wire.NewReader(raw, 1<<20)
	// An equality match on a description that is none; without the check it would be one on appPassword.
	item := "\xa3\x12\x04\x0dappPassword=x\x04\x01y"
	search := "\x04\x00\x0a\x01\x00\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00" + item + "\x30\x00"
	for i, m := range []wire.Message{
		{ID: 1, Op: wire.OpCompareRequest, Body: []byte("\x04\x00\x30\x06\x04\x02cn\x04\x00")},
		{ID: 2, Op: wire.OpModifyDNRequest, Body: []byte("\x04\x00\x04\x00\x01\x01\xff")},
		{ID: 3, Op: wire.OpSearchRequest, Body: []byte(search)},
	} {
		want := wire.OpExtendedResponse
		if m.Op == wire.OpSearchRequest {
			want = wire.OpSearchResultDone
		}
		if _, err := raw.Write(wire.AppendMessage(nil, m.ID, m.Op, m.Body, nil)); err != nil {
			t.Fatal(err)
		}
		got := answer(t, r)
		if got.ID != m.ID || got.Op != want || len(got.Body) < 3 || got.Body[2] != 53 {
			t.Errorf("%d: id %d op %x body %q, want %x and 53", i, got.ID, got.Op, got.Body, want)
		}
	}
}
