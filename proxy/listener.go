package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"appbind/auth"
	"appbind/config"
)

// The pause after a failed accept grows from the first to the second.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// staleDial bounds the look whether somebody listens on a unix socket.
const staleDial = time.Second

// listener is one socket that clients connect to.
type listener struct {
	srv     *Server
	network string
	address string
	ln      net.Listener
	policy  atomic.Pointer[policy] // replaced by Reload
	counts  *listenerCounts        // of the name that it was opened with

	stop   sync.Once
	closed chan struct{} // closed by close
	done   chan struct{} // closed when the accept loop has ended
}

// policy is what the configuration says of a listener. It never changes.
type policy struct {
	config.Listener
	name string // for the log
	bind auth.Listener
}

func newPolicy(lc config.Listener) *policy {
	return &policy{
		Listener: lc,
		name:     listenerName(lc),
		bind:     auth.Listener{Anonymous: lc.Anonymous != "refuse", Fallback: lc.Fallback, TOTP: lc.TOTP},
	}
}

// disconnects reports whether a bind that cannot be decided ends the connection.
func (p *policy) disconnects() bool { return p.OnUnavailable == "disconnect" }

// expectsProxy reports whether a peer must send a PROXY protocol header.
func (p *policy) expectsProxy(peer netip.Addr) bool {
	for _, n := range p.ProxyProtocolFrom {
		if n.Contains(peer) {
			return true
		}
	}
	return false
}

// serves reports whether clients of an address are served. A unix socket has none, and permissions instead.
func (p *policy) serves(peer netip.Addr) bool {
	return len(p.AllowFrom) == 0 || slices.ContainsFunc(p.AllowFrom, func(n netip.Prefix) bool { return n.Contains(peer) })
}

// listenerName is a listener for people: its URL as it was written.
func listenerName(lc config.Listener) string {
	if s := lc.URL.String(); s != "" {
		return s
	}
	return lc.URL.Scheme + "://" + lc.URL.Address
}

// takeListener takes the listener with a URL's network and address out of list.
// The scheme may differ: ldap becomes ldaps on the same socket.
func takeListener(list *[]*listener, u config.URL) *listener {
	for i, l := range *list {
		if l.network == u.Network() && l.address == u.Address {
			*list = append((*list)[:i:i], (*list)[i+1:]...)
			return l
		}
	}
	return nil
}

// openListener opens the socket of a listener; serve starts it.
func openListener(s *Server, lc config.Listener) (*listener, error) {
	if lc.URL.Network() == "unix" {
		if err := removeStale(lc.URL.Address); err != nil {
			return nil, fmt.Errorf("listener %s: %w", listenerName(lc), err)
		}
	}
	ln, err := net.Listen(lc.URL.Network(), lc.URL.Address)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", listenerName(lc), err)
	}
	if err := setMode(lc); err != nil {
		ln.Close()
		return nil, fmt.Errorf("listener %s: %w", listenerName(lc), err)
	}
	return newListener(s, lc, ln), nil
}

func newListener(s *Server, lc config.Listener, ln net.Listener) *listener {
	l := &listener{srv: s, network: lc.URL.Network(), address: lc.URL.Address, ln: ln,
		counts: s.counts.listener(listenerName(lc)),
		closed: make(chan struct{}), done: make(chan struct{})}
	l.policy.Store(newPolicy(lc))
	return l
}

// removeStale removes a socket that a dead process left behind: one on which
// nobody listens. Anything else at path is left alone, for Listen to complain of.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	nc, err := net.DialTimeout("unix", path, staleDial)
	if err == nil {
		nc.Close()
		return fmt.Errorf("%s is in use by another process", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there already: %w", path, err)
	}
	return os.Remove(path)
}

// setMode sets the permission bits of a unix socket.
func setMode(lc config.Listener) error {
	if lc.URL.Network() != "unix" || lc.Mode == "" {
		return nil
	}
	mode, err := strconv.ParseUint(lc.Mode, 8, 32)
	if err != nil || mode > 0o777 {
		return fmt.Errorf("mode %q is not an octal number of permission bits", lc.Mode)
	}
	return os.Chmod(lc.URL.Address, fs.FileMode(mode))
}

// serve is the accept loop. It ends with close and for no other reason: when
// descriptors run out it waits and tries again, and clients wait in the
// kernel's queue meanwhile.
func (l *listener) serve() {
	defer close(l.done)
	var pause time.Duration
	for {
		nc, err := l.ln.Accept()
		if err == nil {
			pause = 0
			l.admit(nc)
			continue
		}
		select {
		case <-l.closed:
			return
		default:
		}
		l.srv.limits.warn(l.srv.log, "accept failed, trying again", "listener", l.policy.Load().name, "err", err)
		pause = min(max(2*pause, acceptPauseMin), acceptPauseMax)
		timer := time.NewTimer(pause)
		select {
		case <-l.closed:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// admit starts a client, or closes its connection where a limit is reached.
func (l *listener) admit(nc net.Conn) {
	s := l.srv
	if why := s.limits.admit(s.limitsNow().Connections, nc); why != admitted {
		s.counts.refused[why].Add(1)
		s.limits.warn(s.log, "connection refused: limits.connections, or file descriptors", "listener", l.policy.Load().name)
		nc.Close()
		return
	}
	c := newConn(s, l, nc)
	if !s.enter(c) {
		s.limits.leave()
		nc.Close()
		return
	}
	l.counts.accepted.Add(1)
	l.counts.open.Add(1)
	go c.serve()
}

// close stops accepting and waits for the accept loop. A unix socket is removed.
func (l *listener) close() {
	l.stop.Do(func() {
		close(l.closed)
		l.ln.Close()
	})
	<-l.done
}
