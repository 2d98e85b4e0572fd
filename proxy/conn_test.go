package proxy

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// short makes the deadlines of a connection short enough to be seen, and long
// enough for what must be done in time on a busy machine.
func short(cfg *config.Config) {
	cfg.Limits.FirstMessage = config.Duration(500 * time.Millisecond)
	cfg.Limits.MessageTime = config.Duration(500 * time.Millisecond)
	cfg.Limits.Idle = config.Duration(600 * time.Millisecond)
	cfg.Limits.WriteStall = config.Duration(300 * time.Millisecond)
	cfg.Limits.Handshake = config.Duration(500 * time.Millisecond)
}

// badFrames are messages that are no valid request.
var badFrames = map[string][]byte{
	"not a sequence":         []byte("GET / HTTP/1.1\r\n\r\n"),
	"indefinite length":      {0x30, 0x80, 0x02, 1, 1, 0x42, 0, 0, 0},
	"length of 5 octets":     {0x30, 0x85, 0, 0, 0, 0, 5, 0x02, 1, 1, 0x42, 0},
	"over the limit":         {0x30, 0x84, 0x00, 0x04, 0x00, 0x01},
	"huge length":            {0x30, 0x84, 0xff, 0xff, 0xff, 0xff},
	"empty sequence":         {0x30, 0},
	"no operation":           {0x30, 3, 0x02, 1, 1},
	"message ID 0":           wire.AppendMessage(nil, 0, wire.OpDelRequest, []byte("dc=x"), nil),
	"message ID negative":    {0x30, 6, 0x02, 1, 0xff, 0x4a, 1, 'x'},
	"message ID of 5 octets": {0x30, 10, 0x02, 5, 1, 0, 0, 0, 0, 0x4a, 1, 'x'},
	"unknown operation":      wire.AppendMessage(nil, 1, 0x7e, nil, nil),
	"a response":             wire.AppendResult(nil, 1, wire.OpSearchResultDone, 0, ""),
	"search without filter":  {0x30, 0x15, 0x02, 1, 1, 0x63, 0x10, 0x04, 0, 0x0a, 1, 0, 0x0a, 1, 0, 0x02, 1, 0, 0x02, 1, 0, 0x01, 1},
	"empty search":           wire.AppendMessage(nil, 1, wire.OpSearchRequest, nil, nil),
	"empty bind":             wire.AppendMessage(nil, 1, wire.OpBindRequest, nil, nil),
	"empty modify":           wire.AppendMessage(nil, 1, wire.OpModifyRequest, nil, nil),
	"deep filter":            searchRequest(1, "", 0, deepFilter(200)),
	"bad control":            wire.AppendMessage(nil, 1, wire.OpDelRequest, []byte("dc=x"), []byte{0x30, 2, 0x04, 0}),
	"bytes behind":           {0x30, 8, 0x02, 1, 1, 0x4a, 1, 'x', 0x05, 0},
}

func deepFilter(n int) []byte {
	f := present("x")
	for range n {
		f = wireNot(f)
	}
	return f
}

// wireNot is (!(f)).
func wireNot(f []byte) []byte {
	if len(f) < 0x80 {
		return append([]byte{0xa2, byte(len(f))}, f...)
	}
	return append([]byte{0xa2, 0x82, byte(len(f) >> 8), byte(len(f))}, f...)
}

func TestInvalidFramesEndTheClientOnly(t *testing.T) {
	r := newRig(t)
	innocent := r.dial()
	innocent.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	before := len(r.up.Frames())
	for name, frame := range badFrames {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			c.t = t
			c.write(frame)
			c.wantNotice(wire.ResultProtocolError)
		})
	}
	if got := r.up.Frames()[before:]; len(got) != 0 {
		t.Errorf("%d messages reached the upstream: %x", len(got), got[0].Message.Raw)
	}
	if dns, code := innocent.search(2, aliceUser, wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
		t.Errorf("innocent client: %v, %d", dns, code)
	}
}

