package backend

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

func authority(t *testing.T) *fakeldap.Authority {
	t.Helper()
	a, err := fakeldap.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *fakeldap.Authority, l fakeldap.Leaf) tls.Certificate {
	t.Helper()
	c, err := a.Issue(l)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bindOnce binds as alice through a new Upstream.
func bindOnce(t *testing.T, cfg *config.Config) error {
	t.Helper()
	u := upstream(t, cfg)
	answer, l, err := u.Bind(testContext(t, 5*time.Second), alice, auth.Password("alicepw"), nil)
	if err != nil {
		return err
	}
	defer l.Close()
	if answer.Code != 0 {
		t.Errorf("code %d", answer.Code)
	}
	return nil
}

func TestLDAPS(t *testing.T) {
	a := authority(t)
	s := fake(t, fakeldap.Options{Handler: directory().Handle,
		TLS: &tls.Config{Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{})}}})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.CA = file(t, "ca.pem", a.PEM())
	if err := bindOnce(t, cfg); err != nil {
		t.Fatal(err)
	}
}

func TestServerName(t *testing.T) {
	a := authority(t)
	s := fake(t, fakeldap.Options{Handler: directory().Handle,
		TLS: &tls.Config{Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{Names: []string{"ldap.example.org"}})}}})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.CA = file(t, "ca.pem", a.PEM())
	cfg.Upstream.ServerName = "ldap.example.org"
	if err := bindOnce(t, cfg); err != nil {
		t.Fatal(err)
	}
}

func TestClientCertificate(t *testing.T) {
	a := authority(t)
	s := fake(t, fakeldap.Options{Handler: directory().Handle, TLS: &tls.Config{
		Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{})},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()}})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.CA = file(t, "ca.pem", a.PEM())
	unavailable(t, bindOnce(t, cfg))
	cert, key, err := fakeldap.PEMs(issue(t, a, fakeldap.Leaf{Subject: "appbind"}))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Upstream.Certificate, cfg.Upstream.Key = file(t, "cert.pem", cert), file(t, "key.pem", key)
	if err := bindOnce(t, cfg); err != nil {
		t.Fatal(err)
	}
}

// Certificates that prove nothing end the connection before any bind, over ldaps and StartTLS alike.
func TestBadCertificates(t *testing.T) {
	a, other := authority(t), authority(t)
	now := time.Now()
	for name, c := range map[string]*tls.Config{
		"expired":     {Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)})}},
		"not yet":     {Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)})}},
		"wrong name":  {Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{Names: []string{"other.example.org", "127.0.0.2"}})}},
		"self-signed": {Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{SelfSigned: true})}},
		"other CA":    {Certificates: []tls.Certificate{issue(t, other, fakeldap.Leaf{})}},
		"TLS 1.1":     {Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{})}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
	} {
		for _, startTLS := range []bool{false, true} {
			t.Run(name+map[bool]string{false: " ldaps", true: " starttls"}[startTLS], func(t *testing.T) {
				o := fakeldap.Options{Handler: directory().Handle, TLS: c}
				if startTLS {
					o.TLS, o.Handler = nil, withStartTLS(c, nil)
				}
				s := fake(t, o)
				cfg := testConfig(urlOf(s))
				cfg.Upstream.CA, cfg.Upstream.StartTLS = file(t, "ca.pem", a.PEM()), startTLS
				unavailable(t, bindOnce(t, cfg))
				if n := len(s.Received(wire.OpBindRequest)); n != 0 {
					t.Errorf("%d binds were sent", n)
				}
			})
		}
	}
}

// withStartTLS accepts StartTLS, injecting extra in clear.
func withStartTLS(c *tls.Config, extra []byte) fakeldap.Handler {
	dir := directory()
	return func(conn *fakeldap.Conn, m wire.Message) {
		if fakeldap.IsStartTLS(m) {
			conn.StartTLS(m, c, extra)
			return
		}
		dir.Handle(conn, m)
	}
}

func TestStartTLS(t *testing.T) {
	a := authority(t)
	s := fake(t, fakeldap.Options{Handler: withStartTLS(&tls.Config{Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{})}}, nil)})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.CA, cfg.Upstream.StartTLS = file(t, "ca.pem", a.PEM()), true
	if err := bindOnce(t, cfg); err != nil {
		t.Fatal(err)
	}
}

