package proxy

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"appbind/config"
	"appbind/wire"
)

func socketListener(path string) config.Listener {
	l := config.DefaultListener()
	l.URL = config.URL{Scheme: "ldapi", Address: path}
	return l
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ldapi")
	r := newRig(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	with := func(cfg *config.Config) { cfg.Listeners = append(cfg.Listeners, socketListener(path)) }
	if err := r.server.Reload(r.core(r.config(with))); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("somebody listens there: %v", err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := r.server.Reload(r.core(r.config(with))); err != nil {
		t.Fatalf("nobody listens there: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	c := r.dialTo(r.server.Addrs()[1])
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	if !strings.Contains(r.log.String(), "peer=unix ") {
		t.Error("peer of a unix socket")
	}
	wider := func(cfg *config.Config) { cfg.Listeners[1].Mode = "0666" }
	if err := r.server.Reload(r.core(r.config(with, wider))); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("mode %v after reload, %v", info.Mode(), err)
	}
	if err := r.server.Reload(r.core(r.config())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if got := c.whoAmI(2); got != "dn:"+serviceDN {
		t.Errorf("its connection did not live on: %q", got)
	}
}

func TestSocketLeavesFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	cfg := r.config(func(cfg *config.Config) { cfg.Listeners = append(cfg.Listeners, socketListener(path)) })
	if err := r.server.Reload(r.core(cfg)); err == nil {
		t.Error("listens in the place of a file")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "x" {
		t.Errorf("file %q, %v", b, err)
	}
}

func TestStartIsAllOrNothing(t *testing.T) {
	r := newRig(t)
	taken := r.server.Addrs()[0].String()
	path := filepath.Join(t.TempDir(), "s")
	cfg := r.config(func(cfg *config.Config) {
		busy := r.listener()
		busy.URL.Address = taken
		cfg.Listeners = []config.Listener{socketListener(path), busy}
	})
	s := New(r.core(cfg), r.logger())
	if err := s.Start(); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("start: %v", err)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("one of the listeners is open")
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	r := newRig(t)
	c := r.bound()
	first := r.server.Addrs()[0]

	bad := r.config(func(cfg *config.Config) {
		cfg.Passthrough = append(cfg.Passthrough, serviceDN)
		l := r.listener()
		l.URL.Address = "192.0.2.1:1" // not ours
		cfg.Listeners = append(cfg.Listeners, l)
	})
	if err := r.server.Reload(r.core(bad)); err == nil || !strings.Contains(err.Error(), "192.0.2.1:1") {
		t.Errorf("reload: %v", err)
	}
	if len(r.server.Addrs()) != 1 || r.server.state.Load().Config != r.cfg {
		t.Error("a failed reload changed something")
	}

	cfg := r.config(func(cfg *config.Config) {
		cfg.Listeners[0].Anonymous = "refuse"
		cfg.Listeners = append(cfg.Listeners, r.listener())
	})
	if err := r.server.Reload(r.core(cfg)); err != nil {
		t.Fatal(err)
	}
	r.closeOld() // as the program does
	addrs := r.server.Addrs()
	if len(addrs) != 2 || addrs[0].String() != first.String() {
		t.Fatalf("addresses %v", addrs)
	}
	if got := c.whoAmI(2); got != "dn:"+adminDN {
		t.Errorf("who am i: %q", got)
	}
	if dns, code := c.search(3, aliceUser, wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
		t.Errorf("the link did not live on: %v, %d", dns, code)
	}
	r.dial().bind(1, "", "", wire.ResultInappropriateAuthentication) // the new policy
	second := r.dialTo(addrs[1])
	second.bind(1, serviceDN, servicePW, wire.ResultSuccess)

	cfg = r.config(func(cfg *config.Config) { cfg.Listeners = cfg.Listeners[:1] })
	if err := r.server.Reload(r.core(cfg)); err != nil {
		t.Fatal(err)
	}
	if nc, err := net.Dial("tcp", addrs[1].String()); err == nil {
		nc.Close()
		t.Error("the listener that was removed accepts")
	}
	if got := second.whoAmI(2); got != "dn:"+serviceDN {
		t.Errorf("its connection did not live on: %q", got)
	}
	c.bind(4, aliceUser, alicePW, wire.ResultSuccess)
}

func TestDrain(t *testing.T) {
	r := newRig(t)
	idle, busy := r.bound(), r.bound()
	held := r.hold(wire.OpDelRequest)
	busy.write(deleteRequest(2, "dc=x"))
	a := next(t, held)
	ended := make(chan error, 1)
	go func() { ended <- r.server.Shutdown(context.Background()) }()
	idle.wantNotice(wire.ResultUnavailable)
	if _, err := net.Dial("tcp", r.server.Addrs()[0].String()); err == nil {
		t.Error("still accepts")
	}
	busy.write(deleteRequest(3, "dc=y")) // not read any more
	a.c.Answer(a.m, wire.ResultSuccess)
	busy.want(2, wire.OpDelResponse, wire.ResultSuccess)
	busy.wantNotice(wire.ResultUnavailable)
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if n := len(r.up.Received(wire.OpDelRequest)); n != 1 {
		t.Errorf("%d deletes", n)
	}
}

func TestDrainIsBounded(t *testing.T) {
	for name, held := range map[string][]byte{
		"a request": deleteRequest(2, "dc=x"),
		"a bind":    bindRequest(2, serviceDN, servicePW),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(cfg *config.Config) { cfg.Limits.Drain = config.Duration(100 * time.Millisecond) })
			c := r.bound()
			m, _ := wire.Parse(held)
			stuck := r.hold(m.Op)
			c.write(held)
			next(t, stuck)
			begun := time.Now()
			if err := r.server.Shutdown(context.Background()); err == nil {
				t.Error("nothing was given up")
			}
			if took := time.Since(begun); took > 4*time.Second {
				t.Errorf("took %v", took)
			}
			for end := false; !end; {
				m, err := c.r.Next()
				end = err != nil || m.ID == 0
			}
		})
	}
}

func TestDrainWithClientThatDoesNotRead(t *testing.T) {
	r := newRig(t, func(cfg *config.Config) { cfg.Limits.Drain = config.Duration(100 * time.Millisecond) })
	r.up.SetHandler(r.flood(2000))
	c := r.bound()
	c.write(searchRequest(2, "cn=flood", wire.ScopeBase, anyEntry))
	c.read()
	begun := time.Now()
	_ = r.server.Shutdown(context.Background())
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestDrainUnderLoad(t *testing.T) {
	r := newRig(t)
	var clients sync.WaitGroup
	var started sync.WaitGroup
	for range 8 {
		c := r.bound()
		started.Add(1)
		clients.Go(func() {
			for i := int32(10); ; i++ {
				c.write(searchRequest(i, aliceUser, wire.ScopeBase, anyEntry))
				if i == 12 {
					started.Done()
				}
				for {
					m, err := c.r.Next()
					if err != nil {
						t.Errorf("no notice: %v", err)
						return
					}
					if m.ID == 0 {
						return
					}
					if m.Op == wire.OpSearchResultDone {
						if res, err := wire.DecodeResult(m.Body); err != nil || res.Code != 0 {
							t.Errorf("result %d, %v", res.Code, err)
						}
						break
					}
				}
			}
		})
	}
	started.Wait()
	if err := r.server.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	clients.Wait()
}

func TestReloadAfterShutdown(t *testing.T) {
	r := newRig(t)
	if err := r.server.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Reload(r.core(r.cfg)); err == nil {
		t.Error("listens again")
	}
}

// failingListener is out of descriptors for a while.
type failingListener struct {
	net.Listener
	mu    sync.Mutex // guards fails
	fails int
}

func (l *failingListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	l.fails--
	out := l.fails >= 0
	l.mu.Unlock()
	if out {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvivesDescriptorExhaustion(t *testing.T) {
	r := newRig(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(r.server, r.listener(), &failingListener{Listener: ln, fails: 5})
	go l.serve()
	defer l.close()
	r.dialTo(ln.Addr()).bind(1, serviceDN, servicePW, wire.ResultSuccess)
	if n := strings.Count(r.log.String(), "accept failed"); n != 1 {
		t.Errorf("%d lines in the log, one a minute is enough", n)
	}
}

func TestAcceptEndsWhileItWaits(t *testing.T) {
	r := newRig(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(r.server, r.listener(), &failingListener{Listener: ln, fails: 1 << 30})
	go l.serve()
	l.close()
}

func TestSpareDescriptors(t *testing.T) {
	r := newRig(t)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	served := r.bound()
	// The limit is put below what is open, so that every new descriptor is a spare one.
	low := old
	low.Cur = 16
	var open []*os.File
	for range 16 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, f)
	}
	nc, err := net.Dial("tcp", r.server.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	high, err := nc.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	high.Close()
	if spare(nc) {
		t.Error("spare with descriptors to spare")
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	full := spare(nc)
	if got := served.whoAmI(2); got != "dn:"+adminDN {
		t.Errorf("who am i: %q", got)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if !full {
		t.Error("a descriptor at the limit is not a spare one")
	}
	for _, f := range open {
		f.Close()
	}
}

func TestLimits(t *testing.T) {
	t.Run("all together", func(t *testing.T) {
		r := newRig(t, func(cfg *config.Config) { cfg.Limits.Connections = 2 })
		first, second := r.bound(), r.bound()
		r.dial().wantEnd()
		first.nc.Close()
		if !eventually(func() bool { return clientCount(r.server) == 1 }) {
			t.Fatal("not counted out")
		}
		if !eventually(func() bool {
			c := r.dial()
			c.write(bindRequest(1, serviceDN, servicePW))
			_, err := c.r.Next()
			return err == nil
		}) {
			t.Error("no recovery")
		}
		second.whoAmI(9)
	})
	t.Run("by address", func(t *testing.T) {
		var l limiter
		v4, v4b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		v6, v6b, v6c := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1"), netip.MustParseAddr("2001:db8:0:1::1")
		for _, step := range []struct {
			addr netip.Addr
			ok   bool
		}{{v4, true}, {v4, true}, {v4, false}, {v4b, true}, {v6, true}, {v6b, true}, {v6, false}, {v6b, false}, {v6c, true}} {
			if got := l.admitAddr(2, step.addr); got != step.ok {
				t.Errorf("%v: %v", step.addr, got)
			}
		}
		for range 5 {
			if !l.admitAddr(2, netip.MustParseAddr("127.0.0.1")) || !l.admitAddr(2, netip.MustParseAddr("::1")) || !l.admitAddr(2, netip.Addr{}) {
				t.Error("loopback and unix sockets are not counted")
			}
		}
		for _, a := range []netip.Addr{v4, v4, v4b, v6, v6b, v6c} {
			l.leaveAddr(a)
		}
		if len(l.byAddr) != 0 {
			t.Errorf("left behind: %v", l.byAddr)
		}
	})
}
