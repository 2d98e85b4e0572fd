package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"appbind/wire"
)

// step is one request and the answer that it must get.
type step struct {
	op      wire.Op
	body    []byte
	code    int32
	entries int // search entries before the result
}

// bindStep is a simple bind that must end with code.
func bindStep(dn, password string, code int32) step {
	return step{op: wire.OpBindRequest, body: wire.AppendSimpleBind(nil, dn, []byte(password)), code: code}
}

// searchStep is a search below base for what has this value, all user
// attributes of it, that must find so many entries.
func searchStep(base, attribute, value string, entries int) step {
	equal := wire.AppendStrings(nil, attribute, value)
	s := wire.SearchRequest{Base: []byte(base), Scope: wire.ScopeWhole, Filter: wire.AppendElement(nil, filterEqual, equal)}
	return step{op: wire.OpSearchRequest, body: s.Append(nil), entries: entries}
}

// filterEqual is the tag of an equalityMatch (RFC 4511 4.5.1).
const filterEqual = 0xa3

// load is what one run sends.
type load struct {
	conns int
	depth int   // requests of one connection that wait for an answer at one time; 0 is 1
	login *step // sent first on each connection, not measured
	// steps are sent again and again; each connection walks through a part of
	// its own. group of them belong together, in this order; 0 is 1.
	steps []step
	group int
	// fresh makes a request that was never sent, instead of steps.
	fresh func() step
	once  bool // each step is sent once, and the load ends then
	tls   bool
}

// at is the n-th request of a connection; false: there is no more.
func (l *load) at(conn, n int) (step, bool) {
	if l.fresh != nil {
		return l.fresh(), true
	}
	group := max(l.group, 1)
	groups := len(l.steps) / group
	i := conn + n/group*l.conns
	if l.once && i >= groups {
		return step{}, false
	}
	return l.steps[i%groups*group+n%group], true
}

// sample is what one run gave.
type sample struct {
	Rate     float64       // operations answered each second
	P50, P99 time.Duration // from the first byte sent to the last received
	CPU      float64       // microseconds of the process under test for each operation
	Ops      int64
}

// control is what the connections of a run share.
type control struct {
	load      *load
	addr      string
	recording atomic.Bool
	done      atomic.Bool
	deadline  time.Time
	ready     sync.WaitGroup // connected and logged in
	begin     chan struct{}
}

// warmUp goes before each timed run.
const warmUp = 300 * time.Millisecond

// patience bounds a run beyond its time: a server that does not answer fails it.
const patience = 60 * time.Second

// measure runs a load against a server and reads the CPU time of the process.
// A load that is sent once is measured whole, any other one for the given time.
func (l *load) measure(addr string, p *process, d time.Duration) (sample, error) {
	c := &control{load: l, addr: addr, deadline: time.Now().Add(d + patience), begin: make(chan struct{})}
	clients := make([]*client, l.conns)
	errs := make([]error, l.conns)
	var wg sync.WaitGroup
	c.ready.Add(l.conns)
	for i := range clients {
		clients[i] = &client{control: c, index: i}
		wg.Go(func() { errs[i] = clients[i].run() })
	}
	c.ready.Wait()
	c.recording.Store(l.once)
	from, before := time.Now(), p.cpu()
	close(c.begin)
	if !l.once {
		<-time.After(warmUp)
		from, before = time.Now(), p.cpu()
		c.recording.Store(true)
		<-time.After(d)
		c.recording.Store(false)
	}
	took, used := time.Since(from), p.cpu()-before
	c.done.Store(!l.once)
	wg.Wait()
	if l.once {
		took, used = time.Since(from), p.cpu()-before
	}
	all := &histogram{}
	for i, cl := range clients {
		if errs[i] != nil {
			return sample{}, fmt.Errorf("connection %d: %w", i, errs[i])
		}
		all.merge(&cl.latency)
	}
	if all.count == 0 {
		return sample{}, fmt.Errorf("nothing was answered within %v", took)
	}
	return sample{Rate: float64(all.count) / took.Seconds(), P50: all.quantile(0.5), P99: all.quantile(0.99),
		CPU: float64(used.Microseconds()) / float64(all.count), Ops: all.count}, nil
}

// prime sends every step once.
func (l *load) prime(addr string, p *process) error {
	if l.fresh != nil {
		return nil
	}
	once := *l
	once.once = true
	_, err := once.measure(addr, p, 0)
	return err
}

