package backend

import (
	"context"
	"errors"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/wire"
)

const mailDN = "cn=mail,dc=example,dc=org"

// sharing is an upstream with the account mailDN, under a clock of the test's.
func sharing(t *testing.T, maxLinks int) (*Upstream, *fakeldap.Server, *fakeldap.Directory, *fakeClock) {
	t.Helper()
	d := directory()
	d.Add(mailDN, "mailpw", "objectClass", "person")
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.MaxLinks = maxLinks
	clock := newFakeClock()
	return upstream(t, cfg, func(u *Upstream) { u.clock = clock.clock() }), s, d, clock
}

// login binds as mailDN and joins its group.
func login(t *testing.T, u *Upstream) *Group {
	t.Helper()
	g := tryLogin(t, u)
	if g == nil {
		t.Fatal("not shared")
	}
	return g
}

func tryLogin(t *testing.T, u *Upstream) *Group {
	t.Helper()
	a, l, err := u.Bind(testContext(t, 5*time.Second), mailDN, auth.Password("mailpw"), nil)
	if err != nil || a.Code != 0 {
		t.Fatal(a, err)
	}
	g := u.Share(mailDN, auth.Password("mailpw"), l)
	if g == nil {
		l.Close()
	}
	return g
}

// ask runs a search over the group and returns the link it went over.
func ask(t *testing.T, g *Group) (*Link, error) {
	t.Helper()
	l, err := g.Pick(context.Background(), 5*time.Second)
	if err != nil {
		return nil, err
	}
	sink := newRecorder()
	if _, err := g.Send(l, wire.OpSearchRequest, searchFor(alice), nil, sink, true); err != nil {
		t.Fatal(err)
	}
	for o := sink.next(t); !o.final; o = sink.next(t) {
		if o.lost != nil {
			return nil, o.lost
		}
	}
	return l, nil
}

// bindsAs counts the binds with a name.
func bindsAs(s *fakeldap.Server, dn string) int {
	n := 0
	for _, m := range s.Received(wire.OpBindRequest) {
		if b, err := wire.DecodeBind(m.Body); err == nil && string(b.Name) == dn {
			n++
		}
	}
	return n
}

func TestGroupsTakeAFewLinks(t *testing.T) {
	u, s, _, _ := sharing(t, 20)
	var groups []*Group
	for range 50 {
		groups = append(groups, login(t, u))
	}
	if n := len(groups[0].links); n != 2 || u.shares.links != 2 {
		t.Errorf("%d links, %d counted, want service_links", n, u.shares.links)
	}
	for _, g := range groups {
		if g != groups[0] {
			t.Fatal("one password, two groups")
		}
	}
	a, l, err := u.Bind(testContext(t, 5*time.Second), alice, auth.Password("alicepw"), nil)
	if err != nil || a.Code != 0 {
		t.Fatal(err)
	}
	other := u.Share(alice, auth.Password("alicepw"), l)
	if other == nil || other == groups[0] {
		t.Fatal("accounts are not told apart")
	}
	other.Leave()
	if other = u.Share(mailDN, auth.Password("another"), l); other == groups[0] {
		t.Fatal("passwords are not told apart")
	}
	other.Leave()
	for _, g := range groups {
		if string(g.password) != "mailpw" {
			t.Fatal("the password went before the last client")
		}
		g.Leave()
	}
	if g := groups[0]; g.password != nil || len(g.links) != 0 || u.shares.groups[g.key] != nil {
		t.Errorf("left behind: %d links, %d groups", len(g.links), len(u.shares.groups))
	}
	if st := u.Stats().Servers[0]; st.Links["shared"] != 0 {
		t.Errorf("%+v", st)
	}
	if s.Accepted() > 6 {
		t.Errorf("%d connections", s.Accepted())
	}
}

func TestShareLeavesRoomForBinds(t *testing.T) {
	u, _, _, _ := sharing(t, 3) // two for lookups, one place
	if g := tryLogin(t, u); g != nil {
		t.Error("the only place was shared, and no bind could ever come")
	}
	u, _, _, _ = sharing(t, 4)
	g := login(t, u)
	tryLogin(t, u).Leave() // takes the other place, for its bind
	g.Leave()
}

