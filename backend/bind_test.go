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

// userBinds counts the binds of a name that a fake received.
func userBinds(s *fakeldap.Server, name string) int {
	n := 0
	for _, m := range s.Received(wire.OpBindRequest) {
		if b, err := wire.DecodeBind(m.Body); err == nil && string(b.Name) == name {
			n++
		}
	}
	return n
}

// onUserBind runs script for binds as alice and leaves the rest to a directory.
func onUserBind(script func(c *fakeldap.Conn, m wire.Message)) fakeldap.Handler {
	dir := directory()
	return func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpBindRequest {
			if b, err := wire.DecodeBind(m.Body); err == nil && string(b.Name) == alice {
				script(c, m)
				return
			}
		}
		dir.Handle(c, m)
	}
}

func TestBind(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := upstream(t, testConfig(urlOf(s)))
	ctx := testContext(t, 5*time.Second)
	for _, c := range []struct {
		password string
		code     int32
	}{{"alicepw", 0}, {"wrong", 49}, {"alicepw", 0}} {
		answer, l, err := u.Bind(ctx, alice, auth.Password(c.password), nil)
		if err != nil || answer.Code != c.code || answer.Server != l.Server() {
			t.Fatalf("bind with %s: %+v, %v; want code %d", c.password, answer, err, c.code)
		}
		u.Release(l)
	}
	if n := userBinds(s, alice); n != 3 {
		t.Errorf("%d binds upstream, want 3", n)
	}
	// Two service links and one bind link, used three times.
	if n := s.Accepted(); n > 3 {
		t.Errorf("%d connections, want 3 at most", n)
	}
}

// Whatever a server does with a bind, it is sent once, success needs a
// BindResponse 0 for it, and the answer is there within the deadline.
func TestBindHostile(t *testing.T) {
	success := func(id int32, op wire.Op) []byte { return wire.AppendResult(nil, id, op, 0, "") }
	scripts := map[string]func(c *fakeldap.Conn, m wire.Message){
		"closes":              func(c *fakeldap.Conn, _ wire.Message) { c.Close() },
		"resets":              func(c *fakeldap.Conn, _ wire.Message) { c.Reset() },
		"closes half":         func(c *fakeldap.Conn, _ wire.Message) { c.CloseWrite() },
		"says nothing":        func(*fakeldap.Conn, wire.Message) {},
		"wrong id":            func(c *fakeldap.Conn, m wire.Message) { c.Write(success(m.ID+1, wire.OpBindResponse)) },
		"id 0":                func(c *fakeldap.Conn, _ wire.Message) { c.Write(success(0, wire.OpBindResponse)) },
		"extended success":    func(c *fakeldap.Conn, m wire.Message) { c.Write(success(m.ID, wire.OpExtendedResponse)) },
		"search done":         func(c *fakeldap.Conn, m wire.Message) { c.Write(success(m.ID, wire.OpSearchResultDone)) },
		"modify response":     func(c *fakeldap.Conn, m wire.Message) { c.Write(success(m.ID, wire.OpModifyResponse)) },
		"entry":               func(c *fakeldap.Conn, m wire.Message) { c.Entry(m.ID, alice, "uid", "alice") },
		"echoes":              func(c *fakeldap.Conn, m wire.Message) { c.Write(m.Raw) },
		"garbage":             func(c *fakeldap.Conn, _ wire.Message) { c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) },
		"indefinite":          func(c *fakeldap.Conn, _ wire.Message) { c.Write([]byte{0x30, 0x80, 2, 1, 1, 0, 0}) },
		"no code":             func(c *fakeldap.Conn, m wire.Message) { c.Write([]byte{0x30, 5, 2, 1, byte(m.ID), 0x61, 0}) },
		"truncated":           func(c *fakeldap.Conn, m wire.Message) { c.Write(success(m.ID, wire.OpBindResponse)[:9]); c.Close() },
		"truncated and quiet": func(c *fakeldap.Conn, m wire.Message) { c.Write(success(m.ID, wire.OpBindResponse)[:9]) },
		"notice":              func(c *fakeldap.Conn, _ wire.Message) { c.Write(wire.AppendNotice(nil, 52, "bye")) },
		"intermediate then closes": func(c *fakeldap.Conn, m wire.Message) {
			c.Write(wire.AppendMessage(nil, m.ID, wire.OpIntermediateResponse, nil, nil))
			c.Close()
		},
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			s := fake(t, fakeldap.Options{Handler: onUserBind(script)})
			u := upstream(t, testConfig(urlOf(s)))
			start := time.Now()
			answer, l, err := u.Bind(testContext(t, 300*time.Millisecond), alice, auth.Password("alicepw"), nil)
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v, the deadline was 300ms", took)
			}
			unavailable(t, err)
			if answer != nil || l != nil {
				t.Errorf("answer %+v with an error", answer)
			}
			if errors.Is(err, ErrNotSent) {
				t.Errorf("error %v says not sent", err)
			}
			if n := userBinds(s, alice); n != 1 {
				t.Errorf("bind sent %d times", n)
			}
		})
	}
}

