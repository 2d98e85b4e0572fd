package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// authority is a certificate authority of the test's own.
type authority struct {
	dir, file string // file is its certificate
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
	pool      *x509.CertPool
	serial    int64
}

// newAuthority makes an authority.
func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &authority{dir: shortDir(t), key: key, serial: 1}
	ca.file = ca.dir + "/ca.pem"
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority " + filepath.Base(ca.dir)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.pool = x509.NewCertPool()
	ca.pool.AddCert(ca.cert)
	writePEM(t, ca.file, "CERTIFICATE", der)
	return ca
}

// pair is a certificate with its key, as files.
type pair struct {
	cert, key string
	serial    int64
}

// issue makes a certificate of 127.0.0.1 for servers and clients.
func (ca *authority) issue(t testing.TB, subject pkix.Name) pair {
	t.Helper()
	ca.serial++
	name := ca.dir + "/" + strconv.FormatInt(ca.serial, 10)
	p := pair{cert: name + ".pem", key: name + ".key", serial: ca.serial}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial), Subject: subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, p.cert, "CERTIFICATE", der)
	writePEM(t, p.key, "PRIVATE KEY", private)
	return p
}

// named is a subject with a common name alone.
func named(name string) pkix.Name { return pkix.Name{CommonName: name} }

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// install puts the contents of p into the files of to, each in one step.
func (p pair) install(t testing.TB, to pair) {
	t.Helper()
	for from, name := range map[string]string{p.key: to.key, p.cert: to.cert} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		replaceFile(t, name, string(text))
	}
}

// replaceFile changes a file in one step, as careful programs do.
func replaceFile(t testing.TB, name, text string) {
	t.Helper()
	write(t, name+".new", text)
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// client is a TLS configuration that trusts the authority and shows a certificate, if one is given.
func (ca *authority) client(t testing.TB, certs ...pair) *tls.Config {
	t.Helper()
	cfg := &tls.Config{RootCAs: ca.pool, ServerName: "127.0.0.1"}
	for _, p := range certs {
		c, err := tls.LoadX509KeyPair(p.cert, p.key)
		if err != nil {
			t.Fatal(err)
		}
		// Whatever authorities the server would take.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
	}
	return cfg
}

// dialTLS connects a client to an ldaps listener, or to an ldap one by StartTLS.
func dialTLS(t testing.TB, uri string, cfg *tls.Config) *ldap.Conn {
	t.Helper()
	c, err := connectTLS(uri, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// connectTLS is dialTLS that returns its error and leaves the connection to the caller.
func connectTLS(uri string, cfg *tls.Config) (*ldap.Conn, error) {
	c, err := ldap.DialURL(uri, ldap.DialWithTLSConfig(cfg))
	if err != nil {
		return nil, err
	}
	c.SetTimeout(patience)
	if _, secured := c.TLSConnectionState(); secured {
		return c, nil
	}
	if err := c.StartTLS(cfg); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// secured runs an LDAP tool that trusts the authority.
func (ca *authority) secured(t testing.TB, tool string, args ...string) result {
	t.Helper()
	return command(t, "", "env", append([]string{"LDAPTLS_CACERT=" + ca.file, tool}, args...)...)
}