// Without a plain yes to StartTLS nothing else is said: no bind goes out in clear.
func TestStartTLSRefused(t *testing.T) {
	a := authority(t)
	good := &tls.Config{Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{})}}
	inject := wire.AppendResult(nil, 2, wire.OpBindResponse, 0, "")
	answer := func(f func(c *fakeldap.Conn, m wire.Message)) fakeldap.Handler {
		dir := directory()
		return func(c *fakeldap.Conn, m wire.Message) {
			if fakeldap.IsStartTLS(m) {
				f(c, m)
				return
			}
			dir.Handle(c, m)
		}
	}
	for name, h := range map[string]fakeldap.Handler{
		"protocolError": answer(func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 2) }),
		"refuses, speaks TLS": answer(func(c *fakeldap.Conn, m wire.Message) {
			c.Answer(m, 2)
			c.Handshake(good)
		}),
		"unavailable": answer(func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 52) }),
		"referral":    answer(func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, 10) }),
		"closes":      answer(func(c *fakeldap.Conn, _ wire.Message) { c.Close() }),
		"nothing":     answer(func(*fakeldap.Conn, wire.Message) {}),
		"wrong id":    answer(func(c *fakeldap.Conn, m wire.Message) { c.Result(m.ID+1, wire.OpExtendedResponse, 0, "") }),
		"wrong op":    answer(func(c *fakeldap.Conn, m wire.Message) { c.Result(m.ID, wire.OpBindResponse, 0, "") }),
		"notice":      answer(func(c *fakeldap.Conn, _ wire.Message) { c.Write(wire.AppendNotice(nil, 52, "")) }),
		"garbage":     answer(func(c *fakeldap.Conn, _ wire.Message) { c.Write([]byte("\x16\x03\x01")) }),
		"injected":    withStartTLS(good, inject),
		"one byte":    withStartTLS(good, []byte{0x30}),
	} {
		t.Run(name, func(t *testing.T) {
			s := fake(t, fakeldap.Options{Handler: h})
			cfg := testConfig(urlOf(s))
			cfg.Upstream.CA, cfg.Upstream.StartTLS = file(t, "ca.pem", a.PEM()), true
			cfg.Upstream.ConnectTimeout = config.Duration(200 * time.Millisecond)
			unavailable(t, bindOnce(t, cfg))
			if n := len(s.Received(wire.OpBindRequest)); n != 0 {
				t.Errorf("%d binds in clear", n)
			}
		})
	}
}

// connect_timeout bounds all of it: a server that accepts and then says nothing.
func TestConnectTimeout(t *testing.T) {
	a := authority(t)
	hold := make(chan struct{})
	s := fake(t, fakeldap.Options{Accepted: func(*fakeldap.Conn) { <-hold },
		TLS: &tls.Config{Certificates: []tls.Certificate{issue(t, a, fakeldap.Leaf{})}}})
	defer close(hold)
	cfg := testConfig(urlOf(s))
	cfg.Upstream.ConnectTimeout = config.Duration(100 * time.Millisecond)
	u := unstarted(t, cfg)
	defer u.Close()
	start := time.Now()
	_, err := u.BindLink(testContext(t, 5*time.Second))
	unavailable(t, err)
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestLDAPI(t *testing.T) {
	dir, err := os.MkdirTemp("", "appbind")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := fake(t, fakeldap.Options{Handler: directory().Handle, Socket: filepath.Join(dir, "ldapi")})
	cfg := testConfig(urlOf(s))
	cfg.Upstream.StartTLS = true // for ldap:// only
	if err := bindOnce(t, cfg); err != nil {
		t.Fatal(err)
	}
}

func TestNewRefusesFiles(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"no such ca":        func(c *config.Config) { c.Upstream.CA = "/nonexistent/ca.pem" },
		"ca without a cert": func(c *config.Config) { c.Upstream.CA = file(t, "ca.pem", []byte("nothing")) },
		"no such cert":      func(c *config.Config) { c.Upstream.Certificate = "/nonexistent/cert.pem" },
		"filter":            func(c *config.Config) { c.Users.Filter = "(((" },
		"enabled filter":    func(c *config.Config) { c.Users.EnabledFilter = "nonsense" },
		"base":              func(c *config.Config) { c.Users.Bases = []string{"nonsense"} },
	} {
		cfg := testConfig(config.URL{Scheme: "ldap", Address: "127.0.0.1:1"})
		change(cfg)
		_, err := New(cfg, (&logBuffer{}).logger())
		if err == nil || !strings.Contains(err.Error(), ".") {
			t.Errorf("%s: error %v, want one that names the key", name, err)
		}
	}
}

func TestClosedLinkIsNotUnsent(t *testing.T) {
	if errors.Is(errClosed, ErrNotSent) {
		t.Error("a closed link must not look as if nothing was sent")
	}
}