// Answers that are odd but clear.
func TestBindOddAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		script func(c *fakeldap.Conn, m wire.Message)
		code   int32
	}{
		"byte by byte": {func(c *fakeldap.Conn, m wire.Message) {
			c.WriteSliced(wire.AppendResult(nil, m.ID, wire.OpBindResponse, 0, ""))
		}, 0},
		"twice": {func(c *fakeldap.Conn, m wire.Message) {
			c.Answer(m, 49)
			c.Answer(m, 0)
		}, 49},
		"extended 12": {func(c *fakeldap.Conn, m wire.Message) {
			c.Result(m.ID, wire.OpExtendedResponse, 12, "")
		}, 12},
		"unknown notice first": {func(c *fakeldap.Conn, m wire.Message) {
			c.Write(wire.AppendExtendedResponse(nil, 0, 0, "", "1.2.3.4", nil))
			c.Answer(m, 0)
		}, 0},
		"long diagnostic": {func(c *fakeldap.Conn, m wire.Message) {
			c.Result(m.ID, wire.OpBindResponse, 53, string(make([]byte, 100_000)))
		}, 53},
	} {
		t.Run(name, func(t *testing.T) {
			s := fake(t, fakeldap.Options{Handler: onUserBind(c.script)})
			u := upstream(t, testConfig(urlOf(s)))
			answer, l, err := u.Bind(testContext(t, 5*time.Second), alice, auth.Password("alicepw"), nil)
			if err != nil || answer.Code != c.code {
				t.Fatalf("answer %+v, %v; want code %d", answer, err, c.code)
			}
			u.Release(l)
		})
	}
}

func TestBindControls(t *testing.T) {
	control := wire.AppendControl(nil, "1.3.6.1.4.1.42.2.27.8.5.1", false, []byte{0x30, 0})
	s := fake(t, fakeldap.Options{Handler: onUserBind(func(c *fakeldap.Conn, m wire.Message) {
		r := wire.Result{Code: 49}
		c.Write(wire.AppendMessage(nil, m.ID, wire.OpBindResponse, r.Append(nil), m.Controls))
	})})
	u := upstream(t, testConfig(urlOf(s)))
	answer, l, err := u.Bind(testContext(t, 5*time.Second), alice, auth.Password("x"), control)
	if err != nil || string(answer.Controls) != string(control) {
		t.Fatalf("controls %x, %v; want %x", answer.Controls, err, control)
	}
	u.Release(l)
}

// A pooled link that the server closed is not used; nothing is sent on it.
func TestBindDeadPooledLink(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	u := upstream(t, testConfig(urlOf(s)))
	ctx := testContext(t, 5*time.Second)
	_, l, err := u.Bind(ctx, alice, auth.Password("alicepw"), nil)
	if err != nil {
		t.Fatal(err)
	}
	u.Release(l)
	s.CloseConns()
	isDone(t, l)
	if _, err := l.Bind(ctx, alice, auth.Password("alicepw"), nil); !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("bind on a dead link: %v, want ErrNotSent", err)
	}
	answer, l, err := u.Bind(ctx, alice, auth.Password("alicepw"), nil)
	if err != nil || answer.Code != 0 {
		t.Fatalf("bind after the server closed the idle link: %+v, %v", answer, err)
	}
	u.Release(l)
	if n := userBinds(s, alice); n != 2 {
		t.Errorf("%d binds, want 2", n)
	}
}

// A link on which a bind timed out is closed, whoever waited.
func TestBindTimeoutClosesLink(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: onUserBind(func(*fakeldap.Conn, wire.Message) {})})
	u := upstream(t, testConfig(urlOf(s)))
	l, err := u.BindLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		s.WaitReceived(wire.OpBindRequest, 2)
		cancel()
	}()
	if _, err := l.Bind(ctx, alice, auth.Password("alicepw"), nil); err == nil {
		t.Fatal("bind without an answer succeeded")
	}
	isDone(t, l)
	u.Release(l)
}

// Nothing else goes out while a bind is outstanding, nor a bind beside another request.
func TestBindAlone(t *testing.T) {
	s := fake(t, fakeldap.Options{})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.BindDN = ""
	u := unstarted(t, cfg)
	defer u.Close()
	l, err := u.BindLink(testContext(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	search := rootProbe().Append(nil)
	id, err := l.Send(wire.OpSearchRequest, search, nil, newRecorder(), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Bind(testContext(t, time.Second), alice, auth.Password("x"), nil); !errors.Is(err, ErrNotSent) {
		t.Errorf("bind beside a search: %v", err)
	}
	l.Abandon(id)
	if _, err := l.Send(wire.OpBindRequest, wire.AppendSimpleBind(nil, alice, []byte("x")), nil, newRecorder(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Send(wire.OpSearchRequest, search, nil, newRecorder(), false); !errors.Is(err, ErrNotSent) {
		t.Errorf("search beside a bind: %v", err)
	}
	if got := len(s.Received(wire.OpBindRequest)); got > 1 {
		t.Errorf("%d binds received", got)
	}
}
