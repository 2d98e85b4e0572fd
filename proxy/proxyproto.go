package proxy

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// proxyHeaderSize is the buffer for a PROXY protocol header: a v1 line has at
// most 107 bytes, a v2 header with addresses 52 before its TLVs.
const proxyHeaderSize = 256

// readProxyHeader reads the header that must open the connection, and returns
// the connection behind it and the address that it announces; invalid when it
// announces none (LOCAL, UNKNOWN), which is the proxy itself asking.
func readProxyHeader(nc net.Conn, limit time.Duration) (net.Conn, netip.Addr, error) {
	if err := nc.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return nil, netip.Addr{}, err
	}
	br := bufio.NewReaderSize(nc, proxyHeaderSize)
	h, err := proxyproto.Read(br)
	if err != nil {
		return nil, netip.Addr{}, fmt.Errorf("proxy protocol header: %w", err)
	}
	var from netip.Addr
	if !h.Command.IsLocal() {
		if src, _, ok := h.TCPAddrs(); ok {
			from = src.AddrPort().Addr().Unmap()
		}
	}
	if n := br.Buffered(); n > 0 {
		ahead, _ := br.Peek(n) // cannot fail: n bytes are there
		nc = &aheadConn{Conn: nc, ahead: append([]byte(nil), ahead...)}
	}
	return nc, from, nil
}

// aheadConn is a connection of which some bytes were read already.
type aheadConn struct {
	net.Conn
	ahead []byte
}

// Read returns the bytes that were read already, then those of the connection.
func (c *aheadConn) Read(b []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}

// peerAddr is the address of a peer; invalid on a unix socket.
func peerAddr(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
