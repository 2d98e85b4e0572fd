package integration

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// postfix is a running Postfix whose maps are LDAP and whose SASL is Dovecot's.
type postfix struct {
	Dir, URI string
	Version  int // of LDAP, as its maps bind; Postfix's own default is 2
	SMTP     int
	Dovecot  *dovecot
	// Certificate and Key are files; without them it offers no TLS.
	Certificate, Key string
}

// startPostfix starts Postfix with maps at uri and SASL through d.
func startPostfix(t testing.TB, d *dovecot, uri string, version int) *postfix {
	t.Helper()
	return (&postfix{URI: uri, Version: version, Dovecot: d}).start(t)
}

// startSubmission starts one with STARTTLS, without which it offers no login.
func startSubmission(t testing.TB, d *dovecot, uri string, p pair) *postfix {
	t.Helper()
	return (&postfix{URI: uri, Version: 3, Dovecot: d, Certificate: p.cert, Key: p.key}).start(t)
}

// start prepares and runs Postfix until the test ends.
func (p *postfix) start(t testing.TB) *postfix {
	t.Helper()
	p.Dir, p.SMTP = shortDir(t), freePort(t)
	p.prepare(t)
	p.run(t)
	t.Cleanup(func() { p.stop(t) })
	return p
}

// prepare writes the configuration.
func (p *postfix) prepare(t testing.TB) {
	t.Helper()
	for _, dir := range []string{"queue", "data"} {
		if err := os.Mkdir(filepath.Join(p.Dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	if err := os.Chown(p.Dir+"/data", uid, gid); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"main.cf", "master.cf", "senderlogin.cf", "valias.cf", "vmailbox.cf"} {
		render(t, "testdata/postfix/"+f, filepath.Join(p.Dir, f), p)
		if err := os.Chmod(filepath.Join(p.Dir, f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if log, err := os.ReadFile(p.Dir + "/postfix.log"); err == nil && t.Failed() {
			t.Logf("postfix log:\n%s", tail(string(log), 4000))
		}
	})
}

// run starts Postfix, as after a stop.
func (p *postfix) run(t testing.TB) {
	t.Helper()
	must(t, "", "postfix", "-c", p.Dir, "start")
	eventually(t, "postfix answers", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.SMTP))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// stop ends Postfix by the process ID of its master.
func (p *postfix) stop(t testing.TB) {
	text, err := os.ReadFile(p.Dir + "/queue/pid/master.pid")
	if err != nil {
		t.Error(err)
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Error(err)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Error(err)
		return
	}
	eventually(t, "postfix stops", func() bool { return syscall.Kill(pid, 0) != nil })
}

// postmap looks a key up in one of the maps.
func (p *postfix) postmap(t testing.TB, table, key string) result {
	t.Helper()
	return command(t, "", "postmap", "-c", p.Dir, "-q", key, "ldap:"+p.Dir+"/"+table+".cf")
}

// auth is one SMTP AUTH PLAIN of a client at the given address; it returns the answer.
func (p *postfix) auth(t testing.TB, user, password, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.SMTP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	answer := func() string {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("SMTP: %v", err)
			}
			if len(line) > 3 && line[3] == ' ' {
				return strings.TrimSpace(line)
			}
		}
	}
	say := func(format string, args ...any) string {
		fmt.Fprintf(c, format+"\r\n", args...)
		return answer()
	}
	answer()
	say("EHLO test.example.net")
	say("XCLIENT ADDR=%s", address)
	say("EHLO test.example.net")
	token := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	return say("AUTH PLAIN %s", token)
}
