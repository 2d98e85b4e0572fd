package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"appbind/config"
	"appbind/wire"
)

// certCheckEvery bounds how often handshakes look whether the files have changed.
const certCheckEvery = time.Second

// certificates is the server certificate of the configuration, read again when
// its files change: a handshake looks at their times and sizes, at most once a
// second. Files that cannot be used leave the present certificate in place, and
// are tried again when they change once more.
type certificates struct {
	files     config.TLS
	log       *slog.Logger
	now       func() time.Time
	current   atomic.Pointer[tls.Config]
	seen      atomic.Pointer[[3]fileStamp] // of the files as last tried
	nextCheck atomic.Int64                 // in Unix nanoseconds; whoever moves it does the check
}

// fileStamp tells one state of a file from another.
type fileStamp struct {
	time time.Time
	size int64
}

// newCertificates reads the certificate; nil without an error when none is
// configured. Where previous served the same files, it stays in use if they cannot be read now.
func newCertificates(files config.TLS, previous *certificates, log *slog.Logger) (*certificates, error) {
	if files.Certificate == "" {
		return nil, nil
	}
	c := &certificates{files: files, log: log, now: time.Now}
	err := c.load()
	if err != nil && previous != nil && previous.files == files {
		log.Error("tls certificate not reloaded, the previous one stays", "err", err)
		return previous, nil
	}
	return c, err
}

// load reads the files and puts them to use.
func (c *certificates) load() error {
	stamps := c.stamps()
	c.seen.Store(&stamps)
	cert, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return fmt.Errorf("tls.certificate %s, tls.key %s: %w", c.files.Certificate, c.files.Key, err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if c.files.ClientCA != "" {
		pem, err := os.ReadFile(c.files.ClientCA)
		if err != nil {
			return fmt.Errorf("tls.client_ca: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return errors.New("tls.client_ca " + c.files.ClientCA + " holds no certificate")
		}
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	c.current.Store(cfg)
	return nil
}

// stamps looks at the files; one that is not there has the zero stamp.
func (c *certificates) stamps() (list [3]fileStamp) {
	for i, name := range [...]string{c.files.Certificate, c.files.Key, c.files.ClientCA} {
		if info, err := os.Stat(name); err == nil {
			list[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return list
}

// config is the present configuration of handshakes.
func (c *certificates) config() *tls.Config {
	now, next := c.now(), c.nextCheck.Load()
	if now.UnixNano() < next || !c.nextCheck.CompareAndSwap(next, now.Add(certCheckEvery).UnixNano()) {
		return c.current.Load()
	}
	if c.stamps() == *c.seen.Load() {
		return c.current.Load()
	}
	if err := c.load(); err != nil {
		c.log.Error("tls certificate not reloaded, the previous one stays", "err", err)
	} else {
		c.log.Info("tls certificate reloaded", "file", c.files.Certificate)
	}
	return c.current.Load()
}

// handshake puts TLS on the client's connection. What follows goes through TLS
// only: reader and writer are new, nothing of the clear text is left.
func (c *conn) handshake() error {
	certs := c.srv.state.Load().certs
	if certs == nil {
		return errors.New("tls is no longer configured")
	}
	limit := time.Now().Add(time.Duration(c.srv.limitsNow().Handshake))
	if err := c.sock.SetDeadline(limit); err != nil {
		return err
	}
	t := tls.Server(wire.Carrier(c.sock), certs.config())
	if err := t.HandshakeContext(c.srv.base); err != nil {
		return fmt.Errorf("tls handshake: %w", err)
	}
	if err := c.sock.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.tls = t
	c.certified = len(t.ConnectionState().VerifiedChains) > 0
	c.useStream(t)
	return nil
}
