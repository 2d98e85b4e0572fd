package proxy

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// certFiles are certificate files for a listener.
type certFiles struct {
	t         *testing.T
	authority *fakeldap.Authority
	files     config.TLS
}

func newCertFiles(t *testing.T) *certFiles {
	t.Helper()
	a, err := fakeldap.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := &certFiles{t: t, authority: a, files: config.TLS{
		Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}}
	c.issue("first")
	return c
}

func (c *certFiles) write(name string, b []byte) {
	c.t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// issue writes a new certificate with a common name.
func (c *certFiles) issue(subject string) {
	c.t.Helper()
	leaf, err := c.authority.Issue(fakeldap.Leaf{Subject: subject})
	if err != nil {
		c.t.Fatal(err)
	}
	cert, key, err := fakeldap.PEMs(leaf)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(c.files.Certificate, cert)
	c.write(c.files.Key, key)
}

// client is a configuration of TLS clients.
func (c *certFiles) client(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: c.authority.Pool(), ServerName: "127.0.0.1", Certificates: certs}
}

// ldaps makes the listener of a configuration ldaps.
func (c *certFiles) ldaps(cfg *config.Config) {
	cfg.TLS = c.files
	cfg.Listeners[0].URL.Scheme = "ldaps"
	cfg.Listeners[0].Cleartext = "refuse"
}

// dialTLS connects with TLS.
func (r *rig) dialTLS(cfg *tls.Config) (*client, *tls.Conn) {
	r.t.Helper()
	nc, err := tls.Dial("tcp", r.server.Addrs()[0].String(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	return newClient(r.t, nc), nc
}

func TestLDAPS(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, certs.ldaps)
	c, nc := r.dialTLS(certs.client())
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	if dns, code := c.search(2, aliceUser, wire.ScopeBase, anyEntry); len(dns) != 1 || code != 0 {
		t.Errorf("%v, %d", dns, code)
	}
	if v := nc.ConnectionState().Version; v < tls.VersionTLS12 {
		t.Errorf("version %#x", v)
	}
	old := certs.client()
	old.MaxVersion, old.MinVersion = tls.VersionTLS11, tls.VersionTLS10
	if nc, err := tls.Dial("tcp", r.server.Addrs()[0].String(), old); err == nil {
		nc.Close()
		t.Error("TLS 1.1 was accepted")
	}
	c.write([]byte("junk"))
	c.wantNotice(wire.ResultProtocolError)
}

func TestTLSDeadlines(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, certs.ldaps, short)
	r.dial().wantEnd() // no handshake
	c, _ := r.dialTLS(certs.client())
	c.wantEnd() // no message
	c, _ = r.dialTLS(certs.client())
	c.write(bindRequest(1, serviceDN, servicePW)[:5])
	c.wantEnd() // half a message
}

func TestTLSClientThatDoesNotRead(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, certs.ldaps, func(cfg *config.Config) { cfg.Limits.WriteStall = config.Duration(300 * time.Millisecond) })
	r.up.SetHandler(r.flood(2000))
	c, _ := r.dialTLS(certs.client())
	c.bind(1, serviceDN, servicePW, wire.ResultSuccess)
	c.write(searchRequest(2, "cn=flood", wire.ScopeBase, anyEntry))
	if !eventually(func() bool { return clientCount(r.server) == 0 }) {
		t.Fatal("the client was not closed")
	}
}

func TestTLSSessionIsRechecked(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, certs.ldaps)
	c, _ := r.dialTLS(certs.client())
	c.bind(1, aliceUser, phonePW, wire.ResultSuccess)
	timer := time.NewTimer(4 * r.server.recheck) // the read is woken up and goes on
	defer timer.Stop()
	<-timer.C
	if got := c.whoAmI(2); got != "dn:"+aliceUser {
		t.Errorf("who am i: %q", got)
	}
	r.revoke()
	c.wantNotice(wire.ResultStrongerAuthRequired)
}

// startTLS takes a client to TLS.
func (c *client) startTLS(id int32, cfg *tls.Config) *client {
	c.t.Helper()
	c.write(extendedRequest(id, oidStartTLS, nil))
	c.want(id, wire.OpExtendedResponse, wire.ResultSuccess)
	nc := tls.Client(c.nc, cfg)
	if err := nc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	return newClient(c.t, nc)
}

