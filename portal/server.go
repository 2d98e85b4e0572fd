package portal

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"appbind/config"
)

// Bounds of one connection.
const (
	requestTime  = 10 * time.Second // for a request to arrive
	responseTime = 90 * time.Second // a change may wait for a directory
	idleTime     = 2 * time.Minute
	maxHeader    = 16 << 10
	maxStreams   = 32 // requests of one connection at one time
)

// Server is the address of the pages. It answers 503 until Use has given it some.
type Server struct {
	log    *slog.Logger
	ln     net.Listener
	http   *http.Server
	done   chan struct{} // closed when the server has ended
	portal atomic.Pointer[Portal]
	keys   keyPair
}

// Listen opens the address of a configuration and serves there.
func Listen(cfg *config.Portal, log *slog.Logger) (*Server, error) {
	s := &Server{log: log, done: make(chan struct{})}
	s.keys.name(cfg)
	if cfg.Certificate != "" {
		if _, err := s.keys.get(nil); err != nil {
			return nil, fmt.Errorf("portal.certificate: %w", err)
		}
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("portal.listen: %w", err)
	}
	s.ln = ln
	ln = newBounded(ln, s.isProxy)
	if cfg.Certificate != "" {
		ln = tls.NewListener(ln, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.keys.get, NextProtos: []string{"h2", "http/1.1"}})
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: requestTime, ReadTimeout: requestTime, WriteTimeout: responseTime,
		IdleTimeout: idleTime, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams}}
	log.Info("serving the self-service pages", "address", s.ln.Addr().String(), "url", cfg.URL)
	go func() { // ends with the server, which Close waits for
		defer close(s.done)
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the self-service pages are not served any more", "err", err)
		}
	}()
	return s, nil
}

// ServeHTTP is http.Handler's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p := s.portal.Load(); p != nil {
		p.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Retry-After", "10")
	http.Error(w, "The pages are not ready yet.", http.StatusServiceUnavailable)
}

// Use serves these pages from now on; nil: none, every request is answered 503.
func (s *Server) Use(p *Portal) {
	if p != nil {
		s.keys.name(p.cfg)
	}
	s.portal.Store(p)
}

// isProxy reports whether an address is one of portal.trusted_proxies.
func (s *Server) isProxy(a netip.Addr) bool {
	p := s.portal.Load()
	return p != nil && within(a, p.cfg.TrustedProxies)
}

// Addr is the address that is served.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

// Close ends the server when the requests under way are answered, at the latest when ctx ends.
func (s *Server) Close(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.done
}

// keyPair is a certificate that is read again when its file has changed.
type keyPair struct {
	mu                sync.Mutex // guards all below
	certificate, file string     // of the certificate, of the key
	pair              *tls.Certificate
	modified          time.Time
}

// name says which files it is read from.
func (k *keyPair) name(cfg *config.Portal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.certificate != cfg.Certificate || k.file != cfg.Key {
		k.certificate, k.file, k.modified = cfg.Certificate, cfg.Key, time.Time{}
	}
}

// get is the certificate of the moment. New files that do not fit leave the old one.
func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	certificate, key, pair, modified := k.certificate, k.file, k.pair, k.modified
	k.mu.Unlock()
	info, err := os.Stat(certificate)
	if err == nil && (pair == nil || !info.ModTime().Equal(modified)) {
		var fresh tls.Certificate
		if fresh, err = tls.LoadX509KeyPair(certificate, key); err == nil {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.pair, k.modified = &fresh, info.ModTime()
			return &fresh, nil
		}
	}
	if pair != nil {
		return pair, nil
	}
	return nil, err
}
