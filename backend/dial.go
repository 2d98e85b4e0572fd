package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"appbind/config"
	"appbind/wire"
)

// startTLSName is the requestName of StartTLS (RFC 4511 4.14.1).
const startTLSName = "1.3.6.1.4.1.1466.20037"

// userTimeout is after how long unacknowledged data end a TCP connection:
// below the 60 s of operation_timeout, above a short outage of the network.
const userTimeout = 20 * time.Second

// errStartTLSBytes refuses bytes that were injected in clear before the handshake.
var errStartTLSBytes = errors.New("server sent more than the answer to StartTLS before the handshake")

// dialer connects to servers as the configuration says.
type dialer struct {
	timeout  time.Duration
	startTLS bool
	tls      *tls.Config // without ServerName
	name     string      // server_name
	net      net.Dialer
}

// newDialer reads the certificate files.
func newDialer(cfg *config.Upstream) (*dialer, error) {
	d := &dialer{timeout: time.Duration(cfg.ConnectTimeout), startTLS: cfg.StartTLS, name: cfg.ServerName,
		tls: &tls.Config{MinVersion: tls.VersionTLS12}}
	// Active Directory, firewalls and NAT drop idle connections without a word.
	d.net.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
	if cfg.CA != "" {
		pem, err := os.ReadFile(cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("upstream.ca: %w", err)
		}
		d.tls.RootCAs = x509.NewCertPool()
		if !d.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("upstream.ca: no certificate in %s; it must be a PEM file", cfg.CA)
		}
	}
	if cfg.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(cfg.Certificate, cfg.Key)
		if err != nil {
			return nil, fmt.Errorf("upstream.certificate: %w", err)
		}
		d.tls.Certificates = []tls.Certificate{pair}
	}
	return d, nil
}

// dial connects to one server, TLS and StartTLS included, within
// connect_timeout and ctx. Only a connection on which binds may be sent is returned.
func (d *dialer) dial(ctx context.Context, url config.URL) (raw, conn net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	socket, err := d.net.DialContext(ctx, url.Network(), url.Address)
	if err != nil {
		return nil, nil, err
	}
	// From here on the end of ctx breaks whatever read or write is under way.
	release := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	conn, err = d.secure(ctx, socket, url)
	if !release() && err == nil {
		err = ctx.Err() // the deadline is set, or about to be
	}
	if err == nil {
		return socket, conn, nil
	}
	socket.Close()
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return nil, nil, err
}

// secure sets the socket up and puts TLS on it where the server's URL and starttls ask for it.
func (d *dialer) secure(ctx context.Context, raw net.Conn, url config.URL) (net.Conn, error) {
	if tcp, ok := raw.(*net.TCPConn); ok {
		if err := setUserTimeout(tcp, userTimeout); err != nil {
			return nil, fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
		}
	}
	switch {
	case url.Scheme == "ldaps":
	case url.Scheme == "ldap" && d.startTLS:
		if err := startTLS(raw); err != nil {
			return nil, fmt.Errorf("StartTLS: %w", err)
		}
	default:
		return raw, nil
	}
	cfg := d.tls.Clone()
	if cfg.ServerName = d.name; cfg.ServerName == "" {
		cfg.ServerName = strings.TrimSuffix(strings.TrimPrefix(url.Host, "["), "]")
	}
	conn := tls.Client(wire.Carrier(raw), cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return conn, nil
}

// startTLS asks for TLS. Exactly one response is accepted, and no byte behind
// it: what was sent in clear must not be taken for something that TLS protects.
func startTLS(raw net.Conn) error {
	request := wire.AppendMessage(nil, 1, wire.OpExtendedRequest, wire.AppendExtended(nil, startTLSName, nil), nil)
	if _, err := raw.Write(request); err != nil {
		return err
	}
	r := wire.NewReader(raw, wire.MaxBeforeBind)
	m, err := r.Next()
	if err != nil {
		return err
	}
	if err := m.ValidateResponse(); err != nil {
		return err
	}
	if m.ID != 1 || m.Op != wire.OpExtendedResponse {
		return errWrongOp
	}
	result, err := wire.DecodeResult(m.Body)
	if err != nil {
		return err
	}
	if result.Code != wire.ResultSuccess {
		return fmt.Errorf("refused with result %d; the server has no TLS set up, or upstream.starttls must be off", result.Code)
	}
	if r.Buffered() > 0 {
		return errStartTLSBytes
	}
	return nil
}
