package proxy

import (
	"bytes"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// asked is a message that a fake holds back, with where to answer it.
type asked struct {
	c *fakeldap.Conn
	m wire.Message
}

// hold makes the upstream hand messages of some operations to the test; the directory answers the others.
func (r *rig) hold(ops ...wire.Op) chan asked {
	held := make(chan asked, 100)
	r.up.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		for _, op := range ops {
			if m.Op == op {
				held <- asked{c, m}
				return
			}
		}
		r.dir.Handle(c, m)
	})
	return held
}

// bound is a client that has bound as the service account, before anything is held.
func (r *rig) bound() *client {
	r.t.Helper()
	c := r.dial()
	// Of passthrough, not of service_accounts: the link is its own.
	c.bind(1, adminDN, "admin-password", wire.ResultSuccess)
	return c
}

// next is the next held message.
func next(t *testing.T, held chan asked) asked {
	t.Helper()
	select {
	case a := <-held:
		return a
	case <-time.After(patience):
		t.Fatal("nothing reached the upstream")
		panic("unreachable")
	}
}

// requests are one valid request of each forwarded operation, under ID 2.
func requests() map[string][]byte {
	modify := append(wire.AppendTarget(nil, []byte("cn=x"), nil), 0x30, 15, 0x30, 13, 0x0a, 1, 0, 0x30, 8, 0x04, 2, 'c', 'n', 0x31, 2, 0x04, 0)
	add := append(wire.AppendTarget(nil, []byte("cn=x"), nil), 0x30, 10, 0x30, 8, 0x04, 2, 'c', 'n', 0x31, 2, 0x04, 0)
	compare := wire.CompareRequest{DN: []byte("cn=x"), Attribute: []byte("cn"), Value: []byte("y")}
	rename := wire.ModifyDNRequest{DN: []byte("cn=x"), NewRDN: []byte("cn=y"), DeleteOldRDN: true, NewSuperior: []byte("dc=z")}
	unknown := wire.AppendControl(nil, "1.2.3.4", false, []byte("value"))
	return map[string][]byte{
		"search":      searchRequest(2, "cn=x", wire.ScopeWhole, present("mail"), unknown...),
		"compare":     wire.AppendMessage(nil, 2, wire.OpCompareRequest, compare.Append(nil), nil),
		"modify":      wire.AppendMessage(nil, 2, wire.OpModifyRequest, modify, unknown),
		"add":         wire.AppendMessage(nil, 2, wire.OpAddRequest, add, nil),
		"delete":      deleteRequest(2, "cn=x"),
		"modifyDN":    wire.AppendMessage(nil, 2, wire.OpModifyDNRequest, rename.Append(nil), nil),
		"extended":    extendedRequest(2, "1.2.3.4.5", []byte("x")),
		"padded form": {0x30, 0x84, 0, 0, 0, 10, 0x02, 1, 2, 0x4a, 0x84, 0, 0, 0, 1, 'x'},
	}
}

// TestRequestsPassUnchanged: every operation arrives as it was sent, under another message ID, and its
// result comes back as it is.
func TestRequestsPassUnchanged(t *testing.T) {
	r := newRig(t)
	for name, raw := range requests() {
		t.Run(name, func(t *testing.T) {
			sent, err := wire.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := sent.ValidateRequest(); err != nil {
				t.Fatalf("the test's own request: %v", err)
			}
			c := r.bound()
			c.t = t
			held := r.hold(sent.Op)
			c.write(raw)
			a := next(t, held)
			if want := sent.AppendTo(nil, a.m.ID); !bytes.Equal(a.m.Raw, want) {
				t.Fatalf("arrived as %x, want %x", a.m.Raw, want)
			}
			res := wire.Result{Code: wire.ResultReferral, MatchedDN: []byte("dc=z"), Diagnostic: []byte("text"),
				Referral: wire.AppendStrings(nil, "ldap://elsewhere/")}
			control := wire.AppendControl(nil, "1.2.3.4", false, []byte("x"))
			answer := wire.AppendMessage(nil, a.m.ID, wire.ResponseTo(sent.Op), res.Append(nil), control)
			a.c.Write(answer)
			got := c.read()
			parsed, _ := wire.Parse(answer)
			if want := parsed.AppendTo(nil, 2); !bytes.Equal(got.Raw, want) {
				t.Errorf("answered %x, want %x", got.Raw, want)
			}
		})
	}
}

