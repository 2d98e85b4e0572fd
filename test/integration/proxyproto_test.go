package integration

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	proxyproto "github.com/pires/go-proxyproto"
)

// header is a PROXY protocol header of a version, from an address.
func header(t testing.TB, version byte, from string) string {
	t.Helper()
	source := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 40000))
	to := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 1), Port: 389}
	if source.IP.To4() == nil {
		to.IP = net.ParseIP("2001:db8::1")
	}
	var b strings.Builder
	if _, err := proxyproto.HeaderProxyFromAddrs(version, source, to).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// local is a v2 header of the proxy's own health check.
func local(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	h := proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}
	if _, err := h.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// dialRaw connects and sends what goes before LDAP.
func dialRaw(t testing.TB, uri, before string) net.Conn {
	t.Helper()
	_, address, _ := strings.Cut(uri, "://")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, before); err != nil {
		t.Fatal(err)
	}
	return c
}

// bindBehind is one bind behind a header: its code, or -1 when the connection is closed without an answer.
func bindBehind(t testing.TB, uri, before, dn, password string) int {
	t.Helper()
	c := ldap.NewConn(dialRaw(t, uri, before), false)
	c.Start()
	defer c.Close()
	c.SetTimeout(patience)
	return codeOf(c.Bind(dn, password))
}

// proxied is one bind of TestProxyProtocol.
type proxied struct {
	name, uri, before, password string
	code                        int    // -1: closed without an answer
	peer                        string // of the log line
	client                      string // of the log line; "" = not named
}

// TestProxyProtocol: a header is demanded of the proxies that are listed,
// refused from others, and names the user where clients are users.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	office := newPassword(t, "office", "--net", "198.51.100.0/24,2001:db8::/32")
	s.addSecret("alice", office.Value)
	a := startAppbind(t, baseConfig(s, `  - url: ldap://127.0.0.1:0
    proxy_protocol_from: [127.0.0.0/8]
    clients: direct
    cleartext: allow
  - url: ldap://127.0.0.1:0
    proxy_protocol_from: [127.0.0.0/8]
    cleartext: allow
  - url: ldap://127.0.0.1:0
    proxy_protocol_from: [192.0.2.0/24]
    clients: direct
    cleartext: allow
  - url: ldap://127.0.0.1:0
    proxy_protocol_from: [127.0.0.0/8]
`, "limits:\n  handshake: 1s\n"))
	lines := 0
	for _, test := range proxiedBinds(t, a, office.Password) {
		if got := bindBehind(t, test.uri, test.before, userDN("alice"), test.password); got != test.code {
			t.Errorf("%s: code %d, want %d", test.name, got, test.code)
		}
		if test.code < 0 {
			continue // the line of the next bind shows that this one had none
		}
		lines++
		eventually(t, test.name+": the bind is logged", func() bool { return len(bindLines(a.output())) >= lines })
		line := bindLines(a.output())[lines-1]
		if !strings.Contains(line, " peer="+test.peer+" ") {
			t.Errorf("%s: the line does not name peer %s: %s", test.name, test.peer, line)
		}
		if named := strings.Contains(line, " client="); named != (test.client != "") || named && !strings.Contains(line, " client="+test.client+" ") {
			t.Errorf("%s: the line does not name client %q: %s", test.name, test.client, line)
		}
	}
	if got := len(bindLines(a.output())); got != lines {
		t.Errorf("%d binds in the log, want %d", got, lines)
	}

	// Half a header is waited for, but not for long.
	began := time.Now()
	if _, err := io.ReadAll(dialRaw(t, a.urls[0], "PROXY TCP4 198.51")); err != nil {
		t.Errorf("half a header: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("half a header keeps a connection for %v", took)
	}
}

// proxiedBinds are the binds of TestProxyProtocol; office is for two networks only.
func proxiedBinds(t *testing.T, a *appbind, office string) []proxied {
	direct, servers, elsewhere, inClear := a.urls[0], a.urls[1], a.urls[2], a.urls[3]
	const in, in6, out, here, main = "198.51.100.7", "2001:db8::7", "203.0.113.7", "127.0.0.1", "alice-main"
	v1 := func(from string) string { return header(t, 1, from) }
	v2 := func(from string) string { return header(t, 2, from) }
	return []proxied{
		{"v1, the user's address allows it", direct, v1(in), office, 0, in, in},
		{"v2, the user's address allows it", direct, v2(in), office, 0, in, in},
		{"v1, IPv6", direct, v1(in6), office, 0, in6, in6},
		{"v2, IPv6", direct, v2(in6), office, 0, in6, in6},
		{"v1, another address", direct, v1(out), office, 49, out, out},
		{"v2, another address", direct, v2(out), office, 49, out, out},
		{"another address, main password", direct, v2(out), main, 0, out, out},
		{"v1 without an address", direct, "PROXY UNKNOWN\r\n", office, 49, here, ""},
		{"v2, the proxy itself", direct, local(t), office, 49, here, ""},
		{"v2, the proxy itself, main password", direct, local(t), main, 0, here, ""},
		{"no header", direct, "", main, -1, "", ""},
		{"two headers", direct, v1(in) + v1(in), main, -1, "", ""},
		{"malformed", direct, "PROXY TCP4 198.51.100.7\r\n", office, -1, "", ""},
		{"mail server: its address is not the user's", servers, v1(in), office, 49, in, ""},
		{"mail server, v2", servers, v2(in), office, 49, in, ""},
		{"mail server, main password", servers, v2(in), main, 0, in, ""},
		{"mail server, no header", servers, "", main, -1, "", ""},
		{"header from one who is no proxy, v1", elsewhere, v1(in), office, -1, "", ""},
		{"header from one who is no proxy, v2", elsewhere, v2(in), office, -1, "", ""},
		{"no header, no proxy", elsewhere, "", main, 0, here, here},
		{"no header, no proxy, not that network", elsewhere, "", office, 49, here, here},
		{"clear text from afar", inClear, v1(in), main, 13, in, ""},
		{"clear text from here", inClear, v1(here), main, 0, here, ""},
	}
}

// bindLines are the lines of binds in a text log.
func bindLines(log string) (list []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "msg=bind ") {
			list = append(list, line)
		}
	}
	return list
}
