package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// mischief answers searches late, out of order, twice, under the IDs of
// requests that are over, sometimes not at all, and now and then with an ID that
// was never used, which costs it the connection. Each answer carries the base of its request.
type mischief struct {
	held    chan asked
	dropped atomic.Int64
	lies    atomic.Int64

	mu   sync.Mutex // guards past
	past []answer   // given, to be given again much later
}

type answer struct {
	c *fakeldap.Conn
	b []byte
}

// again keeps an answer, and gives one that was given long ago once more.
func (x *mischief) again(c *fakeldap.Conn, b []byte) {
	x.mu.Lock()
	x.past = append(x.past, answer{c, b})
	var old answer
	if len(x.past) > 20 {
		old, x.past = x.past[0], x.past[1:]
	}
	x.mu.Unlock()
	if old.c != nil {
		x.lies.Add(1)
		old.c.Write(old.b)
	}
}

func (x *mischief) handle(dir *fakeldap.Directory) fakeldap.Handler {
	return func(c *fakeldap.Conn, m wire.Message) {
		if s, err := wire.DecodeSearch(m.Body); m.Op == wire.OpSearchRequest && err == nil && bytes.HasPrefix(s.Base, []byte("cn=")) {
			x.held <- asked{c, m}
			return
		}
		if m.Op != wire.OpAbandonRequest {
			dir.Handle(c, m)
		}
	}
}

// run answers in batches, shuffled, until held is closed.
func (x *mischief) run() {
	for first := range x.held {
		batch := []asked{first}
		for more := true; more && len(batch) < 32; {
			select {
			case a, ok := <-x.held:
				if more = ok; ok {
					batch = append(batch, a)
				}
			default:
				more = false
			}
		}
		rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		for _, a := range batch {
			x.answer(a)
		}
	}
}

func (x *mischief) answer(a asked) {
	s, err := wire.DecodeSearch(a.m.Body)
	if err != nil {
		return
	}
	right := fakeldap.EntryMessage(a.m.ID, string(s.Base), "uid", "x")
	right = wire.AppendResult(right, a.m.ID, wire.OpSearchResultDone, wire.ResultSuccess, "")
	switch n := rand.IntN(20_000); {
	case n < 4: // not at all
		x.dropped.Add(1)
		return
	case n < 6: // an ID that was never used
		x.lies.Add(1)
		a.c.Entry(a.m.ID+1_000_000, "cn=lie", "uid", "x")
	case n < 200: // again, when a thousand others were answered
		x.again(a.c, right)
	case n < 400: // twice
		right = append(right, right...)
	case n < 800: // what is over is answered again, with somebody else's entry, behind this
		x.lies.Add(1)
		right = append(right, fakeldap.EntryMessage(a.m.ID, "cn=lie", "uid", "x")...)
	}
	a.c.Write(right)
}

// prober is one client of the run: it pipelines searches with a marker each and
// checks what comes back.
type prober struct {
	number           int
	c                *client
	open             map[int32]bool // requests under way; true: their entry has come
	abandoned        map[int32]bool
	answered, failed int
}

func (p *prober) marker(id int32) string { return fmt.Sprintf("cn=c%d-r%d", p.number, id) }

// run sends n searches, at most window under way.
func (p *prober) run(n, window int) error {
	p.open, p.abandoned = map[int32]bool{}, map[int32]bool{}
	id := int32(1)
	for sent := 0; sent < n || len(p.open) > 0; {
		var out []byte
		for sent < n && len(p.open) < window {
			id++
			sent++
			s := wire.SearchRequest{Base: []byte(p.marker(id)), Filter: anyEntry}
			out = wire.AppendMessage(out, id, wire.OpSearchRequest, s.Append(nil), nil)
			p.open[id] = false
			if rand.IntN(100) == 0 {
				id++
				out = wire.AppendMessage(out, id, wire.OpAbandonRequest, wire.AppendAbandon(nil, id-1), nil)
				delete(p.open, id-1)
				p.abandoned[id-1] = true
			}
		}
		if len(out) > 0 {
			_ = p.c.nc.SetDeadline(time.Now().Add(3 * patience))
			p.c.write(out)
		}
		if len(p.open) == 0 {
			continue
		}
		m, err := p.c.r.Next()
		if err != nil {
			return fmt.Errorf("client %d: %w with %d open", p.number, err, len(p.open))
		}
		if err := p.take(m); err != nil {
			return err
		}
	}
	return nil
}

// take checks one message.
func (p *prober) take(m wire.Message) error {
	seen, open := p.open[m.ID]
	if !open && !p.abandoned[m.ID] {
		return fmt.Errorf("client %d: message %d %#x, which it did not ask for", p.number, m.ID, m.Op)
	}
	switch m.Op {
	case wire.OpSearchResultEntry:
		e, err := wire.DecodeEntry(m.Body)
		if err != nil || string(e.DN) != p.marker(m.ID) {
			return fmt.Errorf("client %d: misdelivered: %q as the answer to %q", p.number, e.DN, p.marker(m.ID))
		}
		if open && seen {
			return fmt.Errorf("client %d: request %d has two entries", p.number, m.ID)
		}
		if open {
			p.open[m.ID] = true
		}
		return nil
	case wire.OpSearchResultDone:
		r, err := wire.DecodeResult(m.Body)
		switch {
		case err != nil:
			return err
		case !open:
		case r.Code == wire.ResultSuccess && seen:
			p.answered++
		case r.Code == wire.ResultUnavailable:
			p.failed++
		default:
			return fmt.Errorf("client %d: request %d: result %d, entry %v", p.number, m.ID, r.Code, seen)
		}
		delete(p.open, m.ID)
		return nil
	}
	return errors.New("unexpected operation")
}

// TestNothingIsMisdelivered: searches of clients that share links, abandons and timeouts between them, against
// a server that misbehaves in every way that can be told from the truth. APPBIND_TEST_SEARCHES=1000000 has it
// do a million.
func TestNothingIsMisdelivered(t *testing.T) {
	const clients = 50
	total := 40_000
	if n := os.Getenv("APPBIND_TEST_SEARCHES"); n != "" {
		var err error
		if total, err = strconv.Atoi(n); err != nil {
			t.Fatal(err)
		}
	}
	x := &mischief{held: make(chan asked, 10_000)}
	r := newRigOn(t, fakeldap.Options{Unrecorded: true}, func(cfg *config.Config) {
		cfg.Upstream.OperationTimeout = config.Duration(time.Second)
		cfg.Upstream.ServiceLinks = 2
	})
	r.up.SetHandler(x.handle(r.dir))
	var answering sync.WaitGroup
	for range 3 {
		answering.Go(x.run)
	}
	t.Cleanup(func() { // before the rig's own
		close(x.held)
		answering.Wait()
	})
	probers := make([]*prober, clients)
	for i := range probers {
		probers[i] = &prober{number: i, c: r.service()}
	}
	begun := time.Now()
	var wg sync.WaitGroup
	for _, p := range probers {
		wg.Go(func() {
			if err := p.run(total/clients, 24); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	answered, failed := 0, 0
	for _, p := range probers {
		answered, failed = answered+p.answered, failed+p.failed
		p.c.nc.Close()
	}
	t.Logf("%d answered, %d unavailable, %d lies, %d never answered, %d connections in all, %v",
		answered, failed, x.lies.Load(), x.dropped.Load(), r.up.Accepted(), time.Since(begun).Round(time.Millisecond))
	if answered < total*9/10 {
		t.Errorf("%d of %d answered", answered, total)
	}
}