// TestSearchResponsesPass: entries, references and intermediate responses, in their order.
func TestSearchResponsesPass(t *testing.T) {
	for _, version := range []byte{3, 2} {
		r := newRig(t)
		c := r.dial()
		c.write(bindMessage(1, version, serviceDN, servicePW, nil))
		c.want(1, wire.OpBindResponse, wire.ResultSuccess)
		held := r.hold(wire.OpSearchRequest)
		c.write(searchRequest(2, "dc=x", wire.ScopeWhole, anyEntry))
		a := next(t, held)
		control := wire.AppendControl(nil, "1.2.3.4", false, nil)
		entry, _ := wire.Parse(fakeldap.EntryMessage(a.m.ID, "cn=one", "cn", "one"))
		done := wire.Result{Code: wire.ResultReferral, Referral: wire.AppendStrings(nil, "ldap://elsewhere/")}
		a.c.Write(bytes.Join([][]byte{
			entry.Raw,
			wire.AppendMessage(nil, a.m.ID, wire.OpSearchResultReference, wire.AppendStrings(nil, "ldap://elsewhere/"), nil),
			wire.AppendMessage(nil, a.m.ID, wire.OpIntermediateResponse, nil, nil),
			wire.AppendMessage(nil, a.m.ID, wire.OpSearchResultEntry, entry.Body, control),
			wire.AppendMessage(nil, a.m.ID, wire.OpSearchResultDone, done.Append(nil), control),
		}, nil))
		ops := []wire.Op{wire.OpSearchResultEntry, wire.OpSearchResultReference, wire.OpIntermediateResponse,
			wire.OpSearchResultEntry, wire.OpSearchResultDone}
		code := int32(wire.ResultReferral)
		if version == 2 {
			ops = []wire.Op{wire.OpSearchResultEntry, wire.OpSearchResultEntry, wire.OpSearchResultDone}
			code = resultPartialResults
		}
		for _, op := range ops {
			m := c.read()
			if m.Op != op || m.ID != 2 {
				t.Fatalf("v%d: message %d %#x, want %#x", version, m.ID, m.Op, op)
			}
			if version == 2 && m.Controls != nil {
				t.Error("a v2 client got controls")
			}
			if op != wire.OpSearchResultDone {
				continue
			}
			res, err := wire.DecodeResult(m.Body)
			if err != nil || res.Code != code || (res.Referral != nil) != (version == 3) {
				t.Errorf("v%d: result %+v, %v", version, res, err)
			}
			if version == 2 && !strings.Contains(string(res.Diagnostic), "ldap://elsewhere/") {
				t.Errorf("diagnostic %q", res.Diagnostic)
			}
		}
		for _, m := range r.up.Received(wire.OpBindRequest) {
			if b, err := wire.DecodeBind(m.Body); err != nil || b.Version != 3 {
				t.Errorf("a bind of version %d went upstream", b.Version)
			}
		}
	}
}

// TestForeignFinalResponse: Samba ends any request with an ExtendedResponse, code 12.
func TestForeignFinalResponse(t *testing.T) {
	r := newRig(t)
	for name, raw := range requests() {
		sent, _ := wire.Parse(raw)
		c := r.bound()
		held := r.hold(sent.Op)
		c.write(raw)
		a := next(t, held)
		a.c.Write(wire.AppendExtendedResponse(nil, a.m.ID, wire.ResultUnavailableCriticalExtension, "no", "1.2.3", nil))
		res := c.result(2, wire.ResponseTo(sent.Op))
		if res.Code != wire.ResultUnavailableCriticalExtension || len(res.Tail) != 0 != (sent.Op == wire.OpExtendedRequest) {
			t.Errorf("%s: %+v", name, res)
		}
		c.write(deleteRequest(2, "cn=x")) // the ID is free again
		if sent.Op == wire.OpDelRequest {
			a = next(t, held)
			a.c.Answer(a.m, wire.ResultSuccess)
		}
		c.want(2, wire.OpDelResponse, wire.ResultSuccess) // before another one is held
	}
}