func TestInvalidFramesAfterBind(t *testing.T) {
	r := newRig(t)
	for name, frame := range badFrames {
		if name == "over the limit" {
			continue // within the limit after a bind
		}
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			c.t = t
			c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
			before := len(r.up.Frames())
			c.write(bytes.Replace(frame, []byte{0x02, 1, 1}, []byte{0x02, 1, 2}, 1))
			c.wantNotice(wire.ResultProtocolError)
			for _, f := range r.up.Frames()[before:] {
				if f.Message.Op != wire.OpUnbindRequest {
					t.Errorf("reached the upstream: %x", f.Message.Raw)
				}
			}
		})
	}
}

func TestLimitRisesWithTheBindAndFallsWithTheNext(t *testing.T) {
	r := newRig(t)
	big := searchRequest(2, strings.Repeat("x", 300<<10), wire.ScopeBase, anyEntry)
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	c.write(big)
	c.want(2, wire.OpSearchResultDone, wire.ResultNoSuchObject)
	c.bind(3, serviceDN, "wrong", wire.ResultInvalidCredentials)
	c.write(big)
	c.wantNotice(wire.ResultProtocolError)
}

func TestHold(t *testing.T) {
	whole := bindRequest(1, serviceDN, servicePW)
	held := map[string]func(c *client){
		"nothing":           func(*client) {},
		"one byte":          func(c *client) { c.write(whole[:1]) },
		"all but one byte":  func(c *client) { c.write(whole[:len(whole)-1]) },
		"declared 200k":     func(c *client) { c.write([]byte{0x30, 0x83, 3, 0, 0, 0x02}) },
		"idle after a bind": func(c *client) { c.write(whole); c.want(1, wire.OpBindResponse, 0) },
		"part after a bind": func(c *client) { c.write(whole, []byte{0x30}); c.want(1, wire.OpBindResponse, 0) },
	}
	r := newRig(t, short)
	for name, hold := range held {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			c.t = t
			hold(c)
			c.wantEnd()
		})
	}
}

func TestTrickleIsNotKeptAlive(t *testing.T) {
	r := newRig(t, short)
	c := r.dial()
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for _, b := range bindRequest(1, strings.Repeat("x", 1000), "y") {
			select {
			case <-stop:
				return
			case <-tick.C:
				c.write([]byte{b})
			}
		}
	})
	c.wantEnd()
	close(stop)
	done.Wait()
}

func TestWaitingForAnAnswerIsNotIdle(t *testing.T) {
	r := newRig(t, short)
	release := make(chan struct{})
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if s, err := wire.DecodeSearch(m.Body); m.Op == wire.OpSearchRequest && err == nil && string(s.Base) == "cn=slow" {
			go func() { <-release; c.Answer(m, 0) }()
			return
		}
		r.dir.Handle(c, m)
	})
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	c.write(searchRequest(2, "cn=slow", wire.ScopeBase, anyEntry))
	timer := time.NewTimer(400 * time.Millisecond) // more than twice the idle limit
	defer timer.Stop()
	<-timer.C
	close(release)
	c.want(2, wire.OpSearchResultDone, wire.ResultSuccess)
}

// flood answers the search with base cn=flood with as many entries as the connection takes.
func (r *rig) flood(n int) fakeldap.Handler {
	return func(c *fakeldap.Conn, m wire.Message) {
		s, err := wire.DecodeSearch(m.Body)
		if m.Op != wire.OpSearchRequest || err != nil || string(s.Base) != "cn=flood" {
			r.dir.Handle(c, m)
			return
		}
		entry := fakeldap.EntryMessage(m.ID, "cn=entry", "cn", strings.Repeat("x", 32<<10))
		for range n {
			c.Write(entry)
		}
		c.Answer(m, 0)
	}
}

func TestClientThatDoesNotRead(t *testing.T) {
	r := newRig(t, short)
	r.up.SetHandler(r.flood(2000))
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	c.write(searchRequest(2, "cn=flood", wire.ScopeBase, anyEntry))
	if !eventually(func() bool { return clientCount(r.server) == 0 }) {
		t.Fatal("the client was not closed")
	}
	if !eventually(func() bool { return r.up.Open() <= 2 }) {
		t.Errorf("%d links are open", r.up.Open())
	}
	other := r.dial()
	other.bind(1, serviceDN, servicePW, wire.ResultSuccess)
}

func clientCount(s *Server) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.clients)
}

