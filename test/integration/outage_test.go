package integration

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// TestOutage: slapd is killed and restarted under load. No right password is
// ever told wrong, every bind is answered in time, and logins recover by themselves.
func TestOutage(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	a := startAppbind(t, baseConfig(s, "", ""))

	var accepted, trouble, slow atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			dn, password := userDN("alice"), phone.Password
			if i%2 == 1 {
				dn, password = userDN("bob"), "bob-main"
			}
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				switch got := bindOnce(a.uri(), dn, password); got {
				case 0:
					accepted.Add(1)
				case 49, 32, 34, 53:
					t.Errorf("a right password is told wrong: code %d", got)
				default:
					trouble.Add(1)
				}
				if time.Since(began) > 8*time.Second {
					slow.Add(1)
				}
			}
		})
	}
	more := func(n *atomic.Int64, what string) {
		t.Helper()
		from := n.Load()
		eventually(t, what, func() bool { return n.Load() > from+20 })
	}
	more(&accepted, "binds before the outage")
	for _, how := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		s.stop(how)
		more(&trouble, "binds during the outage are answered")
		s.run()
		more(&accepted, "binds after the outage")
	}
	s.signal(syscall.SIGSTOP)
	more(&trouble, "binds are answered while slapd hangs")
	s.signal(syscall.SIGCONT)
	more(&accepted, "binds after slapd went on")
	close(stop)
	wg.Wait()
	if slow.Load() > 0 {
		t.Errorf("%d binds took longer than the deadline", slow.Load())
	}
	t.Logf("accepted %d, trouble %d", accepted.Load(), trouble.Load())
}

// bindOnce is one bind on a connection of its own: the result code, or -1 when the connection failed.
func bindOnce(uri, dn, password string) int {
	c, err := ldap.DialURL(uri)
	if err != nil {
		return -1
	}
	defer c.Close()
	c.SetTimeout(patience)
	return codeOf(c.Bind(dn, password))
}

// TestSecondServer: with two servers, the loss of the first is not noticed but in the log.
func TestSecondServer(t *testing.T) {
	t.Parallel()
	first, second := startSlapd(t, slapdOptions{}), startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	first.addSecret("alice", phone.Value)
	second.addSecret("alice", phone.Value)
	config := baseConfig(first, "", "")
	config = replaceOnce(t, config, "["+first.uri()+"]", fmt.Sprintf("[%s, %s]", first.uri(), second.uri()))
	a := startAppbind(t, config)
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
	first.kill()
	eventually(t, "the second server serves", func() bool { return bindOnce(a.uri(), userDN("alice"), "alice-main") == 0 })
	for range 20 {
		expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
		expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
	}
}