func TestPickWaitsForRoom(t *testing.T) {
	d := directory()
	d.Add(mailDN, "mailpw", "objectClass", "person")
	s := fake(t, fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) {
		if m.Op != wire.OpCompareRequest {
			d.Handle(c, m)
		}
	}})
	u := upstream(t, testConfig(urlOf(s)))
	g := login(t, u)
	defer g.Leave()
	type placed struct {
		l  *Link
		id int32
	}
	var all []placed
	compare := wire.CompareRequest{DN: []byte(alice), Attribute: []byte("uid"), Value: []byte("x")}
	body := compare.Append(nil)
	for range 2 * maxShared {
		l, err := g.Pick(context.Background(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		id, err := g.Send(l, wire.OpCompareRequest, body, nil, newRecorder(), false)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, placed{l, id})
	}
	for _, p := range all {
		if n := p.l.Outstanding(); n > maxShared {
			t.Fatalf("%d outstanding", n)
		}
	}
	if _, err := g.Send(all[0].l, wire.OpCompareRequest, body, nil, newRecorder(), false); !errors.Is(err, ErrNotSent) {
		t.Errorf("over the limit: %v", err)
	}
	if _, err := g.Pick(context.Background(), time.Millisecond); !errors.Is(err, ErrNoRoom) {
		t.Errorf("no room: %v", err)
	}
	got := make(chan error)
	go func() {
		_, err := g.Pick(context.Background(), 5*time.Second)
		got <- err
	}()
	all[7].l.Abandon(all[7].id)
	if err := <-got; err != nil {
		t.Errorf("after room was made: %v", err)
	}
	for _, p := range all {
		p.l.Abandon(p.id)
	}
}

