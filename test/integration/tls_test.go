package integration

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// serverTLS is the tls section of a configuration.
func serverTLS(p pair, clientCA string) string {
	text := fmt.Sprintf("tls:\n  certificate: %s\n  key: %s\n", p.cert, p.key)
	if clientCA != "" {
		text += "  client_ca: " + clientCA + "\n"
	}
	return text
}

// TestTLS: ldaps and StartTLS with real clients, and passwords in clear refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	ca, stranger := newAuthority(t), newAuthority(t)
	a := startAppbind(t, baseConfig(s, `  - url: ldaps://127.0.0.1:0
  - url: ldap://127.0.0.1:0
    cleartext: refuse
`, serverTLS(ca.issue(t, named("appbind.example.org")), "")))
	ldaps, plain := a.urls[0], a.urls[1]

	t.Run("clients", func(t *testing.T) {
		for _, way := range [][]string{{"-H", ldaps}, {"-H", plain, "-ZZ"}} {
			for _, password := range []string{phone.Password, "alice-main"} {
				args := append([]string{"-x", "-LLL", "-D", userDN("alice"), "-w", password, "-b", userDN("alice"), "-s", "base", "mail"}, way...)
				if r := ca.secured(t, "ldapsearch", args...); r.code != 0 || !strings.Contains(r.out, "mail: alice@example.org") {
					t.Errorf("ldapsearch %v: exit status %d\n%s%s", way, r.code, r.out, r.err)
				}
			}
			if r := ca.secured(t, "ldapwhoami", append([]string{"-x", "-D", userDN("alice"), "-w", "wrong"}, way...)...); r.code != 49 {
				t.Errorf("wrong password %v: exit status %d, want 49", way, r.code)
			}
			if r := stranger.secured(t, "ldapwhoami", append([]string{"-x"}, way...)...); r.code == 0 {
				t.Errorf("%v: a client that trusts another authority goes on", way)
			}
		}
		for _, way := range [][]string{{"-connect", hostPort(ldaps)}, {"-connect", hostPort(plain), "-starttls", "ldap"}} {
			r := command(t, "", "openssl", append([]string{"s_client", "-CAfile", ca.file, "-verify_return_error", "-brief"}, way...)...)
			if r.code != 0 || !strings.Contains(r.err, "CN = appbind.example.org") || !strings.Contains(r.err, "Verification: OK") {
				t.Errorf("openssl %v: exit status %d\n%s", way, r.code, r.err)
			}
		}
		old := ca.client(t)
		old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		if c, err := connectTLS(ldaps, old); err == nil {
			c.Close()
			t.Error("TLS 1.1 is accepted")
		}
	})

	t.Run("clear text", func(t *testing.T) {
		for _, dn := range []string{userDN("bob"), mailDN, adminDN, serviceDN, userDN("nobody")} {
			before := s.bindsOf(dn)
			for _, password := range []string{"bob-main", mailPW, adminPW, phone.Password} {
				if got := simpleBind(t, plain, dn, password); got != 13 {
					t.Errorf("%s in clear: code %d, want 13", dn, got)
				}
			}
			if n := s.bindsOf(dn) - before; n > 0 {
				t.Errorf("%s in clear reaches the directory %d times", dn, n)
			}
		}
		if got := simpleBind(t, plain, "", ""); got != 0 {
			t.Errorf("anonymous in clear: code %d", got)
		}
		c := dial(t, plain)
		if got := codeOf(c.Bind(userDN("alice"), phone.Password)); got != 13 {
			t.Errorf("before StartTLS: code %d, want 13", got)
		}
		if err := c.StartTLS(ca.client(t)); err != nil {
			t.Fatal(err)
		}
		if got := codeOf(c.Bind(userDN("alice"), phone.Password)); got != 0 {
			t.Errorf("after StartTLS: code %d, want 0", got)
		}
	})
}

// hostPort is the address in a URL.
func hostPort(uri string) string {
	_, address, _ := strings.Cut(uri, "://")
	return address
}

