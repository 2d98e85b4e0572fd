package integration

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// release is an installed Dovecot.
type release struct {
	root      string // the directory that it takes for the root; "" for that of the machine
	templates string // of its configuration
}

// The releases: the machine's, and that of Debian 13, which test/tools.sh installs.
var (
	dovecot23 = release{"", "testdata/dovecot"}
	dovecot24 = release{"/opt/appbind-test/debian13", "testdata/dovecot24"}
)

// dovecot is a running Dovecot whose passdb and userdb are LDAP.
type dovecot struct {
	*process
	Dir         string // as Dovecot sees it
	URI         string
	IMAP, LMTP  int
	POP3, Sieve int
}

// startDovecot starts Dovecot 2.3 in one of the modes template, lookup, context-dn, context-base.
func startDovecot(t testing.TB, mode, uri string) *dovecot {
	t.Helper()
	return dovecot23.start(t, mode, uri)
}

// start starts it in one of the modes template, lookup, context-dn, context-base.
func (r release) start(t testing.TB, mode, uri string) *dovecot {
	t.Helper()
	dir := shortDirIn(t, r.root+"/tmp") // as this test sees it
	d := &dovecot{Dir: strings.TrimPrefix(dir, r.root), URI: uri, IMAP: freePort(t), LMTP: freePort(t), POP3: freePort(t), Sieve: freePort(t)}
	for _, sub := range []string{"run", "state", "mail"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir+"/mail", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	log := dir + "/dovecot.log"
	write(t, log, "")
	if err := os.Chmod(log, 0o666); err != nil {
		t.Fatal(err)
	}
	render(t, r.templates+"/dovecot.conf", dir+"/dovecot.conf", d)
	render(t, r.templates+"/passdb-"+mode+".conf.ext", dir+"/passdb.conf.ext", d)
	render(t, r.templates+"/userdb.conf.ext", dir+"/userdb.conf.ext", d)
	program := []string{"dovecot", "-F", "-c", d.Dir + "/dovecot.conf"}
	if r.root != "" {
		program = append([]string{"chroot", r.root}, program...)
	}
	d.process = start(t, program[0], program[1:]...)
	t.Cleanup(func() {
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("dovecot log:\n%s", tail(string(text), 4000))
		}
	})
	eventually(t, "dovecot answers", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.IMAP))
		if err != nil {
			return false
		}
		c.Close()
		_, err = os.Stat(dir + "/auth.sock")
		return err == nil
	})
	return d
}

// conversation is a client's connection to one of Dovecot's services.
type conversation struct {
	t testing.TB
	net.Conn
	lines *bufio.Reader
}

// talk connects.
func (d *dovecot) talk(t testing.TB, port int) *conversation {
	t.Helper()
	var c net.Conn
	eventually(t, "Dovecot takes a connection", func() bool {
		var err error
		if c, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil && !d.running() {
			t.Fatalf("Dovecot has ended: %v", err)
		}
		return err == nil
	})
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	return &conversation{t, c, bufio.NewReader(c)}
}

// await reads until a line that begins with one of these words, and returns it.
func (c *conversation) await(begins ...string) string {
	c.t.Helper()
	for {
		line, err := c.lines.ReadString('\n')
		if err != nil {
			c.t.Fatalf("waiting for %q: %v", begins, err)
		}
		for _, begin := range begins {
			if strings.HasPrefix(line, begin) {
				return strings.TrimSpace(line)
			}
		}
	}
}

// login is one IMAP LOGIN of a client at the given address; it returns the answer.
func (d *dovecot) login(t testing.TB, user, password, address string) string {
	t.Helper()
	c := d.talk(t, d.IMAP)
	defer c.Close()
	c.await("* OK")
	if address != "" {
		fmt.Fprintf(c, "i ID (\"x-originating-ip\" %q \"x-originating-port\" \"4242\")\r\n", address)
		c.await("i ")
	}
	fmt.Fprintf(c, "a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(user), user, len(password), password)
	return strings.TrimPrefix(c.await("a "), "a ")
}

// loginPOP3 is one of a POP3 client at the given address; it returns the answer.
func (d *dovecot) loginPOP3(t testing.TB, user, password, address string) string {
	t.Helper()
	c := d.talk(t, d.POP3)
	defer c.Close()
	c.await("+OK")
	fmt.Fprintf(c, "XCLIENT ADDR=%s PORT=4242\r\n", address)
	c.await("+OK")
	fmt.Fprintf(c, "USER %s\r\n", user)
	c.await("+OK")
	fmt.Fprintf(c, "PASS %s\r\n", password)
	return c.await("+OK", "-ERR")
}

// loginSieve is one of a ManageSieve client at the given address; it returns the answer.
func (d *dovecot) loginSieve(t testing.TB, user, password, address string) string {
	t.Helper()
	c := d.talk(t, d.Sieve)
	defer c.Close()
	c.await("OK")
	fmt.Fprintf(c, "XCLIENT ADDR=%s PORT=4242\r\n", address)
	c.await("OK")
	fmt.Fprintf(c, "AUTHENTICATE \"PLAIN\" %q\r\n", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	return c.await("OK", "NO")
}

// expectLogin demands OK, AUTHENTICATIONFAILED or UNAVAILABLE.
func (d *dovecot) expectLogin(t testing.TB, user, password, address, want string) {
	t.Helper()
	if got := d.login(t, user, password, address); !strings.HasPrefix(got, want) {
		t.Errorf("login of %s from %s: %s, want %s", user, address, got, want)
	}
}

// The answers of an IMAP server to a login.
const (
	loginOK          = "OK"
	loginRefused     = "NO [AUTHENTICATIONFAILED]"
	loginUnavailable = "NO [UNAVAILABLE]"
)
