package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"appbind/wire"
)

// attack is one way to be hostile: what a connection sends, at most attackTime long.
type attack struct {
	name string
	send func(r *rand.Rand, c net.Conn)
}

// attackTime is how long each attack goes on, attackers how many connections do the same at once.
const (
	attackTime = 400 * time.Millisecond
	attackers  = 64
)

// attacks are the hostile suite. Whatever a connection is answered, or when it is closed, is not looked at here.
var attacks = []attack{
	{"a length of 2 GiB, and nothing of it", once([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02, 0x01, 0x01})},
	{"a length of eight bytes", once([]byte{0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})},
	{"an indefinite length", once([]byte{0x30, 0x80, 0x02, 0x01, 0x01, 0x60, 0x80})},
	{"a message just below the limit, but for its end", once(bind(1, bytes.Repeat([]byte{'x'}, 255<<10))[:250<<10])},
	{"one byte at a time", trickle(bind(1, []byte("password")))},
	{"long names", repeat(bind(1, bytes.Repeat([]byte{'x'}, 200<<10)))},
	{"deep nesting", repeat(searchMessage(nested(0xa0, 20000)))},
	{"deep negation", repeat(searchMessage(nested(0xa2, 60)))},
	{"wide filters", repeat(searchMessage(wide(20000)))},
	{"many controls", repeat(controls(5000))},
	{"binds whose answers nobody reads", repeat(bytes.Repeat(bind(1, []byte("x")), 100))},
	{"root DSE searches whose answers nobody reads", repeat(bytes.Repeat(searchMessage([]byte("\x87\x0bobjectClass")), 100))},
	{"abandons", repeat(bytes.Repeat(wire.AppendMessage(nil, 7, wire.OpAbandonRequest, wire.AppendAbandon(nil, 5), nil), 1000))},
	{"unknown operations", repeat(wire.AppendMessage(nil, 1, wire.Op(0x7e), []byte("x"), nil))},
	{"noise", noise},
}

// once sends a message and leaves the connection open.
func once(message []byte) func(*rand.Rand, net.Conn) {
	return func(_ *rand.Rand, c net.Conn) {
		if _, err := c.Write(message); err == nil {
			_, _ = io.Copy(io.Discard, c) // until the deadline, or until it is closed
		}
	}
}

// repeat sends a message again and again, and reads nothing.
func repeat(message []byte) func(*rand.Rand, net.Conn) {
	return func(_ *rand.Rand, c net.Conn) {
		for {
			if _, err := c.Write(message); err != nil {
				return
			}
		}
	}
}

// trickle sends a message byte by byte.
func trickle(message []byte) func(*rand.Rand, net.Conn) {
	return func(_ *rand.Rand, c net.Conn) {
		for i := range message {
			if _, err := c.Write(message[i : i+1]); err != nil {
				return
			}
			<-time.After(5 * time.Millisecond)
		}
	}
}

// noise sends random bytes behind something that begins like a message.
func noise(r *rand.Rand, c net.Conn) {
	for {
		b := make([]byte, 4096)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		copy(b, []byte{0x30, 0x82, 0x0f, 0xfc, 0x02, 0x01, 0x01})
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// bind is a bind with a long name.
func bind(id int32, name []byte) []byte {
	return wire.AppendMessage(nil, id, wire.OpBindRequest, wire.AppendSimpleBind(nil, string(name), []byte("x")), nil)
}

func searchMessage(filter []byte) []byte {
	s := wire.SearchRequest{Scope: wire.ScopeBase, Filter: filter, Attributes: wire.AppendStrings(nil, "+", "*")}
	return wire.AppendMessage(nil, 1, wire.OpSearchRequest, s.Append(nil), nil)
}

// nested is a filter within a filter, so many times.
func nested(tag byte, depth int) []byte {
	f := []byte("\x87\x0bobjectClass")
	for range min(depth, 3000) { // the length of a length grows the whole quadratically
		f = wire.AppendElement(nil, tag, f)
	}
	return f
}

// wide is an or of so many filters.
func wide(n int) []byte {
	return wire.AppendElement(nil, 0xa1, bytes.Repeat([]byte("\x87\x02cn"), n))
}

// controls is a bind with many controls.
func controls(n int) []byte {
	var list []byte
	for range n {
		list = wire.AppendControl(list, "1.2.3.4.5.6", false, []byte("value"))
	}
	return wire.AppendMessage(nil, 1, wire.OpBindRequest, wire.AppendSimpleBind(nil, "cn=x", []byte("x")), list)
}

// beHostile runs one attack after the other against addr, each on many connections.
func beHostile(addr string, seed uint64, progress func(name string)) error {
	for n, a := range attacks {
		var wg sync.WaitGroup
		errs := make(chan error, attackers)
		for i := range attackers {
			wg.Go(func() {
				c, err := net.DialTimeout("tcp", addr, patience)
				if err != nil {
					errs <- err
					return
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(attackTime)); err != nil {
					errs <- err
					return
				}
				a.send(source(seed, "attack", n*attackers+i), c)
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return fmt.Errorf("%s: %w", a.name, err)
		default:
		}
		progress(a.name)
	}
	return nil
}
