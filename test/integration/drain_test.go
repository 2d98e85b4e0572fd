package integration

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
)

// rawClient is an LDAP client that sees every message.
type rawClient struct {
	t    testing.TB
	conn net.Conn
	next int64
}

// dialMessages connects a raw client.
func dialMessages(t testing.TB, uri string) *rawClient {
	t.Helper()
	return &rawClient{t: t, conn: dialRaw(t, uri, "")}
}

// send sends an operation and returns its message ID.
func (c *rawClient) send(op *ber.Packet) (id int64, err error) {
	c.next++
	_, err = c.conn.Write(ldapMessage(c.next, op).Bytes())
	return c.next, err
}

// ldapMessage is an operation with its message ID.
func ldapMessage(id int64, op *ber.Packet) *ber.Packet {
	m := ber.NewSequence("")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	m.AppendChild(op)
	return m
}

// message is a response.
type message struct {
	id   int64
	tag  ber.Tag // of the operation
	code int64   // of a result; -1: not one
	oid  string  // of an extended response
}

// receive reads the next message.
func (c *rawClient) receive() (message, error) {
	p, err := ber.ReadPacket(c.conn)
	if err != nil {
		return message{}, err
	}
	m := message{tag: p.Children[1].Tag, code: -1}
	m.id, _ = p.Children[0].Value.(int64)
	for i, part := range p.Children[1].Children {
		if i == 0 && part.Tag == ber.TagEnumerated {
			m.code, _ = part.Value.(int64)
		}
		if part.ClassType == ber.ClassContext && part.Tag == 10 {
			m.oid = part.Data.String()
		}
	}
	return m, nil
}

// call sends an operation and demands success.
func (c *rawClient) call(op *ber.Packet) {
	c.t.Helper()
	id, err := c.send(op)
	if err != nil {
		c.t.Fatal(err)
	}
	for {
		m, err := c.receive()
		if err != nil {
			c.t.Fatal(err)
		}
		if m.id == id && m.code >= 0 {
			if m.code != 0 {
				c.t.Fatalf("operation %d: code %d", id, m.code)
			}
			return
		}
	}
}

// The operations of raw clients.
func bindOp(dn, password string) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 0, nil, "")
	p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, 3, ""))
	p.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, dn, ""))
	p.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, password, ""))
	return p
}

func searchOp(base string) *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 3, nil, "")
	p.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, base, ""))
	for _, tag := range []ber.Tag{ber.TagEnumerated, ber.TagEnumerated, ber.TagInteger, ber.TagInteger} {
		p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, tag, 0, "")) // base scope, never deref, no limits
	}
	p.AppendChild(ber.NewBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, false, ""))
	p.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 7, "objectClass", ""))
	p.AppendChild(ber.NewSequence(""))
	return p
}

func whoOp() *ber.Packet {
	p := ber.Encode(ber.ClassApplication, ber.TypeConstructed, 23, nil, "")
	p.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, "1.3.6.1.4.1.4203.1.11.3", ""))
	return p
}

// notice reports whether m is a Notice of Disconnection that says unavailable (RFC 4511 4.4.1).
func (m message) notice() bool {
	return m.id == 0 && m.tag == 24 && m.oid == "1.3.6.1.4.1.1466.20036" && m.code == 52
}

// stoppedInTime waits for the end of appbind after SIGTERM.
func stoppedInTime(t testing.TB, a *appbind) {
	t.Helper()
	select {
	case <-a.done:
		if a.err != nil {
			t.Errorf("appbind ended with %v", a.err)
		}
	case <-time.After(10 * time.Second):
		t.Error("appbind did not end within ten seconds")
	}
}

// TestDrain: operations that are under way at SIGTERM are answered, then every
// client gets a Notice of Disconnection, and appbind ends.
func TestDrain(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	const clients, each = 8, 5
	var searching []*rawClient
	for range clients {
		c := dialMessages(t, a.uri())
		c.call(bindOp(mailDN, mailPW))
		searching = append(searching, c)
	}
	binding := []*rawClient{dialMessages(t, a.uri()), dialMessages(t, a.uri())}
	idle := dialMessages(t, a.uri())
	idle.call(bindOp(userDN("alice"), phone.Password))

	// The directory is paused, so that all of this is under way.
	s.signal(syscall.SIGSTOP)
	for i, password := range []string{"alice-main", phone.Password} {
		if _, err := binding[i].send(bindOp(userDN("alice"), password)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range searching {
		for range each {
			if _, err := c.send(searchOp(userDN("alice"))); err != nil {
				t.Fatal(err)
			}
		}
		c.call(whoOp()) // answered by appbind: it has read the searches before it
	}
	a.signal(syscall.SIGTERM)
	if m, err := idle.receive(); err != nil || !m.notice() {
		t.Errorf("an idle client gets %+v, %v", m, err)
	}
	s.signal(syscall.SIGCONT)

	for i, c := range searching {
		answered, m, err := untilNotice(c)
		if err != nil || !m.notice() || answered != each {
			t.Errorf("client %d: %d of %d searches answered, then %+v, %v", i, answered, each, m, err)
		}
	}
	for i, c := range binding {
		answered, m, err := untilNotice(c)
		if err != nil || !m.notice() || answered != 1 {
			t.Errorf("binding client %d: %d binds answered, then %+v, %v", i, answered, m, err)
		}
	}
	stoppedInTime(t, a)
}

// untilNotice counts results, which must be successes, until a notice or an error.
func untilNotice(c *rawClient) (answered int, last message, err error) {
	for {
		m, err := c.receive()
		if err != nil || m.id == 0 || m.code > 0 {
			return answered, m, err
		}
		if m.code == 0 {
			answered++
		}
	}
}

// TestStopUnderLoad: SIGTERM while clients send without a pause. Each operation
// gets its answer or the connection ends with a Notice of Disconnection, never with less.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))
	var done atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		c := dialMessages(t, a.uri())
		c.call(bindOp(mailDN, mailPW))
		wg.Go(func() {
			for n := 0; ; n++ {
				op := searchOp(userDN("alice"))
				if i%2 == 0 && n%2 == 0 {
					op = bindOp(userDN("alice"), phone.Password)
				}
				_, _ = c.send(op) // where it fails, the notice has come before
				m, err := c.receive()
				for err == nil && m.id != 0 && m.code < 0 {
					m, err = c.receive()
				}
				switch {
				case err != nil:
					t.Errorf("client %d: ended without a notice: %v", i, err)
					return
				case m.notice():
					return
				case m.code != 0:
					t.Errorf("client %d: code %d", i, m.code)
					return
				}
				done.Add(1)
			}
		})
	}
	eventually(t, "clients are at work", func() bool { return done.Load() > 500 })
	a.signal(syscall.SIGTERM)
	stoppedInTime(t, a)
	wg.Wait()
}