// client is one connection of a run.
type client struct {
	*control
	index   int
	conn    net.Conn
	reader  *wire.Reader
	out     []byte
	flights []flight
	latency histogram
}

// flight is one request under way.
type flight struct {
	id      int32 // 0: none
	step    step
	sent    time.Time
	entries int
}

// run connects, logs in and sends until the end of the run.
func (c *client) run() error {
	err := c.open()
	c.ready.Done()
	if c.conn != nil {
		defer c.conn.Close()
	}
	if err != nil {
		return err
	}
	<-c.begin
	return c.drive()
}

// open connects and logs in.
func (c *client) open() error {
	conn, err := net.DialTimeout("tcp", c.addr, patience)
	if err != nil {
		return err
	}
	c.conn = conn
	if c.load.tls {
		c.conn = tls.Client(wire.Carrier(conn), anyCertificate)
	}
	c.reader = wire.NewReader(c.conn, wire.MaxFromUpstream)
	c.flights = make([]flight, max(c.load.depth, 1))
	if err := conn.SetDeadline(c.deadline); err != nil {
		return err
	}
	if t, ok := c.conn.(*tls.Conn); ok {
		if err := t.HandshakeContext(context.Background()); err != nil {
			return err
		}
	}
	if c.load.login == nil {
		return nil
	}
	c.send(0, *c.load.login)
	if err := c.write(); err != nil {
		return err
	}
	_, err = c.receive()
	return err
}

// drive keeps as many requests under way as the load wants, until its end.
func (c *client) drive() error {
	n, open := 0, 0
	next := func(slot int) {
		if c.done.Load() {
			return
		}
		if s, more := c.load.at(c.index, n); more {
			c.send(slot, s)
			n, open = n+1, open+1
		}
	}
	for slot := range c.flights {
		next(slot)
	}
	for open > 0 {
		if err := c.write(); err != nil {
			return err
		}
		slot, err := c.receive()
		if err != nil {
			return err
		}
		open--
		if c.recording.Load() {
			c.latency.add(time.Since(c.flights[slot].sent))
		}
		next(slot)
	}
	return nil
}

// send puts a request into a slot and into what is written next. The message
// ID tells the slot: slots have numbers of their own.
func (c *client) send(slot int, s step) {
	f := &c.flights[slot]
	if f.id == 0 {
		f.id = int32(slot) + 1
	}
	f.id += int32(len(c.flights))
	f.step, f.sent, f.entries = s, time.Now(), 0
	c.out = wire.AppendMessage(c.out, f.id, s.op, s.body, nil)
}

// write writes what was sent.
func (c *client) write() error {
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// receive reads until a request has its final answer, and tells its slot.
func (c *client) receive() (int, error) {
	for {
		m, err := c.reader.Next()
		if err != nil {
			return 0, err
		}
		slot := (int(m.ID) - 1) % len(c.flights)
		if m.ID < 1 || c.flights[slot].id != m.ID {
			return 0, fmt.Errorf("an answer (operation %#x) with message ID %d, which is not under way", byte(m.Op), m.ID)
		}
		f := &c.flights[slot]
		if m.Op == wire.OpSearchResultEntry && f.step.op == wire.OpSearchRequest {
			f.entries++
			continue
		}
		return slot, f.check(m)
	}
}

// check holds a final answer against what it must be.
func (f *flight) check(m wire.Message) error {
	if m.Op != wire.ResponseTo(f.step.op) {
		return fmt.Errorf("request %#x was answered with operation %#x", byte(f.step.op), byte(m.Op))
	}
	r, err := wire.DecodeResult(m.Body)
	switch {
	case err != nil:
		return err
	case r.Code != f.step.code:
		return fmt.Errorf("request %#x %.60q: result %d %q, want %d", byte(f.step.op), printable(f.step.body), r.Code, r.Diagnostic, f.step.code)
	case f.entries != f.step.entries:
		return fmt.Errorf("search %.60q: %d entries, want %d", printable(f.step.body), f.entries, f.step.entries)
	}
	return nil
}

// printable is the DN that a body begins with, for a message: never the
// password behind it.
func printable(body []byte) []byte {
	if _, _, rest, err := wire.Element(body); err == nil && len(body) > 0 && body[0] == wire.TagInteger {
		body = rest
	}
	if _, dn, _, err := wire.Element(body); err == nil {
		return bytes.Clone(dn)
	}
	return nil
}
