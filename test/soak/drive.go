package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"appbind/wire"
)

// reconnects is after how many binds, on average, a client takes a new connection.
const reconnects = 200

// driver sends the plan's binds and records what comes back.
type driver struct {
	plan   *plan
	dir    string
	addr   string
	conns  int
	began  time.Time
	sent   atomic.Int64 // binds answered
	faulty atomic.Bool  // a fault is under way
}

// run sends all binds.
func (d *driver) run() error {
	var wg sync.WaitGroup
	errs := make([]error, d.conns)
	for i := range d.conns {
		n := d.plan.Binds / d.conns
		if i < d.plan.Binds%d.conns {
			n++
		}
		wg.Go(func() { errs[i] = d.connection(i, n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// connection is one client, that sends a bind when the last one is answered.
func (d *driver) connection(index, binds int) (err error) {
	rec, err := newRecorder(d.dir, index)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.close()) }()
	c := &client{driver: d, dealer: newDealer(d.plan, index, d.conns, time.Now)}
	defer c.close()
	for range binds {
		r := c.dealer.next()
		a := c.bind(r)
		if err := rec.add(a); err != nil {
			return err
		}
		d.sent.Add(1)
		c.calm(a.Code == 51 || a.Code == 52 || a.Code == lost)
		if c.dealer.IntN(reconnects) == 0 {
			c.close()
		}
	}
	return nil
}

// client is one connection to appbind.
type client struct {
	driver *driver
	dealer *dealer
	conn   net.Conn
	reader *wire.Reader
	id     int32
	pause  time.Duration // after the last answer
}

// calm waits after trouble, longer each time in a row, and until the fault is over: not all of the load is to meet it.
func (c *client) calm(trouble bool) {
	if !trouble {
		c.pause = 0
		return
	}
	c.pause = min(2*c.pause+20*time.Millisecond, 300*time.Millisecond)
	tick := time.NewTicker(c.pause)
	defer tick.Stop()
	<-tick.C
	for c.driver.faulty.Load() {
		<-tick.C
	}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// bind sends one bind, and asks who it is then.
func (c *client) bind(r request) *answer {
	u := &c.driver.plan.Users[r.user]
	a := &answer{User: r.user, Form: r.form, Name: forms[r.form].write(u), Password: r.password, Share: r.share}
	a.Began = time.Since(c.driver.began)
	a.Code = c.simpleBind(a.Name, a.Password)
	a.Ended = time.Since(c.driver.began)
	if a.Code == lost {
		return a
	}
	if a.Code == 0 || c.dealer.IntN(8) == 0 {
		a.Asked = true
		a.Who, a.WhoCode = c.whoAmI()
	}
	if a.Code == 0 && a.WhoCode == 0 && c.dealer.IntN(8) == 0 {
		a.Searched = true
		a.Found, a.SearchCode = c.ownEntry(u.DN)
	}
	return a
}

// call sends a request and reads its final response; entries go to each. The code is lost where the connection ends.
func (c *client) call(op wire.Op, body []byte, each func(m wire.Message)) (wire.Result, int) {
	if err := c.connect(); err != nil {
		return wire.Result{}, lost
	}
	c.id++
	if _, err := c.conn.Write(wire.AppendMessage(nil, c.id, op, body, nil)); err != nil {
		c.close()
		return wire.Result{}, lost
	}
	for {
		m, err := c.reader.Next()
		if err != nil || m.ID != c.id { // a Notice of Disconnection has ID 0
			c.close()
			return wire.Result{}, lost
		}
		if m.Op != wire.ResponseTo(op) {
			each(m)
			continue
		}
		r, err := wire.DecodeResult(m.Body)
		if err != nil {
			c.close()
			return wire.Result{}, lost
		}
		return r, int(r.Code)
	}
}

func (c *client) connect() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", c.driver.addr, patience)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		return err
	}
	c.conn, c.reader, c.id = conn, wire.NewReader(conn, wire.MaxFromUpstream), 0
	return nil
}

func ignore(wire.Message) {}

func (c *client) simpleBind(name, password string) int {
	_, code := c.call(wire.OpBindRequest, wire.AppendSimpleBind(nil, name, []byte(password)), ignore)
	return code
}

// whoIs is the operation of RFC 4532.
const whoIs = "1.3.6.1.4.1.4203.1.11.3"

func (c *client) whoAmI() (string, int) {
	r, code := c.call(wire.OpExtendedRequest, wire.AppendExtended(nil, whoIs, nil), ignore)
	if code != 0 {
		return "", code
	}
	_, value, err := wire.ExtendedTail(r.Tail)
	if err != nil {
		return "", lost
	}
	return string(value), 0
}

// ownEntry searches the user's own entry: its DN and its number, as far as the client may read them.
func (c *client) ownEntry(dn string) (string, int) {
	var found []string
	search := wire.SearchRequest{Base: []byte(dn), Scope: wire.ScopeBase, Filter: []byte("\x87\x0bobjectClass"),
		Attributes: wire.AppendStrings(nil, "uid", "employeeNumber")}
	_, code := c.call(wire.OpSearchRequest, search.Append(nil), func(m wire.Message) {
		e, err := wire.DecodeEntry(m.Body)
		if m.Op != wire.OpSearchResultEntry || err != nil {
			return
		}
		number := ""
		_ = wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool { // what does not decode is not found
			if strings.EqualFold(string(a.Type), "employeeNumber") {
				_ = wire.EachString(a.Values, func(v []byte) bool { number += string(v); return true })
			}
			return true
		})
		found = append(found, string(e.DN)+"|"+number)
	})
	if code == 0 && len(found) != 1 {
		return fmt.Sprintf("%d entries", len(found)), 0
	}
	return strings.Join(found, ""), code
}

// answers reports whether an anonymous bind succeeds.
func answers(addr string) bool {
	c := &client{driver: &driver{addr: addr}}
	defer c.close()
	return c.simpleBind("", "") == 0
}
