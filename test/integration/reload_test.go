package integration

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// load is clients that bind and search without a pause, until stop.
type load struct {
	done   atomic.Int64 // operations
	closed chan struct{}
	wg     sync.WaitGroup
}

// startLoad starts n clients, each on one connection. Half of them bind again
// and again with an app password and read their own entry; the others are a mail
// server that searches. Any failure fails the test.
func startLoad(t testing.TB, n int, uri, password string) *load {
	t.Helper()
	l := &load{closed: make(chan struct{})}
	for i := range n {
		c := dial(t, uri)
		if err := c.Bind(mailDN, mailPW); err != nil {
			t.Fatal(err)
		}
		l.wg.Go(func() {
			for {
				select {
				case <-l.closed:
					return
				default:
				}
				if err := loadStep(c, i%2 == 0, password); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				l.done.Add(1)
			}
		})
	}
	return l
}

// loadStep is what a client of the load does, once.
func loadStep(c *ldap.Conn, binds bool, password string) error {
	if binds {
		if err := c.Bind(userDN("alice"), password); err != nil {
			return err
		}
	}
	r, err := search(c, people, "(uid=alice)", []string{"mail"})
	if err == nil && len(r.Entries) != 1 {
		err = fmt.Errorf("%d entries", len(r.Entries))
	}
	return err
}

// goesOn waits for more operations.
func (l *load) goesOn(t testing.TB) {
	t.Helper()
	from := l.done.Load()
	eventually(t, "clients go on", func() bool { return l.done.Load() > from+100 })
}

// stop ends the clients and waits for them.
func (l *load) stop() {
	close(l.closed)
	l.wg.Wait()
}

// TestReload: SIGHUP under load brings the file's new contents into force,
// refuses a bad file, and drops no connection.
func TestReload(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	first := fmt.Sprintf("  - url: ldap://127.0.0.1:%d\n", freePort(t))
	port := freePort(t)
	second := fmt.Sprintf("ldap://127.0.0.1:%d", port)
	config := baseConfig(s, first, "")
	a := startAppbind(t, config)
	l := startLoad(t, 8, a.uri(), phone.Password)
	kept := dial(t, a.uri())
	main := func(c *ldap.Conn, want int, when string) {
		t.Helper()
		if got := codeOf(c.Bind(userDN("bob"), "bob-main")); got != want {
			t.Errorf("main password %s: code %d, want %d", when, got, want)
		}
	}
	main(kept, 0, "before")
	l.goesOn(t)

	// A new policy, a new listener.
	strict := baseConfig(s, first+"  - url: "+second+"\n", "fallback:\n  mode: deny\n")
	a.hangup(strict, reloaded)
	main(kept, 49, "denied by the new file, on an old connection")
	main(dial(t, a.uri()), 49, "denied by the new file, on a new connection")
	added := dial(t, second)
	main(added, 49, "on the new listener")
	if got := codeOf(added.Bind(mailDN, mailPW)); got != 0 {
		t.Errorf("service account on the new listener: code %d", got)
	}
	l.goesOn(t)

	// A bad file is refused.
	a.hangup(strings.Replace(strict, "mode: deny", "mode: perhaps", 1), refused)
	main(kept, 49, "while the file is bad")
	// A file that parses and cannot be used: the port is taken.
	a.hangup(baseConfig(s, first+"  - url: "+s.uri()+"\n", ""), refused)
	main(kept, 49, "while a listener cannot be opened")
	if _, err := search(added, people, "(uid=alice)", nil); err != nil {
		t.Errorf("the listener that the bad file has no more: %v", err)
	}
	l.goesOn(t)

	// The listener goes; who came by it stays.
	a.hangup(config, reloaded)
	if c, err := ldap.DialURL(second); err == nil {
		c.Close()
		t.Error("the listener that was taken out accepts")
	}
	if _, err := search(added, people, "(uid=alice)", nil); err != nil {
		t.Errorf("a connection of the listener that was taken out: %v", err)
	}
	main(kept, 0, "allowed again")
	l.goesOn(t)
	l.stop()
	t.Logf("%d operations", l.done.Load())
}

// TestReloadLeavesUpstream: with SIGHUP the directory may change too. Clients that
// have a link to the old one keep it, new binds go to the new one. Those of a service account go over.
func TestReloadLeavesUpstream(t *testing.T) {
	t.Parallel()
	old, next := startSlapd(t, slapdOptions{}), startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(old, "", ""))
	kept, goesOver := bound(t, a.uri(), adminDN, adminPW), bound(t, a.uri(), mailDN, mailPW)
	next.modify("dn: " + userDN("bob") + "\nchangetype: modify\nreplace: userPassword\nuserPassword: bob-next\n")
	a.hangup(baseConfig(next, "", ""), reloaded)
	expectBind(t, a.uri(), userDN("bob"), "bob-next", 0)
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 49)
	if _, err := search(kept, people, "(uid=alice)", nil); err != nil {
		t.Errorf("a connection with a link to the old directory: %v", err)
	}
	old.stop(syscall.SIGTERM)
	if _, err := search(kept, people, "(uid=alice)", nil); codeOf(err) != -1 {
		t.Errorf("a connection whose link is lost is answered: %v", err)
	}
	if _, err := search(goesOver, people, "(uid=alice)", nil); err != nil {
		t.Errorf("a connection of a service account: %v", err)
	}
	expectBind(t, a.uri(), mailDN, mailPW, 0)
}

// TestSecondInstance: a port that is taken is told in one line.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(s, fmt.Sprintf("  - url: ldap://127.0.0.1:%d\n", freePort(t)), ""))
	r := command(t, "", binary, "serve", "-c", a.file)
	var said []string
	for line := range strings.Lines(r.err) {
		if !strings.Contains(line, "level=INFO") {
			said = append(said, line)
		}
	}
	if r.code != 1 || len(said) != 1 || !strings.HasPrefix(said[0], "appbind: listener "+a.uri()+":") || !strings.Contains(said[0], "address already in use") {
		t.Errorf("second instance: exit status %d\n%s", r.code, r.err)
	}
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
}
