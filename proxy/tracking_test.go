package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// trackingControl is a session tracking control.
func trackingControl(ip, session string) []byte {
	value := wire.AppendStrings(nil, ip, "mx.example.org", "1.3.6.1.4.1.21008.108.63.1.3", session)
	return wire.AppendControl(nil, oidSessionTracking, false, wire.CloseElement(value, 0, wire.TagSequence))
}

func TestDecodeTracking(t *testing.T) {
	sequence := func(s ...string) []byte {
		return wire.CloseElement(wire.AppendStrings(nil, s...), 0, wire.TagSequence)
	}
	for name, tc := range map[string]struct {
		value   []byte
		addr    string
		session string
	}{
		"good":         {sequence("192.0.2.7", "mx", "1.2", "s-1"), "192.0.2.7", "s-1"},
		"mapped":       {sequence("::ffff:192.0.2.7", "", "1.2", ""), "192.0.2.7", ""},
		"v6":           {sequence("2001:db8::7", "", "1.2", ""), "2001:db8::7", ""},
		"zone":         {sequence("fe80::1%eth0", "", "1.2", ""), "", ""},
		"no address":   {sequence("mx", "", "1.2", ""), "", ""},
		"control char": {sequence("192.0.2.7", "", "1.2", "a\nb"), "", ""},
		"long session": {sequence("192.0.2.7", "", "1.2", strings.Repeat("x", 65)), "", ""},
		"three":        {sequence("192.0.2.7", "", "1.2"), "", ""},
		"five":         {sequence("192.0.2.7", "", "1.2", "", ""), "", ""},
		"tail":         {append(sequence("192.0.2.7", "", "1.2", ""), 0), "", ""},
		"empty":        {nil, "", ""},
	} {
		addr, session, ok := decodeTracking(tc.value)
		if ok != (tc.addr != "") || ok && addr != netip.MustParseAddr(tc.addr) || session != tc.session {
			t.Errorf("%s: %v %q %v", name, addr, session, ok)
		}
	}
}

func TestTracking(t *testing.T) {
	const suffix = ",svc=imap,rip=203.0.113.5,sid=ctx,cn=appbind"
	r := newRig(t, func(cfg *config.Config) {
		other := cfg.Listeners[0]
		cfg.Listeners[0].Context = "trusted"
		cfg.Listeners = append(cfg.Listeners, other)
	})
	bind := func(a net.Addr, name string) string {
		t.Helper()
		before := len(r.log.String())
		c := r.dialTo(a)
		c.write(wire.AppendMessage(nil, 1, wire.OpBindRequest, wire.AppendSimpleBind(nil, name, []byte(phonePW)), trackingControl("192.0.2.7", "trk")))
		c.want(1, wire.OpBindResponse, wire.ResultSuccess)
		return r.log.String()[before:]
	}
	trusted, other := r.server.Addrs()[0], r.server.Addrs()[1]
	if line := bind(trusted, aliceUser); !strings.Contains(line, "client=192.0.2.7 ") || !strings.Contains(line, "session=trk ") {
		t.Errorf("the control is not believed: %s", line)
	}
	if line := bind(trusted, aliceUser+suffix); !strings.Contains(line, "client=203.0.113.5 ") || !strings.Contains(line, "session=ctx ") {
		t.Errorf("the control overrides the context: %s", line)
	}
	if line := bind(other, aliceUser); strings.Contains(line, "192.0.2.7") || strings.Contains(line, "trk") {
		t.Errorf("anybody is believed: %s", line)
	}
}

// TestContextNeedsVouching: on a listener that believes contexts, a peer from
// elsewhere must show a certificate.
func TestContextNeedsVouching(t *testing.T) {
	const suffix = ",svc=imap,rip=203.0.113.5,cn=appbind"
	certs := newCertFiles(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	certs.write(ca, certs.authority.PEM())
	certs.files.ClientCA = ca
	leaf, err := certs.authority.Issue(fakeldap.Leaf{Subject: "mail"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, certs.ldaps, func(cfg *config.Config) {
		cfg.Listeners[0].Context = "trusted"
		cfg.Listeners[0].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for name, tc := range map[string]struct {
		from string
		cfg  *tls.Config
		code int32
	}{
		"elsewhere":                    {"192.0.2.7", certs.client(), wire.ResultInvalidCredentials},
		"elsewhere with a certificate": {"192.0.2.7", certs.client(leaf), wire.ResultSuccess},
		"here":                         {"127.0.0.9", certs.client(), wire.ResultSuccess},
	} {
		nc, err := net.Dial("tcp", r.server.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Write([]byte("PROXY TCP4 " + tc.from + " 127.0.0.1 4000 636\r\n")); err != nil {
			t.Fatal(err)
		}
		c := newClient(t, tls.Client(nc, tc.cfg))
		c.write(searchRequest(1, "ou=people,dc=example,dc=org"+suffix, wire.ScopeBase, anyEntry))
		entries := 0
		m := c.read()
		for ; m.Op == wire.OpSearchResultEntry; m = c.read() {
			entries++
		}
		done, err := wire.DecodeResult(m.Body)
		if refused := done.Code == wire.ResultInvalidDNSyntax; err != nil || refused != (tc.code != 0) || refused == (entries > 0) {
			t.Errorf("%s: a context in a search base: code %d, %d entries, %v", name, done.Code, entries, err)
		}
		c.write(bindRequest(2, aliceUser+suffix, phonePW))
		res := c.result(2, wire.OpBindResponse)
		if res.Code != tc.code {
			t.Errorf("%s: code %d, want %d", name, res.Code, tc.code)
		}
	}
}