func TestSecretsAreHidden(t *testing.T) {
	for _, visible := range []bool{false, true} {
		r := newRig(t, func(cfg *config.Config) {
			if visible {
				cfg.SecretsVisibleTo = []string{"CN=Dovecot, DC=example, DC=org"}
			}
		})
		for _, who := range []string{serviceDN, ""} {
			c := r.dial()
			c.bind(1, who, map[string]string{serviceDN: servicePW}[who], wire.ResultSuccess)
			c.write(searchRequest(2, aliceUser, wire.ScopeBase, anyEntry))
			entry := string(c.read().Raw)
			c.want(2, wire.OpSearchResultDone, wire.ResultSuccess)
			shown := visible && who == serviceDN
			if strings.Contains(entry, "$app$") != shown || !strings.Contains(entry, "alice@example.org") {
				t.Errorf("visible %v, as %q: %q", visible, who, entry)
			}
			dns, code := c.search(3, aliceUser, wire.ScopeBase, present("appPassword"))
			if shown != (len(dns) == 1 && code == 0) {
				t.Errorf("filter, visible %v, as %q: %v, %d", visible, who, dns, code)
			}
		}
	}
}

func TestContextInRequests(t *testing.T) {
	const suffix = ",svc=imap,rip=192.0.2.7,cn=appbind"
	r := newRig(t, func(cfg *config.Config) {
		other := cfg.Listeners[0]
		cfg.Listeners[0].Context = "trusted"
		cfg.Listeners = append(cfg.Listeners, other)
	})
	compare := wire.CompareRequest{DN: []byte("cn=x" + suffix), Attribute: []byte("member"), Value: []byte(aliceUser + suffix)}
	rename := wire.ModifyDNRequest{DN: []byte("cn=x" + suffix), NewRDN: []byte("cn=y"), NewSuperior: []byte("dc=z" + suffix)}
	rest := []byte{0x30, 0}
	filter := append([]byte{0xa3, 0}, append(append([]byte{0x04, 6}, "member"...), append([]byte{0x04, byte(len(aliceUser + suffix))}, aliceUser+suffix...)...)...)
	filter[1] = byte(len(filter) - 2)
	for name, raw := range map[string][]byte{
		"search":   searchRequest(2, aliceUser+suffix, wire.ScopeBase, anyEntry),
		"filter":   searchRequest(2, aliceUser+suffix, wire.ScopeBase, filter),
		"compare":  wire.AppendMessage(nil, 2, wire.OpCompareRequest, compare.Append(nil), nil),
		"modify":   wire.AppendMessage(nil, 2, wire.OpModifyRequest, wire.AppendTarget(nil, []byte("cn=x"+suffix), rest), nil),
		"add":      wire.AppendMessage(nil, 2, wire.OpAddRequest, wire.AppendTarget(nil, []byte("cn=x"+suffix), rest), nil),
		"delete":   deleteRequest(2, "cn=x"+suffix),
		"modifyDN": wire.AppendMessage(nil, 2, wire.OpModifyDNRequest, rename.Append(nil), nil),
	} {
		sent, err := wire.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		refused := r.dialTo(r.server.Addrs()[1])
		refused.write(raw)
		refused.want(2, wire.ResponseTo(sent.Op), wire.ResultInvalidDNSyntax)
		c := r.bound()
		held := r.hold(sent.Op)
		c.write(raw)
		a := next(t, held)
		if bytes.Contains(a.m.Raw, []byte("rip=")) {
			t.Errorf("%s: the context went upstream", name)
		}
		if err := a.m.ValidateRequest(); err != nil {
			t.Errorf("%s: %x: %v", name, a.m.Raw, err)
		}
		if sent.Op == wire.OpSearchRequest {
			a.c.Entry(a.m.ID, aliceUser, "cn", "Alice")
			a.c.Answer(a.m, 0)
			e, err := wire.DecodeEntry(c.read().Body)
			if err != nil || string(e.DN) != aliceUser+suffix {
				t.Errorf("%s: entry %q", name, e.DN)
			}
		} else {
			a.c.Answer(a.m, 0)
		}
		c.want(2, wire.ResponseTo(sent.Op), 0)
	}
}

