package integration

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The identities of the test directory.
const (
	suffix     = "dc=example,dc=org"
	people     = "ou=people," + suffix
	adminDN    = "cn=admin," + suffix
	adminPW    = "admin-secret"
	serviceDN  = "cn=appbind,ou=services," + suffix // appbind's own
	servicePW  = "appbind-secret"
	mailDN     = "cn=mail,ou=services," + suffix // Dovecot's and Postfix's
	mailPW     = "mail-secret"
	repoRoot   = "../.."
	schemaFile = repoRoot + "/contrib/schema/openldap/appbind.schema"
)

// slapdOptions says what a slapd is to have beyond the users.
type slapdOptions struct {
	// Lockout adds the ppolicy overlay with pwdMaxFailure 5, pwdFailureCountInterval 0.
	Lockout bool
	// HidePolicy keeps the policy from everybody but the rootdn.
	HidePolicy bool
	// AccessLog adds cn=accesslog.
	AccessLog bool
	// AnonymousRead lets everybody read all but passwords, as many directories do.
	AnonymousRead bool
	// Sync adds the syncprov overlay.
	Sync bool
	// CertFile and KeyFile add an ldaps listener, and StartTLS.
	CertFile, KeyFile string
	// ClientCA demands client certificates from this authority.
	ClientCA string
	// Limits is a limits directive; empty: the defaults, 500 entries for each search.
	Limits string
	// LDIF is added to the tree.
	LDIF string

	// Filled in by startSlapd.
	Dir, Schema   string
	Port, TLSPort int
}

// slapd is a running OpenLDAP server.
type slapd struct {
	*process
	opts slapdOptions
	t    testing.TB
}

// startSlapd loads the tree into a new slapd and starts it.
func startSlapd(t testing.TB, opts slapdOptions) *slapd {
	t.Helper()
	opts.Dir = shortDir(t)
	schema, err := filepath.Abs(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	opts.Schema = schema
	opts.Port = freePort(t)
	if opts.CertFile != "" {
		opts.TLSPort = freePort(t)
	}
	for _, d := range []string{"db", "log"} {
		if err := os.Mkdir(filepath.Join(opts.Dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s := &slapd{opts: opts, t: t}
	render(t, "testdata/slapd/slapd.conf", s.config(), opts)
	render(t, "testdata/slapd/tree.ldif", opts.Dir+"/tree.ldif", opts)
	must(t, "", "slapadd", "-q", "-f", s.config(), "-b", suffix, "-l", opts.Dir+"/tree.ldif")
	s.run()
	return s
}

// config is the path of slapd.conf.
func (s *slapd) config() string { return s.opts.Dir + "/slapd.conf" }

// run starts the server on its data, as after a stop.
func (s *slapd) run() {
	s.t.Helper()
	socket := url.PathEscape(s.opts.Dir + "/ldapi")
	urls := s.uri() + "/ ldapi://" + socket + "/"
	if s.opts.TLSPort != 0 {
		urls += " " + s.ldaps() + "/"
	}
	s.process = start(s.t, "slapd", "-f", s.config(), "-h", urls, "-d", "stats")
	eventually(s.t, "slapd answers", func() bool {
		if !s.running() {
			s.t.Fatalf("slapd ended:\n%s", s.output())
		}
		return command(s.t, "", "ldapwhoami", "-x", "-H", s.uri()).code == 0
	})
}

// kill ends the server as a crash would.
func (s *slapd) kill() { s.stop(syscall.SIGKILL) }

// uri is the server's LDAP URL.
func (s *slapd) uri() string { return fmt.Sprintf("ldap://127.0.0.1:%d", s.opts.Port) }

// ldaps is the server's URL for TLS, where it has certificates.
func (s *slapd) ldaps() string { return fmt.Sprintf("ldaps://127.0.0.1:%d", s.opts.TLSPort) }

// ldapi is the server's URL on its unix socket.
func (s *slapd) ldapi() string { return "ldapi://" + url.PathEscape(s.opts.Dir+"/ldapi") }

// modify applies LDIF as the rootdn, at the server itself.
func (s *slapd) modify(ldif string) {
	s.t.Helper()
	must(s.t, ldif, "ldapmodify", "-x", "-H", s.uri(), "-D", adminDN, "-w", adminPW)
}

// addSecret stores one value of the secrets attribute in a user's entry.
func (s *slapd) addSecret(uid, value string) {
	s.t.Helper()
	s.modify(fmt.Sprintf("dn: %s\nchangetype: modify\nadd: appPassword\nappPassword: %s\n", userDN(uid), value))
}

// removeSecret deletes exactly that value.
func (s *slapd) removeSecret(uid, value string) {
	s.t.Helper()
	s.modify(fmt.Sprintf("dn: %s\nchangetype: modify\ndelete: appPassword\nappPassword: %s\n", userDN(uid), value))
}

// bindsOf counts the binds with this DN that the server has got. A bind of the
// test's own goes behind them, so that those before it are in the log.
func (s *slapd) bindsOf(dn string) int {
	s.t.Helper()
	return strings.Count(s.log(), `BIND dn="`+dn+`" method=128`)
}

// log is what the server has printed, up to and with all that it did before this call.
func (s *slapd) log() string {
	s.t.Helper()
	marker := fmt.Sprintf("cn=marker-%d,%s", time.Now().UnixNano(), suffix)
	bindOnce(s.uri(), marker, "x")
	eventually(s.t, "the server's log is complete", func() bool { return strings.Contains(s.output(), marker) })
	return s.output()
}

// userDN is the DN of a user of the tree.
func userDN(uid string) string { return "uid=" + uid + "," + people }
