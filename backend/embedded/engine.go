package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jimlambrt/gldap"
)

// startWait bounds the time until gldap listens; stopWait the time that it waits
// for connections that others have opened to its own port.
const (
	startWait = 5 * time.Second
	stopWait  = 2 * time.Second
)

// engine is one gldap server on a port of its own, which only the gate dials.
type engine struct {
	server *gldap.Server
	addr   string
	done   chan struct{} // closed when the accept loop has ended
}

// startEngine starts a gldap server. The system chooses the port, so that there is
// none to be in conflict with, and gldap tells it in its log.
func startEngine(h *handlers) (*engine, error) {
	logger := &bridge{Logger: hclog.NewNullLogger(), log: h.log, listening: make(chan net.Addr, 1)}
	server, err := gldap.NewServer(gldap.WithLogger(logger), gldap.WithOnClose(h.sessions.closed))
	if err != nil {
		return nil, err
	}
	mux, err := h.route()
	if err != nil {
		return nil, err
	}
	if err := server.Router(mux); err != nil {
		return nil, err
	}
	e := &engine{server: server, done: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		defer close(e.done)
		ended <- server.Run("127.0.0.1:0")
	}()
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case addr := <-logger.listening:
		e.addr = addr.String()
		return e, nil
	case err := <-ended:
		return nil, fmt.Errorf("the embedded directory cannot listen: %w", err)
	case <-timer.C:
		return nil, errors.Join(errors.New("the embedded directory does not say that it listens"), server.Stop())
	}
}

// stop ends the server and waits for its connections, which the gate has closed
// before. Only a program that has dialled this port itself can still hold one;
// gldap has no way to close it.
func (e *engine) stop(log *slog.Logger) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := e.server.Stop(); err != nil {
			log.Warn("the embedded directory did not stop cleanly", "error", err)
		}
		<-e.done
	}()
	timer := time.NewTimer(stopWait)
	defer timer.Stop()
	select {
	case <-stopped:
	case <-timer.C:
		log.Warn("another program holds a connection to the private port of the embedded directory")
	}
}

// bridge is gldap's logger. It hears one thing, the address that gldap listens on,
// and passes the text of warnings and errors on without their arguments, which
// may hold what a client has sent. Debug must stay off: gldap would print
// whole messages, passwords included.
type bridge struct {
	hclog.Logger
	log       *slog.Logger
	listening chan net.Addr
	once      sync.Once
}

// Info implements hclog.Logger.
func (b *bridge) Info(msg string, args ...any) {
	if msg != "listening" {
		return
	}
	for _, a := range args {
		if addr, ok := a.(net.Addr); ok {
			b.once.Do(func() { b.listening <- addr })
		}
	}
}

// Warn implements hclog.Logger.
func (b *bridge) Warn(msg string, _ ...any) { b.log.Debug("embedded directory: " + msg) }

// Error implements hclog.Logger.
func (b *bridge) Error(msg string, _ ...any) { b.log.Debug("embedded directory: " + msg) }
