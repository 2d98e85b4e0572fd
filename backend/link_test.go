package backend

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// plainLink is an anonymous link to a fake, with no service identity in between.
func plainLink(t *testing.T, s *fakeldap.Server, change ...func(*config.Config)) (*Upstream, *Link) {
	t.Helper()
	cfg := testConfig(urlOf(s))
	cfg.Upstream.BindDN = ""
	for _, c := range change {
		c(cfg)
	}
	u := upstream(t, cfg)
	l, err := u.AnonymousLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return u, l
}

// onSearch answers searches of the root DSE well and runs script for the others.
func onSearch(script fakeldap.Handler) fakeldap.Handler {
	return func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpSearchRequest && !isRootDSE(m) && base(m) != people {
			script(c, m)
			return
		}
		if m.Op == wire.OpSearchRequest && base(m) == people {
			c.Entry(m.ID, people)
		}
		c.Answer(m, 0)
	}
}

func base(m wire.Message) string {
	s, _ := wire.DecodeSearch(m.Body)
	return string(s.Base)
}

// searchFor is the body of a base search.
func searchFor(dn string) []byte {
	return (&wire.SearchRequest{Base: []byte(dn), Filter: presentObjectClass}).Append(nil)
}

func TestForwardEveryOperation(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 0) }})
	_, l := plainLink(t, s)
	for op, body := range map[wire.Op][]byte{
		wire.OpSearchRequest:   searchFor("dc=x"),
		wire.OpModifyRequest:   {4, 1, 'x', 0x30, 0},
		wire.OpAddRequest:      {4, 1, 'x', 0x30, 0},
		wire.OpDelRequest:      []byte("dc=x"),
		wire.OpModifyDNRequest: {4, 1, 'x', 4, 1, 'y', 1, 1, 0},
		wire.OpCompareRequest:  {4, 1, 'x', 0x30, 6, 4, 1, 'a', 4, 1, 'b'},
		wire.OpExtendedRequest: wire.AppendExtended(nil, "1.2.3", nil),
	} {
		m, err := wire.Parse(wire.AppendMessage(nil, 77, op, body, []byte{}))
		if err != nil {
			t.Fatal(err)
		}
		r := newRecorder()
		if _, err := l.Forward(m, r, true); err != nil {
			t.Fatalf("op %#x: %v", byte(op), err)
		}
		if o := r.next(t); !o.final || o.op != wire.ResponseTo(op) {
			t.Errorf("op %#x: heard %+v", byte(op), o)
		}
		got := s.Received(op)
		if last := got[len(got)-1]; string(last.Body) != string(body) || last.Controls == nil {
			t.Errorf("op %#x arrived as %x", byte(op), last.Raw)
		}
	}
	for _, op := range []wire.Op{wire.OpUnbindRequest, wire.OpAbandonRequest, wire.OpBindResponse, 0x7f} {
		if _, err := l.Send(op, nil, nil, newRecorder(), false); !errors.Is(err, ErrNotSent) {
			t.Errorf("op %#x was sent: %v", byte(op), err)
		}
	}
}

