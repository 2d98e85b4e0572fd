// Package proxy is the downstream side: what mail servers connect to.
//
// # The way of a message
//
// A listener accepts a connection (listener.go) within the limits (limits.go),
// reads the PROXY protocol header where one is demanded (proxyproto.go) and
// does the TLS handshake where the listener is ldaps (tls.go). From then on one
// goroutine owns the client (conn.go): it reads a message, validates it whole,
// and hands it to the one handler of its operation (dispatch.go).
//
//	bind                       bind.go, external.go    decided by package auth
//	search                     search.go               forwarded, responses filtered
//	compare, modify, add ...   forward.go              forwarded
//	modify, add of secrets     managing.go             judged by package manage, then sent
//	search, app password       appsession.go           answered for the own entry only
//	password modify            passmod.go              makes an app password, or is forwarded
//	extended                   extended.go             StartTLS, Who am I, Cancel; others forwarded
//	abandon, Cancel            abandon.go              mapped to the upstream's message IDs
//
// A handler returns a refusal, which dispatch writes as the result, or it has
// answered or forwarded the request. All result codes stand in result.go.
//
// # Identity
//
// From the receipt of a bind until its success a client is anonymous
// (RFC 4511 4.2.1): its outstanding requests are given up and its link is
// closed, or goes back to the pool when nothing was outstanding. A bind that
// passed through keeps the link on which it succeeded, and every request of the
// client goes over this link, so that the directory's own access rules decide.
// Clients of a service account (service_accounts) share links that are bound as
// it, for searches and compares that leave nothing behind; anything else takes such
// a client to a link of its own (shared.go). The loss of a shared link costs requests, not clients.
// A lost link ends the client; there is never a silent second bind. Anonymous
// clients have links of their own that were never bound. A client that bound
// with an app password has no link: nothing that it sends is forwarded.
//
// # Goroutines
//
// One per listener and one per client; Server owns both and Shutdown waits for
// them. A client that says nothing for a second goes on in a new one, whose stack is small. Responses are written by the reader goroutine of the upstream link,
// through the client's wire.Writer. A client that does not read holds up its
// own link only, and for at most limits.write_stall; the reader of a shared link never
// waits for a client while others have requests on the link.
//
// # Limits
//
// Those of package config. Besides: a client has at most maxOutstanding
// requests under way, and limits.connections leaves a share of the file
// descriptors to the links upstream, see descriptors.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/manage"
)

// recheckEvery is how often an idle session is looked after: whether the app
// password of an app-password session still stands, and whether the link of a
// passed-through session is still there.
const recheckEvery = time.Minute

// Core is what a configuration brings; Reload replaces it as a whole.
type Core struct {
	Config   *config.Config
	Verifier *auth.Verifier
	Upstream *backend.Upstream
	// History takes note of users' binds; nil: nobody does.
	History History
	// Journal is told of changes of app passwords; nil: nobody is.
	Journal manage.Journal
	// Uses tells when app passwords were last used; nil: that is not known.
	Uses Uses
}

// Server serves clients. Make it with New.
type Server struct {
	log     *slog.Logger
	recheck time.Duration // recheckEvery; shorter in tests
	rest    time.Duration // restAfter; shorter in tests
	state   atomic.Pointer[state]
	limits  limiter
	panics  atomic.Int64
	counts  counts
	ahead   atomic.Int64 // bytes of virtual entries that are kept for the next page, of all clients

	// base ends when draining is over: what is still under way then is given up.
	base   context.Context
	giveUp context.CancelFunc

	admin     sync.Mutex  // serialises Start, Reload and Shutdown, which open and close sockets; no client ever takes it
	listeners []*listener // changed under admin and mu

	mu       sync.Mutex // guards listeners for Addrs, and the fields below; no I/O under it
	clients  map[*conn]struct{}
	draining bool
	wg       sync.WaitGroup // the clients
}

// New makes a server. It listens to nothing before Start.
func New(core Core, log *slog.Logger) *Server {
	s := &Server{log: log, recheck: recheckEvery, rest: restAfter, clients: map[*conn]struct{}{}}
	s.base, s.giveUp = context.WithCancel(context.Background())
	s.state.Store(&state{Core: core})
	return s
}