func TestStartTLS(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, func(cfg *config.Config) {
		cfg.TLS = certs.files
		cfg.Listeners[0].Cleartext = "refuse"
	})
	c := r.dial()
	c.bind(1, serviceDN, servicePW, wire.ResultConfidentialityRequired)
	if !strings.Contains(rootDSE(c, 2), oidStartTLS) {
		t.Error("StartTLS is not offered")
	}
	c = c.startTLS(3, certs.client())
	if strings.Contains(rootDSE(c, 4), oidStartTLS) {
		t.Error("StartTLS is offered again")
	}
	c.bind(5, serviceDN, servicePW, wire.ResultSuccess)
	c.write(extendedRequest(6, oidStartTLS, nil))
	c.want(6, wire.OpExtendedResponse, wire.ResultOperationsError)
	if got := c.whoAmI(7); got != "dn:"+serviceDN {
		t.Errorf("who am i: %q", got)
	}
}

// rootDSE is the raw root DSE.
func rootDSE(c *client, id int32) string {
	c.t.Helper()
	s := wire.SearchRequest{Filter: anyEntry, Attributes: wire.AppendStrings(nil, "*", "+")}
	c.write(wire.AppendMessage(nil, id, wire.OpSearchRequest, s.Append(nil), nil))
	raw := string(c.read().Raw)
	c.want(id, wire.OpSearchResultDone, wire.ResultSuccess)
	return raw
}

func TestStartTLSMakesAnonymous(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, func(cfg *config.Config) { cfg.TLS = certs.files })
	c := r.bound()
	c = c.startTLS(2, certs.client())
	if got := c.whoAmI(3); got != "" {
		t.Errorf("still %q", got)
	}
}

func TestStartTLSNotConfigured(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	c.write(extendedRequest(1, oidStartTLS, nil))
	c.want(1, wire.OpExtendedResponse, wire.ResultProtocolError)
	c.bind(2, serviceDN, servicePW, wire.ResultSuccess)
	if strings.Contains(rootDSE(c, 3), oidStartTLS) {
		t.Error("StartTLS is offered")
	}
}

// TestStartTLSInjection: what came in clear behind StartTLS never acts, in clear or through TLS.
func TestStartTLSInjection(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, func(cfg *config.Config) { cfg.TLS = certs.files })
	start := extendedRequest(1, oidStartTLS, nil)
	for name, injected := range map[string][]byte{
		"bind":       bindRequest(2, serviceDN, servicePW),
		"delete":     deleteRequest(2, "dc=x"),
		"half":       deleteRequest(2, "dc=x")[:4],
		"one byte":   {0x30},
		"start":      start,
		"junk":       []byte("xxxxxxxx"),
		"whole flow": append(bindRequest(2, serviceDN, servicePW), deleteRequest(3, "dc=x")...),
	} {
		t.Run(name, func(t *testing.T) {
			before := len(r.up.Received(wire.OpDelRequest))
			c := r.dial()
			c.t = t
			c.write(start, injected)
			c.want(1, wire.OpExtendedResponse, wire.ResultOperationsError)
			c.wantEnd()
			if len(r.up.Received(wire.OpDelRequest)) != before {
				t.Error("an injected request reached the upstream")
			}
		})
	}
	t.Run("after the answer", func(t *testing.T) {
		c := r.dial()
		c.t = t
		c.write(start)
		c.want(1, wire.OpExtendedResponse, wire.ResultSuccess)
		c.write(deleteRequest(2, "dc=x"))
		if m, err := c.r.Next(); err == nil { // a TLS alert at most
			t.Errorf("answered in clear: %#x", m.Op)
		}
	})
	t.Run("with a request outstanding", func(t *testing.T) {
		c := r.bound()
		c.t = t
		held := r.hold(wire.OpDelRequest)
		c.write(deleteRequest(2, "dc=x"))
		next(t, held)
		c.write(extendedRequest(3, oidStartTLS, nil))
		c.want(3, wire.OpExtendedResponse, wire.ResultOperationsError)
		c.wantEnd()
	})
}