// What a server says that is no answer loses the link; every sink hears so once.
func TestHostileResponses(t *testing.T) {
	for name, script := range map[string]func(c *fakeldap.Conn, m wire.Message){
		"id never used":   func(c *fakeldap.Conn, m wire.Message) { c.Result(m.ID+100, wire.OpSearchResultDone, 0, "") },
		"greatest id":     func(c *fakeldap.Conn, _ wire.Message) { c.Result(math.MaxInt32, wire.OpSearchResultDone, 0, "") },
		"id 0, no notice": func(c *fakeldap.Conn, _ wire.Message) { c.Result(0, wire.OpSearchResultDone, 0, "") },
		"other operation": func(c *fakeldap.Conn, m wire.Message) { c.Result(m.ID, wire.OpCompareResponse, 6, "") },
		"a request":       func(c *fakeldap.Conn, m wire.Message) { c.Write(m.Raw) },
		"notice":          func(c *fakeldap.Conn, _ wire.Message) { c.Write(wire.AppendNotice(nil, 52, "going down")) },
		"garbage":         func(c *fakeldap.Conn, _ wire.Message) { c.Write([]byte("\x00\x01\x02")) },
		"bad entry":       func(c *fakeldap.Conn, m wire.Message) { c.Write([]byte{0x30, 6, 2, 1, byte(m.ID), 0x64, 1, 4}) },
		"giant declared":  func(c *fakeldap.Conn, _ wire.Message) { c.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2}) },
		"ends in a message": func(c *fakeldap.Conn, m wire.Message) {
			c.Write(fakeldap.EntryMessage(m.ID, "dc=x")[:7])
			c.CloseWrite()
		},
		"ends":   func(c *fakeldap.Conn, _ wire.Message) { c.CloseWrite() },
		"resets": func(c *fakeldap.Conn, _ wire.Message) { c.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			arrived := make(chan struct{})
			s := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) {
				if base(m) == "dc=second" {
					close(arrived)
					<-arrived
					script(c, m)
				}
			})})
			_, l := plainLink(t, s)
			first, second := newRecorder(), newRecorder()
			if _, err := l.Send(wire.OpSearchRequest, searchFor("dc=first"), nil, first, false); err != nil {
				t.Fatal(err)
			}
			// The loss may be faster than the return of Send: then the caller hears it, and the sink does not.
			_, err := l.Send(wire.OpSearchRequest, searchFor("dc=second"), nil, second, false)
			if err == nil {
				err = second.next(t).lost
			}
			unavailable(t, err)
			if errors.Is(err, ErrNotSent) {
				t.Errorf("%v, but it was sent", err)
			}
			unavailable(t, first.next(t).lost)
			isDone(t, l)
			l.Close()
			first.quiet(t)
			second.quiet(t)
			if _, err := l.Send(wire.OpSearchRequest, searchFor("dc=x"), nil, first, false); !errors.Is(err, ErrNotSent) {
				t.Errorf("a lost link still sends: %v", err)
			}
		})
	}
}

// An answer to a request that was given up reaches nobody, however late and often it comes.
func TestAbandonLateAnswers(t *testing.T) {
	release := make(chan struct{})
	var late wire.Message
	s := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) {
		if base(m) == "dc=slow" {
			late = m
			return
		}
		<-release
		for range 3 {
			c.Entry(late.ID, "dc=slow")
			c.Result(late.ID, wire.OpSearchResultDone, 0, "late")
		}
		c.Answer(m, 5)
	})})
	u, l := plainLink(t, s)
	slow, next := newRecorder(), newRecorder()
	id, err := l.Send(wire.OpSearchRequest, searchFor("dc=slow"), nil, slow, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Abandon(id)
	l.Abandon(id)
	l.Abandon(4711)
	if _, err := l.Send(wire.OpSearchRequest, searchFor("dc=next"), nil, next, false); err != nil {
		t.Fatal(err)
	}
	close(release)
	if o := next.next(t); o.code != 5 || !o.final {
		t.Errorf("next heard %+v", o)
	}
	slow.quiet(t)
	next.quiet(t)
	abandons := s.Received(wire.OpAbandonRequest)
	if len(abandons) != 1 {
		t.Fatalf("%d abandons", len(abandons))
	}
	if target, err := wire.DecodeAbandon(abandons[0].Body); err != nil || target != id {
		t.Errorf("abandoned %d, %v; want %d", target, err, id)
	}
	if l.Outstanding() != 0 {
		t.Errorf("%d outstanding", l.Outstanding())
	}
	_ = u
}

// Samba answers an unsupported critical control with an ExtendedResponse, whatever was asked.
func TestExtendedResponseEndsRequest(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) {
		c.Write(wire.AppendMessage(nil, m.ID, wire.OpIntermediateResponse, nil, nil))
		c.Write(wire.AppendMessage(nil, m.ID, wire.OpSearchResultReference, wire.AppendStrings(nil, "ldap://evil/"), nil))
		c.Result(m.ID, wire.OpExtendedResponse, 12, "")
	})})
	_, l := plainLink(t, s)
	r := newRecorder()
	if _, err := l.Send(wire.OpSearchRequest, searchFor("dc=x"), nil, r, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []outcome{{op: wire.OpIntermediateResponse}, {op: wire.OpSearchResultReference},
		{op: wire.OpExtendedResponse, code: 12, final: true}} {
		if got := r.next(t); got != want {
			t.Errorf("heard %+v, want %+v", got, want)
		}
	}
}

