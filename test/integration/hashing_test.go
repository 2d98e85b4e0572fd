package integration

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hoards are users with many slow hashes: fifty of bcrypt, of which the last
// fits, and some with one of argon2id that takes 64 MiB.
func hoards(t testing.TB) (ldif string, big []string) {
	t.Helper()
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(person("hoarder", "hoarder-main"), "\n"))
	for i := range 49 {
		fmt.Fprintf(&b, "appPassword: $app$old%d$%s\n", i, alien(t, hoardCost))
	}
	fmt.Fprintf(&b, "appPassword: $app$last$%s\n\n", bcryptOf(t, lastOfFifty, hoardCost))
	for i := range 4 {
		big = append(big, "big"+strconv.Itoa(i))
		b.WriteString(strings.TrimSuffix(person(big[i], "big-main"), "\n"))
		b.WriteString("appPassword: $app$big$$argon2id$v=19$m=65536,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObGRdescudvJCs\n\n")
	}
	return b.String(), big
}

const (
	// hoardCost makes a hash take 20 ms with the race detector, and fifty of them a second.
	hoardCost   = 5
	lastOfFifty = "the last of fifty"
)

// TestManyHashes: guesses at entries with slow hashes are answered within the
// deadline of a bind, other users' logins stay quick, and memory is bounded.
func TestManyHashes(t *testing.T) {
	ldif, big := hoards(t)
	s := startSlapd(t, slapdOptions{LDIF: ldif})
	phone, tablet := newPassword(t, "phone"), newPassword(t, "tablet", "--algorithm", "bcrypt")
	s.addSecret("alice", phone.Value)
	s.addSecret("bob", tablet.Value)
	config := baseConfig(s, "", "app_passwords:\n  hash_memory: 128\n")
	a := startAppbind(t, config)
	expectBind(t, a.uri(), userDN("hoarder"), lastOfFifty, 0)
	expectBind(t, a.uri(), userDN("bob"), tablet.Password, 0)

	// Fifty hashes that nobody else delays do not outlast the deadline of the bind.
	a.hangup(replaceOnce(t, config, "upstream:\n", "upstream:\n  bind_timeout: 500ms\n  connect_timeout: 200ms\n"), reloaded)
	expectBind(t, a.uri(), userDN("hoarder"), "a guess", 51)
	a.hangup(config, reloaded)

	var guesses guessing
	for range 4 {
		guesses.start(t, a.uri(), "hoarder", 5)
	}
	for _, uid := range big {
		guesses.start(t, a.uri(), uid, 3)
	}
	var slowest time.Duration
	for range 5 {
		for _, login := range [][2]string{{"alice", phone.Password}, {"alice", "alice-main"}, {"bob", tablet.Password}, {"dave", "dave-main"}} {
			began := time.Now()
			expectBind(t, a.uri(), userDN(login[0]), login[1], 0)
			slowest = max(slowest, time.Since(began))
		}
	}
	guesses.wg.Wait()
	if slowest > 4*time.Second {
		t.Errorf("a login of another user takes %v", slowest)
	}
	expectBind(t, a.uri(), userDN("hoarder"), lastOfFifty, 0) // known to be good, whatever was guessed
	peak := peakMemory(t, a)
	if peak > 1<<30 {
		t.Errorf("appbind has used %d MiB", peak>>20)
	}
	t.Logf("answers to guesses %v, slowest %v, slowest login of others %v, peak of memory %d MiB", guesses.answers, guesses.slowest, slowest, peak>>20)
}

// guessing is clients that guess passwords.
type guessing struct {
	wg sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	answers map[int]int
	slowest time.Duration
	made    int
}

// start makes guesses at a user, one after the other. Each must be answered,
// within the five seconds that a bind may take and what a busy machine adds.
func (g *guessing) start(t testing.TB, uri, uid string, times int) {
	g.wg.Go(func() {
		for range times {
			g.mu.Lock()
			g.made++
			password := "guess " + strconv.Itoa(g.made)
			g.mu.Unlock()
			began := time.Now()
			got := bindOnce(uri, userDN(uid), password)
			took := time.Since(began)
			if got != 49 && got != 51 && got != 52 || took > 10*time.Second {
				t.Errorf("a guess at %s: code %d after %v", uid, got, took)
			}
			g.mu.Lock()
			if g.answers == nil {
				g.answers = map[int]int{}
			}
			g.answers[got]++
			g.slowest = max(g.slowest, took)
			g.mu.Unlock()
		}
	})
}

// peakMemory is the largest resident size that the process has had, in bytes.
func peakMemory(t testing.TB, a *appbind) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in\n%s", status)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
