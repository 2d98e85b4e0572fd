package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// restart ends appbind and serves the same configuration again. What it holds is not compared any more.
func (a *appbind) restart(how syscall.Signal) {
	a.t.Helper()
	a.watched = false
	a.stop(how)
	a.process = start(a.t, binary, "serve", "-c", a.file)
	eventually(a.t, "appbind is ready again", func() bool {
		if !a.running() {
			a.t.Fatalf("appbind ended:\n%s", a.output())
		}
		return ready.MatchString(a.output())
	})
}

// TestSnapshot: appbind is killed and started again while the directory is down, and goes on with what it knew;
// a revocation just before is not undone by the crash, and what the directory says afterwards counts.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{Sync: true})
	phone, revoked, later := newPassword(t, "phone"), newPassword(t, "revoked"), newPassword(t, "later")
	s.addSecret("alice", phone.Value)
	s.addSecret("bob", revoked.Value)
	listener := fmt.Sprintf("  - url: ldap://127.0.0.1:%d\n", freePort(t))
	a := startAppbind(t, baseConfig(s, listener, "app_passwords: {lookup: replica, snapshot: true}\n"))
	file := filepath.Join(filepath.Dir(a.file), "replica.snapshot")
	other := shortDir(t) + "/appbind.yaml"
	write(t, other, baseConfig(s, listener, "app_passwords: {lookup: replica, snapshot: true}\n"))
	if out := must(t, "", binary, "check", "-c", other); !strings.Contains(out, "holds") {
		t.Errorf("check has no replica: %s", out)
	}
	if list, err := filepath.Glob(filepath.Dir(other) + "/replica*"); err != nil || len(list) > 0 {
		t.Errorf("check leaves %v, %v", list, err)
	}
	marked := func(text string) func() bool {
		return func() bool {
			content, err := os.ReadFile(file + ".mark")
			return err == nil && strings.Contains(string(content), text)
		}
	}
	eventually(t, "the snapshot is written", func() bool { _, err := os.Stat(file); return err == nil })
	expectBind(t, a.uri(), userDN("bob"), revoked.Password, 0)
	d := startDovecot(t, "lookup", a.uri())
	d.expectLogin(t, "alice", phone.Password, "203.0.113.5", loginOK)
	eventually(t, "Dovecot's account is on disk", marked(mailDN))
	s.removeSecret("bob", revoked.Value)
	eventually(t, "the revocation is on disk", marked("uid=bob,"))
	s.kill()
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		a.restart(how)
		eventually(t, "an app password logs in", func() bool { return bindOnce(a.uri(), userDN("alice"), phone.Password) == 0 })
		expectBind(t, a.uri(), userDN("bob"), revoked.Password, 52)
		expectBind(t, a.uri(), userDN("alice"), "alice-main", 52)
		expectBind(t, a.uri(), userDN("alice"), phone.Value, 52)
		expectBind(t, a.uri(), mailDN, "wrong", 52)
		expectBind(t, a.uri(), adminDN, adminPW, 52)
		eventually(t, "Dovecot's account and its searches are served", func() bool {
			return strings.HasPrefix(d.login(t, "alice", phone.Password, "203.0.113.6"), loginOK)
		})
		d.expectLogin(t, "alice", "alice-main", "203.0.113.7", loginUnavailable)
		if !strings.Contains(a.output(), "snapshot of the replica is read") {
			t.Error("the log does not tell of the snapshot")
		}
	}
	for _, name := range []string{file, file + ".mark"} {
		content, err := os.ReadFile(name)
		if st, bad := os.Stat(name); err != nil || bad != nil || st.Mode() != 0o600 {
			t.Errorf("%s: %v, %v, %v", name, st.Mode(), err, bad)
		}
		canaryFree(t, string(content), phone.Password, revoked.Password, "alice-main", "bob-main", mailPW, servicePW)
	}

	s.run()
	eventually(t, "the outage is over", func() bool { return bindOnce(a.uri(), userDN("alice"), "alice-main") == 0 })
	s.removeSecret("alice", phone.Value)
	s.addSecret("alice", later.Value)
	eventually(t, "a new app password logs in", func() bool { return bindOnce(a.uri(), userDN("alice"), later.Password) == 0 })
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 49)
	eventually(t, "the replica is current", func() bool { return strings.Contains(a.output(), nowCurrent) })
	s.kill()
	a.restart(syscall.SIGTERM)
	eventually(t, "the new one logs in from the snapshot", func() bool { return bindOnce(a.uri(), userDN("alice"), later.Password) == 0 })
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 52)

	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	a.restart(syscall.SIGKILL)
	expectBind(t, a.uri(), userDN("alice"), later.Password, 52)
	if !strings.Contains(a.output(), "is open to others: mode 0640, must be 0600") {
		t.Error("the log does not tell why the snapshot is refused")
	}
	s.run()
	eventually(t, "without the snapshot, with the directory", func() bool { return bindOnce(a.uri(), userDN("alice"), later.Password) == 0 })
	canaryFree(t, a.output(), phone.Password, revoked.Password, later.Password, "alice-main", mailPW)
}
