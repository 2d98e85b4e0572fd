package integration

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// securedBind finds how much TLS protected the simple binds in slapd's log.
var securedBind = regexp.MustCompile(`mech=SIMPLE bind_ssf=0 ssf=(\d+)`)

// upstreamConfig is a configuration for the server at url, with further keys of the upstream section.
func upstreamConfig(t testing.TB, s *slapd, url, more string) string {
	t.Helper()
	return replaceOnce(t, baseConfig(s, "", ""), "urls: ["+s.uri()+"]", "urls: ["+url+"]"+more)
}

// TestUpstreamTLS: passwords go to the directory over TLS that was verified, or not at all.
func TestUpstreamTLS(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t), newAuthority(t)
	server := ca.issue(t, named("ldap.example.org"))
	s := startSlapd(t, slapdOptions{CertFile: server.cert, KeyFile: server.key})
	inClear := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)

	for _, test := range []struct {
		name, url, more string
		to              *slapd
		works           bool
		says            string // by check, when it does not work
	}{
		{"ldaps", s.ldaps(), "\n  ca: " + ca.file, s, true, ""},
		{"StartTLS", s.uri(), "\n  starttls: true\n  ca: " + ca.file, s, true, ""},
		{"ldaps, wrong authority", s.ldaps(), "\n  ca: " + stranger.file, s, false, "unknown authority; is upstream.ca the authority"},
		{"ldaps, the system's authorities", s.ldaps(), "", s, false, "unknown authority; is upstream.ca the authority"},
		{"StartTLS, wrong authority", s.uri(), "\n  starttls: true\n  ca: " + stranger.file, s, false, "unknown authority; is upstream.ca the authority"},
		{"wrong name", s.ldaps(), "\n  server_name: other.example.org\n  ca: " + ca.file, s, false, "other.example.org"},
		{"StartTLS, server without TLS", inClear.uri(), "\n  starttls: true\n  ca: " + ca.file, inClear, false, "the server has no TLS set up"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(test.to.log())
			a := startAppbind(t, upstreamConfig(t, s, test.url, test.more))
			check := command(t, "", binary, "check", "-c", a.file)
			want, status := 52, 1
			if test.works {
				want, status = 0, 0
			}
			for _, login := range [][2]string{{userDN("alice"), phone.Password}, {userDN("alice"), "alice-main"}, {mailDN, mailPW}} {
				expectBind(t, a.uri(), login[0], login[1], want)
			}
			if check.code != status || !strings.Contains(check.out, test.says) {
				t.Errorf("check: exit status %d, want %d and %q\n%s%s", check.code, status, test.says, check.out, check.err)
			}
			log := test.to.log()[before:]
			binds := securedBind.FindAllStringSubmatch(log, -1)
			if test.works && len(binds) < 3 {
				t.Errorf("%d binds in the directory's log, want at least three", len(binds))
			}
			for _, b := range binds {
				if b[1] == "0" || !test.works {
					t.Errorf("a bind arrives with ssf=%s", b[1])
				}
			}
			if !test.works && strings.Count(log, " BIND dn=") != strings.Count(log, ` BIND dn="cn=marker-`) {
				t.Errorf("a bind is sent:\n%s", log)
			}
		})
	}
}

// TestUpstreamClientCertificate: a directory that demands certificates of its clients gets appbind's.
func TestUpstreamClientCertificate(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, client := ca.issue(t, named("ldap.example.org")), ca.issue(t, named("appbind"))
	s := startSlapd(t, slapdOptions{CertFile: server.cert, KeyFile: server.key, ClientCA: ca.file})
	without := startAppbind(t, upstreamConfig(t, s, s.ldaps(), "\n  ca: "+ca.file))
	expectBind(t, without.uri(), userDN("alice"), "alice-main", 52)
	with := startAppbind(t, upstreamConfig(t, s, s.ldaps(), fmt.Sprintf("\n  ca: %s\n  certificate: %s\n  key: %s", ca.file, client.cert, client.key)))
	expectBind(t, with.uri(), userDN("alice"), "alice-main", 0)
}