func TestAbandon(t *testing.T) {
	r := newRig(t)
	c := r.bound()
	held := r.hold(wire.OpSearchRequest)
	c.write(searchRequest(2, "dc=x", wire.ScopeWhole, anyEntry), searchRequest(3, "dc=y", wire.ScopeWhole, anyEntry))
	first, second := next(t, held), next(t, held)
	c.write(abandonRequest(4, 99), abandonRequest(5, 0), abandonRequest(6, 6), abandonRequest(7, 2))
	if !r.up.WaitReceived(wire.OpAbandonRequest, 1) {
		t.Fatal("not told the upstream")
	}
	got := r.up.Received(wire.OpAbandonRequest)
	if id, err := wire.DecodeAbandon(got[0].Body); len(got) != 1 || err != nil || id != first.m.ID {
		t.Errorf("%d abandons, of %d, want %d", len(got), id, first.m.ID)
	}
	first.c.Entry(first.m.ID, "cn=late")
	first.c.Answer(first.m, 0)
	second.c.Answer(second.m, 0)
	c.want(3, wire.OpSearchResultDone, 0) // and nothing of the first
	if got := c.whoAmI(2); got != "dn:"+adminDN {
		t.Errorf("the ID is not free: %q", got)
	}
}

func TestCancel(t *testing.T) {
	r := newRig(t)
	c := r.bound()
	held := r.hold(wire.OpSearchRequest, wire.OpExtendedRequest)
	c.write(extendedRequest(2, oidCancel, []byte{0x30, 3, 0x02, 1, 77}))
	c.want(2, wire.OpExtendedResponse, wire.ResultNoSuchOperation)
	c.write(extendedRequest(3, oidCancel, []byte("junk")))
	c.want(3, wire.OpExtendedResponse, wire.ResultProtocolError)
	c.write(searchRequest(500, "dc=x", wire.ScopeWhole, anyEntry))
	search := next(t, held)
	value, err := asn1.Marshal(cancelValue{500})
	if err != nil {
		t.Fatal(err)
	}
	c.write(extendedRequest(501, oidCancel, value))
	cancel := next(t, held)
	x, err := wire.DecodeExtended(cancel.m.Body)
	var v cancelValue
	if _, uerr := asn1.Unmarshal(x.Value, &v); err != nil || uerr != nil || v.ID != search.m.ID {
		t.Fatalf("cancels %d, want %d (%v %v)", v.ID, search.m.ID, err, uerr)
	}
	search.c.Answer(search.m, wire.ResultCanceled)
	cancel.c.Answer(cancel.m, wire.ResultSuccess)
	c.want(500, wire.OpSearchResultDone, wire.ResultCanceled)
	c.want(501, wire.OpExtendedResponse, wire.ResultSuccess)
}

func TestLostLinkEndsTheClient(t *testing.T) {
	t.Run("with a request outstanding", func(t *testing.T) {
		r := newRig(t)
		c := r.bound()
		held := r.hold(wire.OpDelRequest)
		c.write(deleteRequest(2, "dc=x"))
		next(t, held).c.Close()
		c.wantNotice(wire.ResultUnavailable)
	})
	t.Run("idle", func(t *testing.T) {
		r := newRig(t)
		c := r.bound()
		r.up.CloseConns()
		c.wantNotice(wire.ResultUnavailable) // when the idle session is looked after
	})
	t.Run("at the next request", func(t *testing.T) {
		r := newRig(t)
		r.server.recheck = time.Hour
		c := r.bound()
		link := r.served().sess.link // it waits for its next request
		r.up.CloseConns()
		<-link.Done()
		before := len(r.up.Received(wire.OpBindRequest))
		c.write(deleteRequest(2, "dc=x"))
		c.wantNotice(wire.ResultUnavailable)
		for _, m := range r.up.Received(wire.OpBindRequest)[before:] {
			if b, err := wire.DecodeBind(m.Body); err != nil || string(b.Name) == serviceDN {
				t.Error("bound again behind the client's back")
			}
		}
	})
	t.Run("anonymous links are replaced", func(t *testing.T) {
		r := newRig(t)
		c := r.dial()
		if _, code := c.search(1, aliceUser, wire.ScopeBase, anyEntry); code != 0 {
			t.Fatal(code)
		}
		link := r.served().sess.link // it waits for its next request
		r.up.CloseConns()
		<-link.Done()
		if dns, code := c.search(2, aliceUser, wire.ScopeBase, anyEntry); code != 0 || len(dns) != 1 {
			t.Errorf("%v, %d", dns, code)
		}
	})
}

