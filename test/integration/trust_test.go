package integration

import (
	"fmt"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// TestContextBehindProxy: on a listener where the context is trusted because of
// client certificates, it is believed from a peer that has shown one, and from no other.
func TestContextBehindProxy(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	smtp := newPassword(t, "smtp only", "--service", "smtp")
	s.addSecret("alice", smtp.Value)
	ca := newAuthority(t)
	server := ca.issue(t, named("appbind"))
	a := startAppbind(t, baseConfig(s, `  - url: ldap://127.0.0.1:0
    proxy_protocol_from: [127.0.0.0/8]
    context: trusted
    cleartext: allow
`, fmt.Sprintf("tls:\n  certificate: %s\n  key: %s\n  client_ca: %s\n", server.cert, server.key, ca.file)))
	claimed := userDN("alice") + ",svc=smtp,rip=203.0.113.9,cn=appbind"
	bind := func(from string, tls bool, certs ...pair) int {
		c := ldap.NewConn(dialRaw(t, a.uri(), header(t, 2, from)), false)
		c.Start()
		defer c.Close()
		c.SetTimeout(patience)
		if tls {
			if err := c.StartTLS(ca.client(t, certs...)); err != nil {
				t.Fatal(err)
			}
		}
		return code(t, c.Bind(claimed, smtp.Password))
	}
	for _, test := range []struct {
		name string
		got  int
		want int
	}{
		{"certificate", bind("192.0.2.9", true, ca.issue(t, named("imap"))), 0},
		{"TLS without a certificate", bind("192.0.2.9", true), 49},
		{"clear text", bind("192.0.2.9", false), 49},
	} {
		if test.got != test.want {
			t.Errorf("context from a peer with %s: code %d, want %d", test.name, test.got, test.want)
		}
	}
}
