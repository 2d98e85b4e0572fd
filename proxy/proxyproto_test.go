package proxy

import (
	"net/netip"
	"strings"
	"testing"

	"appbind/config"
	"appbind/wire"
)

// v2Header is a version 2 header; local ones announce nobody.
func v2Header(local bool) []byte {
	h := []byte("\r\n\r\n\x00\r\nQUIT\n")
	if local {
		return append(h, 0x20, 0x00, 0, 0)
	}
	return append(h, 0x21, 0x11, 0, 12, 192, 0, 2, 8, 192, 0, 2, 9, 0x10, 0, 0x01, 0x85)
}

func behindProxy(cfg *config.Config) {
	cfg.Listeners[0].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Listeners[0].Cleartext = "allow"
}

func TestProxyProtocol(t *testing.T) {
	for name, tc := range map[string]struct {
		header []byte
		peer   string
	}{
		"v1":         {[]byte("PROXY TCP4 192.0.2.7 192.0.2.9 4000 389\r\n"), "192.0.2.7"},
		"v1 over v6": {[]byte("PROXY TCP6 2001:db8::7 2001:db8::9 4000 389\r\n"), "2001:db8::7"},
		"v1 unknown": {[]byte("PROXY UNKNOWN\r\n"), "127.0.0.1"},
		"v2":         {v2Header(false), "192.0.2.8"},
		"v2 local":   {v2Header(true), "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, direct := range []bool{false, true} {
				r := newRig(t, behindProxy, func(cfg *config.Config) {
					if direct {
						cfg.Listeners[0].Clients = "direct"
					}
				})
				c := r.dial()
				c.write(tc.header, bindRequest(1, aliceUser, phonePW)) // in one segment
				c.want(1, wire.OpBindResponse, wire.ResultSuccess)
				log := r.log.String()
				if !strings.Contains(log, "peer="+tc.peer+" ") || strings.Contains(log, "client="+tc.peer+" ") != (direct && tc.peer != "127.0.0.1") {
					t.Errorf("direct %v: %s", direct, log)
				}
				c = r.dial()
				c.write(tc.header)
				c.bind(1, aliceUser, phonePW, wire.ResultSuccess)
			}
		})
	}
}

func TestProxyProtocolIsRequired(t *testing.T) {
	r := newRig(t, behindProxy, short)
	for name, first := range map[string][]byte{
		"ldap":     bindRequest(1, aliceUser, phonePW),
		"nothing":  nil,
		"half":     []byte("PROXY TCP4 192.0."),
		"bad":      []byte("PROXY TCP9 a b c d\r\n"),
		"too long": []byte("PROXY TCP4 " + strings.Repeat("1", 300) + "\r\n"),
		"v2 huge":  append(v2Header(false)[:14], 0xff, 0xff),
	} {
		c := r.dial()
		c.write(first)
		if m, err := c.r.Next(); err == nil {
			t.Errorf("%s: answered %#x", name, m.Op)
		}
	}
	if strings.Contains(r.log.String(), "msg=bind") {
		t.Error("a bind without a header was decided")
	}
}

func TestProxyProtocolFromOthersIsNotRead(t *testing.T) {
	r := newRig(t, behindProxy, func(cfg *config.Config) {
		cfg.Listeners[0].ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	c := r.dial()
	c.write([]byte("PROXY TCP4 192.0.2.7 192.0.2.9 4000 389\r\n"), bindRequest(1, aliceUser, phonePW))
	c.wantNotice(wire.ResultProtocolError)
	r.dial().bind(1, aliceUser, phonePW, wire.ResultSuccess)
}

// TestAllowFrom: who comes from elsewhere is closed before his first message; behind a proxy the address that its header names counts.
func TestAllowFrom(t *testing.T) {
	t.Parallel()
	v1 := func(from string) []byte { return []byte("PROXY TCP4 " + from + " 192.0.2.9 4000 389\r\n") }
	for name, tc := range map[string]struct {
		allow  []string
		header []byte // nil: no proxy
		served bool
	}{
		"anybody":              {nil, nil, true},
		"in it":                {[]string{"192.0.2.0/24", "127.0.0.0/8"}, nil, true},
		"not in it":            {[]string{"192.0.2.0/24", "::/0"}, nil, false},
		"proxied, in it":       {[]string{"192.0.2.7/32"}, v1("192.0.2.7"), true},
		"proxied, not in it":   {[]string{"192.0.2.7/32", "127.0.0.0/8"}, v1("192.0.2.8"), false},
		"the proxy's own":      {[]string{"192.0.2.7/32"}, v2Header(true), false},
		"the proxy's, allowed": {[]string{"127.0.0.1/32"}, v2Header(true), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(cfg *config.Config) {
				for _, n := range tc.allow {
					cfg.Listeners[0].AllowFrom = append(cfg.Listeners[0].AllowFrom, netip.MustParsePrefix(n))
				}
				if tc.header != nil {
					behindProxy(cfg)
				}
			})
			c := r.dial()
			c.write(tc.header, bindRequest(1, aliceUser, phonePW))
			if tc.served {
				c.want(1, wire.OpBindResponse, wire.ResultSuccess)
				return
			}
			c.wantEnd()
			if n := r.server.Stats().Refused["allow_from"]; n != 1 || strings.Contains(r.log.String(), "msg=bind") {
				t.Errorf("refused %d; %s", n, r.log.String())
			}
		})
	}
}

// TestProxyProtocolIsNotLoopback: a password that came to the proxy in clear did not come over loopback.
func TestProxyProtocolIsNotLoopback(t *testing.T) {
	r := newRig(t, behindProxy, func(cfg *config.Config) { cfg.Listeners[0].Cleartext = "loopback" })
	c := r.dial()
	c.write(v2Header(false))
	c.bind(1, aliceUser, phonePW, wire.ResultConfidentialityRequired)
	c = r.dial()
	c.write(v2Header(true))
	c.bind(1, aliceUser, phonePW, wire.ResultSuccess)
}

func TestProxyProtocolCountsTheAnnouncedAddress(t *testing.T) {
	r := newRig(t, behindProxy, func(cfg *config.Config) { cfg.Limits.ConnectionsPerAddress = 1 })
	first := r.dial()
	first.write(v2Header(false))
	first.bind(1, aliceUser, phonePW, wire.ResultSuccess)
	second := r.dial()
	second.write(v2Header(false), bindRequest(1, aliceUser, phonePW))
	if _, err := second.r.Next(); err == nil {
		t.Error("over limits.connections_per_address")
	}
	other := r.dial()
	other.write([]byte("PROXY TCP4 192.0.2.7 192.0.2.9 4000 389\r\n"))
	other.bind(1, aliceUser, phonePW, wire.ResultSuccess)
}