func TestTimeoutIsTheRequestsOwn(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Upstream.OperationTimeout = config.Duration(200 * time.Millisecond) })
	c := r.bound()
	r.hold(wire.OpDelRequest)
	c.write(deleteRequest(2, "dc=x"))
	c.want(2, wire.OpDelResponse, wire.ResultUnavailable)
	if got := c.whoAmI(3); got != "dn:"+adminDN {
		t.Errorf("who am i: %q", got)
	}
	if dns, code := c.search(4, aliceUser, wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
		t.Errorf("after it: %v, %d", dns, code)
	}
}

// TestHostileUpstream: whatever the upstream says, the client gets a well-formed end.
func TestHostileUpstream(t *testing.T) {
	for name, answer := range map[string]func(c *fakeldap.Conn, m wire.Message){
		"garbage":         func(c *fakeldap.Conn, m wire.Message) { c.Write([]byte("HTTP/1.1 400\r\n\r\n")) },
		"truncated":       func(c *fakeldap.Conn, m wire.Message) { c.Write([]byte{0x30, 20, 2, 1}); c.Close() },
		"unknown ID":      func(c *fakeldap.Conn, m wire.Message) { c.Result(m.ID+1000, wire.OpSearchResultDone, 0, "") },
		"wrong operation": func(c *fakeldap.Conn, m wire.Message) { c.Result(m.ID, wire.OpModifyResponse, 0, "") },
		"a request":       func(c *fakeldap.Conn, m wire.Message) { c.Write(deleteRequest(m.ID, "cn=x")) },
		"notice":          func(c *fakeldap.Conn, m wire.Message) { c.Write(wire.AppendNotice(nil, 52, "bye")) },
		"reset":           func(c *fakeldap.Conn, m wire.Message) { c.Reset() },
		"malformed entry": func(c *fakeldap.Conn, m wire.Message) {
			c.Write(wire.AppendMessage(nil, m.ID, wire.OpSearchResultEntry, []byte{4, 9}, nil))
		},
		"malformed result": func(c *fakeldap.Conn, m wire.Message) {
			c.Write(wire.AppendMessage(nil, m.ID, wire.OpSearchResultDone, []byte{4, 0}, nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.bound()
			held := r.hold(wire.OpSearchRequest)
			c.write(searchRequest(2, "dc=x", wire.ScopeWhole, anyEntry))
			a := next(t, held)
			answer(a.c, a.m)
			c.wantNotice(wire.ResultUnavailable)
		})
	}
	t.Run("responses behind the final one", func(t *testing.T) {
		r := newRig(t)
		c := r.bound()
		held := r.hold(wire.OpSearchRequest)
		c.write(searchRequest(2, "dc=x", wire.ScopeWhole, anyEntry))
		a := next(t, held)
		a.c.Answer(a.m, 0)
		a.c.Answer(a.m, 0)
		a.c.Entry(a.m.ID, "cn=late")
		c.want(2, wire.OpSearchResultDone, 0)
		r.up.SetHandler(r.dir.Handle)
		if got := c.whoAmI(2); got != "dn:"+adminDN {
			t.Errorf("who am i: %q", got)
		}
	})
}

// TestClientLeavesWithRequestsOutstanding: the link is closed, not given to anybody else.
func TestClientLeavesWithRequestsOutstanding(t *testing.T) {
	r := newRig(t)
	c := r.bound()
	held := r.hold(wire.OpDelRequest)
	c.write(deleteRequest(2, "dc=x"))
	a := next(t, held)
	c.nc.Close()
	if !eventually(func() bool { return clientCount(r.server) == 0 }) {
		t.Fatal("the client is still there")
	}
	for i := range int32(5) {
		other := r.dial()
		other.bind(1, serviceDN, servicePW, wire.ResultSuccess)
		a.c.Answer(a.m, 0)
		if got := other.whoAmI(2 + i); got != "dn:"+serviceDN {
			t.Errorf("who am i: %q", got)
		}
	}
}
