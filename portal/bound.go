package portal

import (
	"net"
	"net/netip"
	"sync"
)

// Connections at one time. The pages may face the Internet, and share memory and descriptors with the logins: a flood of
// connections to them must not end those.
const (
	maxConnections = 1024
	maxPerAddress  = 128 // an office behind one address, with a few for each browser
)

// bounded is a listener with a bound on its connections. One too many is closed at once.
type bounded struct {
	net.Listener
	// proxy reports whether an address is that of a reverse proxy, whose connections are those of many.
	proxy func(netip.Addr) bool

	mu     sync.Mutex // guards the fields below
	total  int
	byAddr map[string]int
}

func newBounded(ln net.Listener, proxy func(netip.Addr) bool) *bounded {
	return &bounded{Listener: ln, proxy: proxy, byAddr: map[string]int{}}
}

// Accept is net.Listener's.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		nc, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		key := ""
		if peer, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
			if addr := peer.Addr().Unmap().WithZone(""); !addr.IsLoopback() && !b.proxy(addr) {
				key = network(addr)
			}
		}
		if b.enter(key) {
			return &boundedConn{Conn: nc, leave: sync.OnceFunc(func() { b.leave(key) })}, nil
		}
		nc.Close()
	}
}

// enter counts a connection in, if there is room. key: by what it is counted beside all others; "" for nothing.
func (b *bounded) enter(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.total >= maxConnections || key != "" && b.byAddr[key] >= maxPerAddress {
		return false
	}
	b.total++
	if key != "" {
		b.byAddr[key]++
	}
	return true
}

// leave is the reverse of enter.
func (b *bounded) leave(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total--
	if key == "" {
		return
	}
	if b.byAddr[key]--; b.byAddr[key] <= 0 {
		delete(b.byAddr, key)
	}
}

// boundedConn is a connection that is counted until it is closed.
type boundedConn struct {
	net.Conn
	leave func()
}

// Close is net.Conn's.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
