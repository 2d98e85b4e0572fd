package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"appbind/wire"
)

// idleConns is how many connections are held open without a word on them.
const idleConns = 10000

// settle is how long a process is left alone before its memory is read.
const settle = 3 * time.Second

// idleResult is what idle connections cost.
type idleResult struct {
	Name  string
	Bytes int64 // of resident memory, for each connection
	Err   error
}

// measureIdle holds connections to each server, on each of which an app
// password has logged in (to slapd: nobody), and reads
// what the process has grown by. The servers are new, so that no memory of
// earlier work hides anything.
func (h *house) measureIdle(descriptors uint64) []idleResult {
	results := []idleResult{{Name: "slapd, clear, anonymous"}, {Name: "appbind, clear, logged in with an app password"},
		{Name: "appbind, TLS, logged in with an app password"}}
	if descriptors < idleConns+1000 {
		for i := range results {
			results[i].Err = fmt.Errorf("%w: needs ulimit -n %d, here it is %d", errNotAvailable, idleConns+1000, descriptors)
		}
		return results
	}
	for i := range results {
		results[i].Bytes, results[i].Err = h.idleOf(i)
	}
	return results
}

// idleOf measures the i-th of the results.
func (h *house) idleOf(i int) (int64, error) {
	if i == 0 {
		s, err := h.startSlapdEmpty()
		if err != nil {
			return 0, err
		}
		defer s.stop()
		open := func(int) (net.Conn, error) { return login(s.addr, nil, bindStep("", "", 0)) }
		return hold(s.process, open, func() error { return nil })
	}
	s, err := h.proxy(ours, "live", true)
	if err != nil {
		return 0, err
	}
	addr, config, name := s.addr, (*tls.Config)(nil), "clear"
	if i == 2 {
		name = "tls"
		addr, config = s.tls, anyCertificate
	}
	accounts := h.site.accounts[:usersWith1]
	open := func(n int) (net.Conn, error) {
		a := &accounts[n%len(accounts)]
		return login(addr, config, bindStep(a.dn, a.apps[0], 0))
	}
	return hold(s.process, open, func() error { return h.saveMemory(s, "idle-"+name) })
}

// anyCertificate is how the benchmark's clients do TLS.
var anyCertificate = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a certificate of our own on loopback

// startSlapdEmpty is a slapd with no entry, for anonymous connections.
func (h *house) startSlapdEmpty() (*server, error) {
	empty := h.dir + "/empty.ldif"
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		return nil, err
	}
	return h.startSlapd("idle-slapd", empty)
}

// hold opens all connections and reads the memory of the process before and after; then look has a look at it.
func hold(p *process, open func(n int) (net.Conn, error), look func() error) (int64, error) {
	warm, err := open(0) // what the first one costs is not of each
	if err != nil {
		return 0, err
	}
	defer warm.Close()
	<-time.After(settle)
	before, err := p.resident()
	if err != nil {
		return 0, err
	}
	conns, errs := make([]net.Conn, idleConns), make([]error, idleConns)
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for n := worker; n < idleConns; n += 16 {
				conns[n], errs[n] = open(n)
			}
		})
	}
	wg.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	<-time.After(settle)
	after, err := p.resident()
	if err == nil {
		err = look()
	}
	return (after - before) / idleConns, err
}

// login opens a connection, with TLS where config is given, and sends one bind.
func login(addr string, config *tls.Config, bind step) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	if config != nil {
		conn = tls.Client(conn, config)
	}
	f := flight{id: 1, step: bind}
	err = conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = conn.Write(wire.AppendMessage(nil, f.id, bind.op, bind.body, nil))
	}
	var m wire.Message
	if err == nil {
		m, err = wire.NewReader(conn, wire.MaxFromUpstream).Next()
	}
	if err == nil {
		err = f.check(m)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// writeCertificate makes a certificate for the listeners.
func writeCertificate(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	err = os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600)
	if err != nil {
		return err
	}
	return os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}
