package proxy

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"appbind/backend/fakeldap"
	"appbind/wire"
)

// loose is a connection that nobody serves, so that the test may call its methods; and its client.
func (r *rig) loose() (*conn, *client) {
	r.t.Helper()
	here, there := net.Pipe()
	c := newConn(r.server, r.server.listeners[0], there)
	c.useStream(there)
	r.t.Cleanup(func() { here.Close(); there.Close() })
	return c, newClient(r.t, here)
}

func message(t *testing.T, raw []byte) wire.Message {
	t.Helper()
	m, err := wire.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestNothingAfterGivingUp: whatever a link still delivers for a request that
// was given up, the client sees nothing of it, also when the message ID is in use again.
func TestNothingAfterGivingUp(t *testing.T) {
	r := newRig(t)
	c, cl := r.loose()
	m := message(t, searchRequest(2, "dc=x", wire.ScopeWhole, anyEntry))
	old, again := c.newRequest(m), c.newRequest(m)
	if c.register(old) != nil || len(c.giveUp()) == 0 || c.register(again) != nil {
		t.Fatal("cannot register")
	}
	link, err := r.upstream[0].AnonymousLink(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	link.Close()
	old.link, again.link = link, link
	entry := message(t, fakeldap.EntryMessage(7, "cn=late"))
	done := message(t, wire.AppendResult(nil, 7, wire.OpSearchResultDone, wire.ResultBusy, "late"))
	old.Deliver(entry, false, true)
	old.Deliver(done, true, true)
	old.Lost(nil) // closes nobody
	if c.ended.Load() != nil || !c.inUse(2) {
		t.Error("the request in its place was ended")
	}
	go again.Deliver(message(t, wire.AppendResult(nil, 8, wire.OpSearchResultDone, wire.ResultSuccess, "")), true, false)
	cl.want(2, wire.OpSearchResultDone, wire.ResultSuccess)
	if c.outstanding() {
		t.Error("still outstanding")
	}
}

// TestPasswordIsCleared: after a bind nothing of the password is left in the buffer that it came in.
func TestPasswordIsCleared(t *testing.T) {
	r := newRig(t)
	c, cl := r.loose()
	for _, password := range []string{phonePW, alicePW, "a-wrong-password"} {
		raw := bindRequest(2, aliceUser, password)
		answered := make(chan struct{})
		go func() { cl.result(2, wire.OpBindResponse); close(answered) }()
		if refused, err := c.bind(message(t, raw)); refused != nil || err != nil {
			t.Fatal(refused, err)
		}
		<-answered
		if bytes.Contains(raw, []byte(password)) {
			t.Error("the password is still there")
		}
	}
	c.dropLink()
}

// TestComparesAreGuarded: a compare is an oracle for the values of the secrets attribute.
func TestComparesAreGuarded(t *testing.T) {
	r := newRig(t)
	c := r.bound()
	for _, attribute := range []string{"appPassword", "APPPASSWORD;x-opt"} {
		compare := wire.CompareRequest{DN: []byte(aliceUser), Attribute: []byte(attribute), Value: []byte(phoneValue())}
		c.write(wire.AppendMessage(nil, 2, wire.OpCompareRequest, compare.Append(nil), nil))
		if res := c.result(2, wire.OpCompareResponse); res.Code == wire.ResultCompareTrue || res.Code == wire.ResultSuccess {
			t.Errorf("%s: result %d", attribute, res.Code)
		}
	}
	if n := len(r.up.Received(wire.OpCompareRequest)); n != 0 {
		t.Error("a compare of the secrets attribute went upstream")
	}
	preRead := wire.AppendControl(nil, "1.3.6.1.1.13.1", true, append([]byte{0x30, 13}, append([]byte{0x04, 11}, "appPassword"...)...))
	c.write(wire.AppendMessage(nil, 3, wire.OpDelRequest, []byte("cn=x"), preRead))
	c.result(3, wire.OpDelResponse)
	for _, m := range r.up.Received(wire.OpDelRequest) {
		if strings.Contains(string(m.Controls), "appPassword") {
			t.Error("a pre-read of the secrets attribute went upstream")
		}
	}
}