// servedBy is the common name of the certificate that is served now.
func servedBy(t *testing.T, r *rig, certs *certFiles) string {
	t.Helper()
	_, nc := r.dialTLS(certs.client())
	return nc.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestCertificateIsReadAgain(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t, certs.ldaps)
	now := time.Now()
	r.server.state.Load().certs.now = func() time.Time { return now } // only handshakes one after the other look at it
	if got := servedBy(t, r, certs); got != "first" {
		t.Fatal(got)
	}
	established, _ := r.dialTLS(certs.client())
	touch := func() {
		t.Helper()
		stamp := now.Add(time.Hour)
		if err := os.Chtimes(certs.files.Certificate, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * certCheckEvery)
	}
	certs.issue("second")
	if got := servedBy(t, r, certs); got != "first" {
		t.Errorf("%s: looked more than once a second", got)
	}
	touch()
	if got := servedBy(t, r, certs); got != "second" {
		t.Errorf("%s is served still", got)
	}
	certs.write(certs.files.Certificate, []byte("junk"))
	now = now.Add(time.Minute)
	touch()
	if got := servedBy(t, r, certs); got != "second" {
		t.Errorf("%s is served in place of the last good one", got)
	}
	if !strings.Contains(r.log.String(), "tls certificate not reloaded") {
		t.Error("the bad file is not in the log")
	}
	if err := r.server.Reload(r.core(r.cfg)); err != nil {
		t.Errorf("reload with a bad file: %v", err)
	}
	if got := servedBy(t, r, certs); got != "second" {
		t.Errorf("%s after a reload with a bad file", got)
	}
	certs.issue("third")
	if err := r.server.Reload(r.core(r.cfg)); err != nil {
		t.Fatal(err)
	}
	if got := servedBy(t, r, certs); got != "third" {
		t.Errorf("%s after a reload", got)
	}
	established.bind(1, serviceDN, servicePW, wire.ResultSuccess)
}

func TestBadCertificateAtStart(t *testing.T) {
	certs := newCertFiles(t)
	r := newRig(t)
	certs.write(certs.files.Key, []byte("junk"))
	cfg := r.config(certs.ldaps)
	if err := New(r.core(cfg), r.logger()).Start(); err == nil || !strings.Contains(err.Error(), certs.files.Certificate) {
		t.Errorf("start: %v", err)
	}
	cfg = r.config(func(cfg *config.Config) { cfg.Listeners[0].URL.Scheme = "ldaps" })
	if err := New(r.core(cfg), r.logger()).Start(); err == nil || !strings.Contains(err.Error(), "tls.certificate") {
		t.Errorf("start without a certificate: %v", err)
	}
}

func TestExternalByCertificate(t *testing.T) {
	certs := newCertFiles(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	certs.write(ca, certs.authority.PEM())
	certs.files.ClientCA = ca
	r := newRig(t, certs.ldaps, func(cfg *config.Config) {
		cfg.External = []config.External{{Subject: "cn=mail", DN: serviceDN, Password: servicePW}}
	})
	issue := func(a *fakeldap.Authority, subject string) tls.Certificate {
		leaf, err := a.Issue(fakeldap.Leaf{Subject: subject})
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	for _, tc := range []struct {
		subject string
		code    int32
	}{{"mail", wire.ResultSuccess}, {"Mail", wire.ResultInvalidCredentials}, {"mail2", wire.ResultInvalidCredentials}} {
		c, _ := r.dialTLS(certs.client(issue(certs.authority, tc.subject)))
		if offered := strings.Contains(rootDSE(c, 1), mechanismExternal); offered != (tc.code == 0) {
			t.Errorf("%s: offered %v", tc.subject, offered)
		}
		c.write(saslBind(2, mechanismExternal, ""))
		c.want(2, wire.OpBindResponse, tc.code)
	}
	c, _ := r.dialTLS(certs.client())
	c.write(saslBind(1, mechanismExternal, ""))
	c.want(1, wire.OpBindResponse, wire.ResultInvalidCredentials)
	other, err := fakeldap.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	stranger := issue(other, "mail")
	cfg := certs.client()
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
	nc, err := tls.Dial("tcp", r.server.Addrs()[0].String(), cfg)
	if err == nil { // TLS 1.3 tells it with the first read
		defer nc.Close()
		c := newClient(t, nc)
		c.write(saslBind(1, mechanismExternal, ""))
		if m, err := c.r.Next(); err == nil {
			t.Errorf("a certificate of another authority was answered: %#x", m.Op)
		}
	}
}

func TestSameName(t *testing.T) {
	parse := func(s string) wire.DN {
		dn, err := wire.ParseDN(s)
		if err != nil {
			t.Fatal(err)
		}
		return dn
	}
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"CN=mail,O=Example", "cn=mail,o=Example", true},
		{"CN=mail,O=Example", "CN=Mail,O=Example", false},
		{"CN=mail,O=Example", "O=Example,CN=mail", false},
		{"CN=mail", "CN=mail,O=Example", false},
		{"CN=mail+OU=x", "CN=mail", false},
		{`CN=a\,b`, `CN=a\2cb`, true},
	} {
		if got := sameName(parse(tc.a), parse(tc.b)); got != tc.same {
			t.Errorf("%s and %s: %v", tc.a, tc.b, got)
		}
	}
}