// Many requests on few links, answered out of order, in pieces and twice: each hears its own.
func TestNoMisdelivery(t *testing.T) {
	const links, requests = 4, 2500
	shuffled := newShuffler()
	s := fake(t, fakeldap.Options{Handler: onSearch(shuffled.handle)})
	u, _ := plainLink(t, s)
	var wg sync.WaitGroup
	for range links {
		l, err := u.BindLink(testContext(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		wg.Add(1)
		go func() {
			defer wg.Done()
			pump(t, l, requests)
		}()
	}
	wg.Wait()
}

// pump sends requests, abandons some, and checks that each answer is the right one.
func pump(t *testing.T, l *Link, requests int) {
	room := make(chan struct{}, 200)
	var wg sync.WaitGroup
	for i := range requests {
		room <- struct{}{}
		dn := fmt.Sprintf("cn=%d", i)
		r := newRecorder()
		r.onMsg = func(m wire.Message) {
			if m.Op != wire.OpSearchResultEntry {
				return
			}
			if e, err := wire.DecodeEntry(m.Body); err != nil || string(e.DN) != dn {
				t.Errorf("%s got the entry %s, %v", dn, e.DN, err)
			}
		}
		id, err := l.Send(wire.OpSearchRequest, searchFor(dn), nil, r, false)
		if err != nil {
			t.Error(err)
			return
		}
		if i%7 == 0 {
			l.Abandon(id)
			<-room
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() { <-room }()
			if entry, done := r.next(t), r.next(t); entry.final || !done.final {
				t.Errorf("%s heard %+v, %+v", dn, entry, done)
			}
		}()
	}
	wg.Wait()
}

// shuffler answers searches some messages later, in random order, sometimes twice.
type shuffler struct {
	mu      sync.Mutex
	waiting map[*fakeldap.Conn][]wire.Message
}

func newShuffler() *shuffler { return &shuffler{waiting: map[*fakeldap.Conn][]wire.Message{}} }

func (s *shuffler) handle(c *fakeldap.Conn, m wire.Message) {
	s.mu.Lock()
	list := append(s.waiting[c], m)
	var answer []wire.Message
	if last := base(m) == "cn=2499"; last || len(list) > 60 {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		keep := len(list) / 2
		if last {
			keep = 0
		}
		list, answer = list[:keep], list[keep:]
	}
	s.waiting[c] = list
	s.mu.Unlock()
	for _, m := range answer {
		b := append(fakeldap.EntryMessage(m.ID, base(m)), wire.AppendResult(nil, m.ID, wire.OpSearchResultDone, 0, "")...)
		if m.ID%5 == 0 {
			b = append(b, b...)
		}
		half := len(b) / 2
		c.Write(b[:half])
		c.Write(b[half:])
	}
}

// A sink that panics costs its link; the others go on, and every sink hears Lost.
func TestPanicInSink(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) {
		if base(m) == "dc=panic" {
			c.Entry(m.ID, "dc=panic")
		}
	})})
	u, l := plainLink(t, s)
	other, err := u.AnonymousLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	innocent, bad := newRecorder(), newRecorder()
	bad.onMsg = func(wire.Message) { panic("secret in the panic") }
	for dn, r := range map[string]*recorder{"dc=innocent": innocent, "dc=panic": bad} {
		if _, err := l.Send(wire.OpSearchRequest, searchFor(dn), nil, r, false); err != nil && dn == "dc=panic" {
			t.Fatal(err)
		}
	}
	unavailable(t, bad.next(t).lost)
	isDone(t, l)
	r := newRecorder()
	if _, err := other.Send(wire.OpDelRequest, []byte("dc=x"), nil, r, false); err != nil {
		t.Fatal(err)
	}
	if o := r.next(t); !o.final {
		t.Errorf("the other link heard %+v", o)
	}
}

