package backend

import (
	"context"
	"net"

	"appbind/config"
)

// Connect connects to one server as links do, TLS included and within
// connect_timeout, for a client that is not on the way of a request: the
// command line's. The connection is the caller's; nothing was sent on it but StartTLS.
func (u *Upstream) Connect(ctx context.Context, server config.URL) (net.Conn, error) {
	_, conn, err := u.dialer.dial(ctx, server)
	return conn, err
}
