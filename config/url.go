package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// URL is a parsed LDAP URL of a listener or a server: scheme, host and port or socket path.
type URL struct {
	// Scheme is ldap, ldaps or ldapi.
	Scheme string
	// Address is host:port for ldap and ldaps, a file path for ldapi.
	Address string
	// Host is the host alone, for certificate checks; empty for ldapi, and for a listener on all addresses.
	Host string

	text string
}

// The errors of ParseURL are fixed texts: what was written may hold a password.
var (
	errURLScheme = errors.New("must be ldap://HOST:PORT, ldaps://HOST:PORT or ldapi://PATH")
	errURLSocket = errors.New("must name the socket by its whole path, percent-encoded: ldapi://%2Frun%2Fslapd%2Fldapi")
	errURLUser   = errors.New("a URL takes no user or password; use bind_dn and bind_password_file")
	errURLRest   = errors.New("a URL ends after the host and port; it takes no base DN and no options")
	errURLHost   = errors.New("the host is not a host name or an IP address (IPv6 in brackets: ldap://[::1]:389)")
	errURLPort   = errors.New("the port must be a number from 0 to 65535")
)

// maxSocketPath is what sockaddr_un takes on Linux, less its final NUL.
const maxSocketPath = 107

// ParseURL reads ldap://HOST[:PORT], ldaps://HOST[:PORT] or ldapi://PATH with
// the path percent-encoded and absolute. The ports default to 389 and 636. A
// final slash is allowed, anything else after the host (RFC 4516's base DN and
// so on) is not. The host may be empty and the port 0, which only make sense
// for listeners. Errors never repeat the text.
func ParseURL(text string) (URL, error) {
	scheme, rest, found := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case found && scheme == "ldapi":
		return parseSocket(text, rest)
	case found && scheme == "ldap":
		return parseTCP(text, scheme, rest, "389")
	case found && scheme == "ldaps":
		return parseTCP(text, scheme, rest, "636")
	}
	return URL{}, errURLScheme
}

// parseSocket reads what follows ldapi://.
func parseSocket(text, rest string) (URL, error) {
	name, err := url.PathUnescape(strings.TrimSuffix(rest, "/"))
	if err != nil || !path.IsAbs(name) || path.Clean(name) == "/" || len(name) > maxSocketPath ||
		strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return URL{}, errURLSocket
	}
	return URL{Scheme: "ldapi", Address: path.Clean(name), text: text}, nil
}

// parseTCP reads what follows ldap:// or ldaps://.
func parseTCP(text, scheme, rest, defaultPort string) (URL, error) {
	rest = strings.TrimSuffix(rest, "/")
	switch {
	case strings.Contains(rest, "@"):
		return URL{}, errURLUser
	case strings.ContainsAny(rest, "/?#"):
		return URL{}, errURLRest
	}
	host, port := rest, defaultPort
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.HasSuffix(rest, "]") {
		host, port = rest[:i], rest[i+1:]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return URL{}, errURLPort
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		host = strings.TrimSuffix(inner, "]")
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() || len(inner) == len(host) {
			return URL{}, errURLHost
		}
	} else if host != "" && !isHost(host) {
		return URL{}, errURLHost
	}
	return URL{Scheme: scheme, Address: net.JoinHostPort(host, port), Host: host, text: text}, nil
}

// isHost reports whether s is an IPv4 address or looks like a host name.
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return !isAlnum(r) && r != '-' && r != '_' }) {
			return false
		}
	}
	return true
}

func isAlnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// String returns the URL as it was written.
func (u URL) String() string {
	switch {
	case u.text != "":
		return u.text
	case u.Scheme == "ldapi":
		return "ldapi://" + url.PathEscape(u.Address)
	case u.Scheme == "":
		return ""
	}
	return u.Scheme + "://" + u.Address
}

// Network is the network for net.Dial and net.Listen: tcp or unix.
func (u URL) Network() string {
	if u.Scheme == "ldapi" {
		return "unix"
	}
	return "tcp"
}

// Loopback reports whether only this machine can reach the address: a socket
// file, a loopback address, or the name localhost.
func (u URL) Loopback() bool {
	if u.Scheme == "ldapi" || strings.EqualFold(strings.TrimSuffix(u.Host, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(u.Host)
	return err == nil && a.Unmap().IsLoopback()
}