// Start listens on every listener of the configuration, or on none: the error
// then names the first that could not be opened, or the certificate that could
// not be read.
func (s *Server) Start() error {
	return s.Reload(s.state.Load().Core)
}

// Reload puts another core in the place of the present one. Connections stay;
// each uses the new core from its next bind or request on, over the link that it
// has. Listeners that are in both keep their sockets and get the new policy; new
// ones are opened first, and if one cannot be opened nothing changes and the
// error tells which. Listeners that are gone accept no more, their connections
// live on. The previous Upstream may be closed afterwards, in the background:
// its Close waits until the clients have left the links that they own.
func (s *Server) Reload(core Core) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.isDraining() {
		return errors.New("shutting down")
	}
	st, err := newState(core, s.state.Load(), s.log)
	if err != nil {
		return err
	}
	plan, err := s.plan(core.Config)
	if err != nil {
		return err
	}
	s.state.Store(st)
	for i, l := range plan.listeners {
		l.policy.Store(newPolicy(core.Config.Listeners[i]))
	}
	s.mu.Lock()
	s.listeners = plan.listeners
	s.mu.Unlock()
	for _, l := range plan.opened {
		s.log.Info("listening", "listener", l.policy.Load().name, "address", l.ln.Addr().String())
		go l.serve()
	}
	for _, l := range plan.removed {
		l.close()
	}
	return nil
}

// listenPlan is what Reload does to the listeners.
type listenPlan struct {
	listeners []*listener // one for each in the configuration, in its order
	opened    []*listener
	removed   []*listener
}

// plan opens what is new and finds what stays and what goes. On an error what it opened is closed again.
func (s *Server) plan(cfg *config.Config) (listenPlan, error) {
	var p listenPlan
	old := append([]*listener(nil), s.listeners...)
	for _, lc := range cfg.Listeners {
		l := takeListener(&old, lc.URL)
		if l == nil {
			var err error
			if l, err = openListener(s, lc); err != nil {
				for _, o := range p.opened {
					o.ln.Close()
				}
				return p, err
			}
			p.opened = append(p.opened, l)
		} else if err := setMode(lc); err != nil {
			s.log.Warn("socket mode not changed", "listener", listenerName(lc), "err", err)
		}
		p.listeners = append(p.listeners, l)
	}
	p.removed = old
	return p, nil
}

// Addrs are the addresses in the order of the configuration's listeners.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		list[i] = l.ln.Addr()
	}
	return list
}

// Panics is how many of our own bugs were contained so far, each in the connection that it struck.
func (s *Server) Panics() int64 { return s.panics.Load() }

// Shutdown stops accepting, stops reading requests, and waits for operations
// under way, at most for limits.drain or until ctx ends. Every client then gets
// a Notice of Disconnection (unavailable). The error tells that operations were
// given up; all goroutines have ended in any case.
func (s *Server) Shutdown(ctx context.Context) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	s.mu.Lock()
	s.draining = true
	listeners := s.listeners
	clients := make([]*conn, 0, len(s.clients))
	for c := range s.clients {
		clients = append(clients, c)
	}
	s.mu.Unlock()
	for _, l := range listeners {
		l.close()
	}
	for _, c := range clients {
		c.stop(errDrain)
	}
	done := make(chan struct{})
	go func() { // ends with the clients, which are waited for below
		s.wg.Wait()
		close(done)
	}()
	limit := time.NewTimer(time.Duration(s.state.Load().Config.Limits.Drain))
	defer limit.Stop()
	var err error
	select {
	case <-done:
	case <-limit.C:
		err = fmt.Errorf("operations were still under way after limits.drain")
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.giveUp()
	select {
	case <-done:
		return err
	case <-time.After(lingerTime + time.Second):
	}
	// What has not ended now hangs in a write to a client that does not read.
	for _, c := range clients {
		c.kill()
	}
	<-done
	return err
}

// enter takes a new client in; it reports false when the server is draining.
func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.clients[c] = struct{}{}
	s.wg.Add(1)
	return true
}

// leave is the reverse of enter.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	delete(s.clients, c)
	s.mu.Unlock()
	s.wg.Done()
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}