// A watched request is given up after operation_timeout of silence; one that is answered bit by bit is not.
func TestOperationTimeout(t *testing.T) {
	conns := make(chan *fakeldap.Conn, 1)
	s := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) {
		if base(m) == "dc=watched" {
			conns <- c
		}
	})})
	clk := newFakeClock()
	cfg := testConfig(urlOf(s))
	cfg.Upstream.BindDN = ""
	cfg.Upstream.OperationTimeout = config.Duration(8 * time.Second) // 8 rounds of 1 s
	u := upstream(t, cfg, func(u *Upstream) { u.clock = clk.clock() })
	l, err := u.AnonymousLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	watched, unwatched := newRecorder(), newRecorder()
	unwatchedID, err := l.Send(wire.OpSearchRequest, searchFor("dc=unwatched"), nil, unwatched, false)
	if err != nil {
		t.Fatal(err)
	}
	id, err := l.Send(wire.OpSearchRequest, searchFor("dc=watched"), nil, watched, true)
	if err != nil {
		t.Fatal(err)
	}
	c := <-conns
	for range 8 {
		u.takeCare(clk.now())
	}
	c.Entry(id, "dc=bit")
	watched.next(t)
	for range 8 {
		u.takeCare(clk.now())
	}
	watched.quiet(t)
	u.takeCare(clk.now())
	unavailable(t, watched.next(t).lost)
	c.Answer(wire.Message{ID: id, Op: wire.OpSearchRequest}, 0)
	u.takeCare(clk.now())
	watched.quiet(t)
	unwatched.quiet(t)
	l.Abandon(unwatchedID)
	u.Release(l)
	isDone(t, l) // not to be used by anyone else
}

// While a sink holds the reader up, the silence is ours.
func TestOperationTimeoutNotWhileDelivering(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: onSearch(func(c *fakeldap.Conn, m wire.Message) { c.Entry(m.ID, "dc=x") })})
	u, l := plainLink(t, s, func(c *config.Config) { c.Upstream.OperationTimeout = config.Duration(time.Hour) })
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRecorder()
	r.onMsg = func(wire.Message) {
		close(entered)
		<-leave
	}
	if _, err := l.Send(wire.OpSearchRequest, searchFor("dc=x"), nil, r, true); err != nil {
		t.Fatal(err)
	}
	<-entered
	l.expire(1<<40, 1)
	close(leave)
	if o := r.next(t); o.lost != nil {
		t.Errorf("given up while we were slow: %v", o.lost)
	}
	_ = u
}

// A server that reads nothing blocks its own link only, and not for ever.
func TestCloseWithoutReader(t *testing.T) {
	hold := make(chan struct{})
	s := fake(t, fakeldap.Options{Handler: onSearch(func(*fakeldap.Conn, wire.Message) { <-hold })})
	u, l := plainLink(t, s)
	defer close(hold)
	r := newRecorder()
	big := strings.Repeat("x", 1<<20)
	sent := make(chan error)
	go func() {
		for {
			if _, err := l.Send(wire.OpSearchRequest, searchFor("dc="+big), nil, r, false); err != nil {
				sent <- err
				return
			}
		}
	}()
	s.WaitReceived(wire.OpSearchRequest, 3)
	other, err := u.AnonymousLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	l.Close()
	select {
	case err := <-sent:
		unavailable(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("Send still blocks after Close")
	}
}

func TestPendingIDs(t *testing.T) {
	p := pending{byID: map[int32]*request{}}
	r := newRecorder()
	if id := p.add(request{sink: r}); id != 1 {
		t.Errorf("first ID %d", id)
	}
	if p.used(2) || !p.used(1) {
		t.Error("used IDs are not those given")
	}
	p.last = math.MaxInt32 - 1
	if id := p.add(request{sink: r}); id != math.MaxInt32 {
		t.Errorf("ID %d, want the greatest", id)
	}
	if id := p.add(request{sink: r}); id != 2 {
		t.Errorf("ID %d after the greatest, want 2, since 1 is outstanding", id)
	}
	if p.remove(1) == nil || p.remove(1) != nil {
		t.Error("remove does not remove once")
	}
	if !p.used(1) || !p.used(1000) {
		t.Error("after a wrap every ID was used")
	}
}

func BenchmarkSend(b *testing.B) {
	s, err := fakeldap.Start(fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 0) }})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	cfg := testConfig(urlOf(s))
	u, err := New(cfg, (&logBuffer{}).logger())
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	l, err := u.AnonymousLink(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	m, err := wire.Parse(wire.AppendMessage(nil, 5, wire.OpSearchRequest, searchFor("dc=x"), nil))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	done := make(chan struct{})
	sink := signalSink(done)
	for b.Loop() {
		if _, err := l.Forward(m, sink, true); err != nil {
			b.Fatal(err)
		}
		<-done
	}
}

type signalSink chan struct{}

func (s signalSink) Deliver(wire.Message, bool, bool) { s <- struct{}{} }
func (s signalSink) Lost(error)                       {}