// TestSharedLinkIsNotSentOnAfterwards: whoever picked a link before it went back
// to the pool must not send over it: it may be bound as somebody else.
func TestSharedLinkIsNotSentOnAfterwards(t *testing.T) {
	u, _, _, _ := sharing(t, 20)
	g := login(t, u)
	l, err := g.Pick(context.Background(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	u.Distrust(mailDN, wire.ResultInvalidCredentials)
	a, again, err := u.Bind(testContext(t, 5*time.Second), alice, auth.Password("alicepw"), nil)
	if err != nil || a.Code != 0 || again != l {
		t.Fatalf("the link did not go back to the pool: %v", err)
	}
	if _, err := g.Send(l, wire.OpSearchRequest, searchFor(alice), nil, newRecorder(), true); !errors.Is(err, ErrNotSent) {
		t.Errorf("sent as somebody else: %v", err)
	}
	u.Release(again)
	g.Leave()
}

func TestSharedLinkIsBoundAnew(t *testing.T) {
	u, s, d, clock := sharing(t, 20)
	g := login(t, u)
	defer g.Leave()
	if _, err := ask(t, g); err != nil || bindsAs(s, mailDN) != 1 {
		t.Fatal(err, bindsAs(s, mailDN))
	}
	clock.advance(sharedLife)
	if _, err := ask(t, g); err != nil || bindsAs(s, mailDN) != 2 {
		t.Errorf("after its life: %v, %d binds", err, bindsAs(s, mailDN))
	}
	u.Distrust("CN=Mail, DC=example,DC=org", wire.ResultBusy) // says nothing on the password
	if _, err := ask(t, g); err != nil || bindsAs(s, mailDN) != 2 {
		t.Errorf("after trouble: %v, %d binds", err, bindsAs(s, mailDN))
	}
	u.Distrust("CN=Mail, DC=example,DC=org", wire.ResultInvalidCredentials)
	if _, err := ask(t, g); err != nil || bindsAs(s, mailDN) != 3 {
		t.Errorf("after a failed bind: %v, %d binds", err, bindsAs(s, mailDN))
	}
	// A changed password costs one failed bind, however often is asked.
	d.Add(mailDN, "changed", "objectClass", "person")
	clock.advance(sharedLife)
	for range 5 {
		if _, err := ask(t, g); !errors.Is(err, ErrRefused) {
			t.Errorf("with the old password: %v", err)
		}
	}
	if _, err := g.Private(context.Background()); !errors.Is(err, ErrRefused) || bindsAs(s, mailDN) != 4 || !g.Refused() {
		t.Errorf("%v, %d binds", err, bindsAs(s, mailDN))
	}
	d.Add(mailDN, "mailpw", "objectClass", "person")
	fresh := login(t, u)
	defer fresh.Leave()
	if _, err := ask(t, fresh); err != nil || fresh == g {
		t.Errorf("changed back: %v", err)
	}
}

func TestGroupAfterALostLink(t *testing.T) {
	u, s, _, _ := sharing(t, 20)
	g := login(t, u)
	defer g.Leave()
	l, err := ask(t, g)
	if err != nil {
		t.Fatal(err)
	}
	s.CloseConns()
	isDone(t, l)
	if again, err := ask(t, g); err != nil || again == l {
		t.Errorf("%v", err)
	}
	s.Pause()
	isDoneAll(t, g)
	if _, err := ask(t, g); !errors.Is(err, ErrUnavailable) || g.Refused() {
		t.Errorf("without a server: %v", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
}

// lostWatch is a sink that looks at its group when its link is lost.
type lostWatch struct {
	g     *Group
	links chan int
}

func (w lostWatch) Deliver(wire.Message, bool, bool) {}

func (w lostWatch) Lost(error) {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.links <- len(w.g.links)
}

// TestLostLinkTakesTheOthersToItsServer: who is told of the loss, and asks
// again, finds none of the links that may be about to follow.
func TestLostLinkTakesTheOthersToItsServer(t *testing.T) {
	d := directory()
	d.Add(mailDN, "mailpw", "objectClass", "person")
	on := make(chan *fakeldap.Conn, 1)
	s := fake(t, fakeldap.Options{Handler: func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpCompareRequest {
			on <- c
			return
		}
		d.Handle(c, m)
	}})
	u := upstream(t, testConfig(urlOf(s)))
	g, h := login(t, u), login(t, u)
	defer g.Leave()
	defer h.Leave()
	if st := u.Stats().Servers[0]; st.Links["shared"] != 2 || st.Links["client"] != 0 || len(g.links) != 2 {
		t.Fatalf("%+v", st)
	}
	l, err := g.Pick(context.Background(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	w := lostWatch{g, make(chan int, 1)}
	compare := wire.CompareRequest{DN: []byte(alice), Attribute: []byte("uid"), Value: []byte("x")}
	if _, err := g.Send(l, wire.OpCompareRequest, compare.Append(nil), nil, w, false); err != nil {
		t.Fatal(err)
	}
	(<-on).Close()
	if n := <-w.links; n != 0 {
		t.Errorf("%d links left", n)
	}
	if again, err := ask(t, g); err != nil || again == l {
		t.Errorf("%v", err)
	}
	until(t, "the links are counted", 5*time.Second, func() bool {
		st := u.Stats().Servers[0]
		return st.Links["shared"] == 1 && st.Links["client"] == 0
	})
}

// TestAnotherPasswordThatHolds has the groups with other ones prove theirs anew.
func TestAnotherPasswordThatHolds(t *testing.T) {
	u, s, d, _ := sharing(t, 20)
	old := login(t, u)
	defer old.Leave()
	d.Add(mailDN, "changed", "objectClass", "person")
	a, l, err := u.Bind(testContext(t, 5*time.Second), mailDN, auth.Password("changed"), nil)
	if err != nil || a.Code != 0 {
		t.Fatal(a, err)
	}
	g := u.Share(mailDN, auth.Password("changed"), l)
	defer g.Leave()
	binds := bindsAs(s, mailDN)
	if _, err := ask(t, g); err != nil {
		t.Error(err)
	}
	if _, err := ask(t, old); !errors.Is(err, ErrRefused) || bindsAs(s, mailDN) != binds+1 {
		t.Errorf("with the old password: %v", err)
	}
	if _, err := ask(t, g); err != nil {
		t.Errorf("the refusal of another password: %v", err)
	}
}

// isDoneAll waits until the group has no link.
func isDoneAll(t *testing.T, g *Group) {
	t.Helper()
	g.mu.Lock()
	links := append([]*Link(nil), g.links...)
	g.mu.Unlock()
	for _, l := range links {
		isDone(t, l)
	}
}

func TestCaretakerOfSharedLinks(t *testing.T) {
	u, _, _, clock := sharing(t, 20)
	g := login(t, u)
	defer g.Leave()
	l, err := ask(t, g)
	if err != nil {
		t.Fatal(err)
	}
	u.takeCare(clock.now())
	if again, err := ask(t, g); err != nil || again != l {
		t.Fatal(err)
	}
	clock.advance(time.Minute)
	u.takeCare(clock.now())
	isDone(t, l)
}

func TestFollow(t *testing.T) {
	u, _, _, _ := sharing(t, 20)
	g := login(t, u)
	after, s, _, _ := sharing(t, 20)
	moved := after.Follow(g)
	g.Leave()
	if _, err := ask(t, moved); err != nil || bindsAs(s, mailDN) != 1 {
		t.Errorf("%v: the present servers must prove the password", err)
	}
	moved.Leave()
}