// TestCertificateSwap: a new certificate on disk is served to new connections,
// one that cannot be read is not, and no connection is dropped on the way.
func TestCertificateSwap(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	ca := newAuthority(t)
	first, second, third := ca.issue(t, named("first")), ca.issue(t, named("second")), ca.issue(t, named("third"))
	files := pair{cert: ca.dir + "/server.pem", key: ca.dir + "/server.key"}
	first.install(t, files)
	config := baseConfig(s, "  - url: ldaps://127.0.0.1:0\n", serverTLS(files, ""))
	a := startAppbind(t, config)

	var serial, fresh, lasting atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(step func() error) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := step(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	client := ca.client(t)
	for range 2 {
		loop(func() error { // connects anew each time
			c, err := connectTLS(a.uri(), client)
			if err != nil {
				return fmt.Errorf("new connection: %w", err)
			}
			defer c.Close()
			state, _ := c.TLSConnectionState()
			serial.Store(state.PeerCertificates[0].SerialNumber.Int64())
			fresh.Add(1)
			return c.Bind(userDN("alice"), phone.Password)
		})
		c := dialTLS(t, a.uri(), client)
		if err := c.Bind(mailDN, mailPW); err != nil {
			t.Fatal(err)
		}
		loop(func() error { // keeps its connection
			_, err := search(c, people, "(uid=alice)", []string{"mail"})
			lasting.Add(1)
			return err
		})
	}
	serves := func(p pair) {
		t.Helper()
		eventually(t, "the certificate is served", func() bool { return serial.Load() == p.serial })
		f, l := fresh.Load(), lasting.Load()
		eventually(t, "clients go on", func() bool { return fresh.Load() > f+10 && lasting.Load() > l+100 })
		if got := serial.Load(); got != p.serial {
			t.Errorf("certificate %d is served, want %d", got, p.serial)
		}
	}
	const kept = "tls certificate not reloaded, the previous one stays"
	serves(first)
	second.install(t, files)
	serves(second)
	before := strings.Count(a.output(), kept)
	replaceFile(t, files.cert, "this is no certificate\n")
	eventually(t, "the log tells of the bad certificate", func() bool { return strings.Count(a.output(), kept) > before })
	serves(second)
	a.hangup(config, reloaded)
	serves(second)
	replaceFile(t, files.key, "nor is this a key\n")
	serves(second)
	third.install(t, files)
	serves(third)
	first.install(t, files)
	a.hangup(config, reloaded)
	serves(first)
	close(stop)
	wg.Wait()
	t.Logf("%d new connections, %d searches", fresh.Load(), lasting.Load())
}

// TestClientCertificates: who shows a certificate with the right subject is
// the service account that is mapped to it, by SASL EXTERNAL, and nobody else is.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	ca, stranger := newAuthority(t), newAuthority(t)
	password := shortDir(t) + "/password"
	write(t, password, mailPW+"\n")
	a := startAppbind(t, baseConfig(s, "  - url: ldaps://127.0.0.1:0\n  - url: ldap://127.0.0.1:0\n",
		serverTLS(ca.issue(t, named("appbind")), ca.file)+
			fmt.Sprintf("external:\n  - subject: CN=imap.example.org,O=Example\n    dn: %s\n    password_file: %s\n", mailDN, password)))
	subject := pkix.Name{CommonName: "imap.example.org", Organization: []string{"Example"}}
	right := ca.issue(t, subject)

	for _, way := range [][]string{{"-H", a.urls[0]}, {"-H", a.urls[1], "-ZZ"}} {
		r := command(t, "", "env", append([]string{"LDAPTLS_CACERT=" + ca.file, "LDAPTLS_CERT=" + right.cert, "LDAPTLS_KEY=" + right.key,
			"ldapsearch", "-Y", "EXTERNAL", "-Q", "-LLL", "-b", people, "(uid=alice)", "mail"}, way...)...)
		if r.code != 0 || !strings.Contains(r.out, "mail: alice@example.org") {
			t.Errorf("ldapsearch -Y EXTERNAL %v: exit status %d\n%s%s", way, r.code, r.out, r.err)
		}
	}
	for _, test := range []struct {
		name  string
		certs []pair
		code  int
	}{
		{"the subject", []pair{right}, 0},
		{"no certificate", nil, 49},
		{"another name", []pair{ca.issue(t, pkix.Name{CommonName: "smtp.example.org", Organization: []string{"Example"}})}, 49},
		{"name in another case", []pair{ca.issue(t, pkix.Name{CommonName: "IMAP.example.org", Organization: []string{"Example"}})}, 49},
		{"no organization", []pair{ca.issue(t, named("imap.example.org"))}, 49},
		{"one more part", []pair{ca.issue(t, pkix.Name{CommonName: "imap.example.org", Organization: []string{"Example"}, Country: []string{"ZZ"}})}, 49},
		{"the subject as a name", []pair{ca.issue(t, named("imap.example.org,O=Example"))}, 49},
	} {
		for _, uri := range a.urls {
			c := dialTLS(t, uri, ca.client(t, test.certs...))
			if got := codeOf(c.ExternalBind()); got != test.code {
				t.Errorf("EXTERNAL with %s: code %d, want %d", test.name, got, test.code)
			}
			who, err := c.WhoAmI(nil)
			if want := map[int]string{0: "dn:" + mailDN}[test.code]; err != nil || who.AuthzID != want {
				t.Errorf("with %s the client is %v (%v), want %q", test.name, who, err, want)
			}
		}
	}
	// The subject, vouched for by an authority that is not ours. In TLS 1.3 the client learns it with its first read.
	forged := stranger.issue(t, subject)
	c, err := connectTLS(a.urls[0], ca.client(t, forged))
	if err == nil {
		err = c.ExternalBind()
		c.Close()
	}
	if codeOf(err) != -1 {
		t.Errorf("EXTERNAL with a certificate of another authority: %v", err)
	}
	// Without TLS there is no certificate.
	if got, who := saslBind(t, a.urls[1], "EXTERNAL"); got != 49 || who != "" {
		t.Errorf("EXTERNAL in clear: code %d, the client is %q", got, who)
	}
	offered := func(certs ...pair) []string {
		c := dialTLS(t, a.urls[0], ca.client(t, certs...))
		r, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"supportedSASLMechanisms"}, nil))
		if err != nil || len(r.Entries) != 1 {
			t.Fatalf("root DSE: %v", err)
		}
		return r.Entries[0].GetAttributeValues("supportedSASLMechanisms")
	}
	if got := offered(right); len(got) != 1 || got[0] != "EXTERNAL" {
		t.Errorf("the root DSE offers %v to a client with the certificate", got)
	}
	if got := offered(); len(got) != 0 {
		t.Errorf("the root DSE offers %v to a client without a certificate", got)
	}
}