func TestAllEntriesOfAFloodArrive(t *testing.T) {
	r := newRig(t)
	r.up.SetHandler(r.flood(500))
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	if dns, code := c.search(2, "cn=flood", wire.ScopeBase, anyEntry); len(dns) != 500 || code != 0 {
		t.Fatalf("%d entries, code %d", len(dns), code)
	}
}

func TestPanicIsContained(t *testing.T) {
	r := newRig(t)
	innocent := r.dial()
	innocent.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	old := operations[wire.OpDelRequest]
	operations[wire.OpDelRequest].handle = func(*conn, wire.Message) (*refusal, error) {
		panic("appbind: internal error: as the test wants")
	}
	defer func() { operations[wire.OpDelRequest] = old }()
	c := r.dial()
	c.write(deleteRequest(1, "dc=x"))
	c.wantEnd()
	if n := r.server.Panics(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
	if !strings.Contains(r.log.String(), `msg="appbind: internal error"`) {
		t.Error("not in the log")
	}
	if got := innocent.whoAmI(2); got != "dn:"+serviceDN {
		t.Errorf("innocent client: %q", got)
	}
}

func TestPanicInASinkIsContained(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	sink := &request{c: r.served(), op: wire.OpSearchRequest} // without a writer
	sink.Deliver(wire.Message{Op: wire.OpSearchResultReference}, false, false)
	c.wantEnd()
	if n := r.server.Panics(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

func TestDuplicateMessageID(t *testing.T) {
	r := newRig(t)
	release := make(chan struct{})
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpDelRequest {
			go func() { <-release; c.Answer(m, wire.ResultSuccess) }()
			return
		}
		r.dir.Handle(c, m)
	})
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	c.write(deleteRequest(2, "dc=x"), searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
	c.want(2, wire.OpSearchResultDone, wire.ResultProtocolError)
	close(release)
	c.want(2, wire.OpDelResponse, wire.ResultSuccess)
	c.write(deleteRequest(2, "dc=x")) // free again
	c.want(2, wire.OpDelResponse, wire.ResultSuccess)
}

func TestReusedMessageID(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	for range 2000 {
		if dns, code := c.search(7, aliceUser, wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
			t.Fatalf("%v, %d", dns, code)
		}
	}
}

func TestOutstandingRequestsAreBounded(t *testing.T) {
	r := newRig(t)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op != wire.OpDelRequest {
			r.dir.Handle(c, m)
		}
	})
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	var all []byte
	for i := range int32(maxOutstanding + 1) {
		all = append(all, deleteRequest(10+i, "dc=x")...)
	}
	c.write(all)
	c.want(10+maxOutstanding, wire.OpDelResponse, wire.ResultBusy)
}

func TestHostileFloodLeavesInnocentsAlone(t *testing.T) {
	r := newRig(t)
	var hostile, innocents sync.WaitGroup
	stop := make(chan struct{})
	frames := make([][]byte, 0, len(badFrames))
	for _, f := range badFrames {
		frames = append(frames, f)
	}
	addr := r.server.Addrs()[0]
	for i := range 4 {
		hostile.Go(func() {
			for n := i; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				nc, err := net.Dial("tcp", addr.String())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = nc.Write(frames[n%len(frames)])
				nc.Close()
			}
		})
	}
	for range 4 {
		c := r.dial()
		innocents.Go(func() {
			for i := range int32(100) {
				c.write(bindRequest(3*i+1, serviceDN, servicePW), searchRequest(3*i+2, aliceUser, wire.ScopeBase, anyEntry))
				if m, err := c.r.Next(); err != nil || m.Op != wire.OpBindResponse {
					t.Errorf("bind: %#x %v", m.Op, err)
					return
				}
				for _, op := range []wire.Op{wire.OpSearchResultEntry, wire.OpSearchResultDone} {
					if m, err := c.r.Next(); err != nil || m.Op != op || m.ID != 3*i+2 {
						t.Errorf("search: %#x %v", m.Op, err)
						return
					}
				}
			}
		})
	}
	innocents.Wait()
	close(stop)
	hostile.Wait()
	if n := r.server.Panics(); n != 0 {
		t.Errorf("%d panics", n)
	}
}
