package integration

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dovecot is a running Dovecot 2.3 whose passdb and userdb are LDAP.
type dovecot struct {
	*process
	Dir        string
	URI        string
	IMAP, LMTP int
}

// startDovecot starts Dovecot in one of the modes template, lookup, context-dn, context-base.
func startDovecot(t testing.TB, mode, uri string) *dovecot {
	t.Helper()
	d := &dovecot{Dir: shortDir(t), URI: uri, IMAP: freePort(t), LMTP: freePort(t)}
	for _, dir := range []string{"run", "state", "mail"} {
		if err := os.Mkdir(filepath.Join(d.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(d.Dir+"/mail", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	log := d.Dir + "/dovecot.log"
	write(t, log, "")
	if err := os.Chmod(log, 0o666); err != nil {
		t.Fatal(err)
	}
	render(t, "testdata/dovecot/dovecot.conf", d.Dir+"/dovecot.conf", d)
	render(t, "testdata/dovecot/passdb-"+mode+".conf.ext", d.Dir+"/passdb.conf.ext", d)
	render(t, "testdata/dovecot/userdb.conf.ext", d.Dir+"/userdb.conf.ext", d)
	d.process = start(t, "dovecot", "-F", "-c", d.Dir+"/dovecot.conf")
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
		_, err = os.Stat(d.Dir + "/auth.sock")
		return err == nil
	})
	return d
}

// login is one IMAP LOGIN of a client at the given address; it returns the answer.
func (d *dovecot) login(t testing.TB, user, password, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", d.IMAP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	answer := func(tag string) string {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("IMAP: %v", err)
			}
			if strings.HasPrefix(line, tag) {
				return strings.TrimSpace(strings.TrimPrefix(line, tag))
			}
		}
	}
	answer("* OK")
	if address != "" {
		fmt.Fprintf(c, "i ID (\"x-originating-ip\" %q \"x-originating-port\" \"4242\")\r\n", address)
		answer("i ")
	}
	fmt.Fprintf(c, "a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(user), user, len(password), password)
	return answer("a ")
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
