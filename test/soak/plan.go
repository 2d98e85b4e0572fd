package main

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
)

// The identities of the directory.
const (
	suffix    = "dc=example,dc=org"
	people    = "ou=people," + suffix
	adminDN   = "cn=admin," + suffix
	adminPW   = "admin-secret"
	serviceDN = "cn=appbind,ou=services," + suffix // appbind's own
	servicePW = "appbind-secret"
)

// kind is what becomes of a user in the run.
type kind int

const (
	ordinary kind = iota
	shared        // several connections bind as it at the same time; nothing that fails upstream
	enrolled      // has a second factor
	disabled      // may not log in
	attacked      // somebody guesses at its main password
	changing      // is changed while the run goes on, see change
)

// change is what is done to a changing user.
type change string

const (
	revoke  change = "revoke"  // its first app password is deleted
	issue   change = "issue"   // an app password is added
	reset   change = "reset"   // its main password becomes NewMain
	disable change = "disable" // it may not log in any more
)

// changes are dealt out to the changing users in turn.
var changes = []change{revoke, issue, reset, disable}

// user is one account, with everything that anybody ever tries as its password.
type user struct {
	Index   int
	UID, DN string
	Kind    kind
	Change  change
	Main    string
	NewMain string // after a reset
	Stale   string // a main password of the past
	TOTP    string // the secret in base32; "": no second factor
	Apps    []app
	Issued  app // of an issue: not stored at first
	// Revoked were app passwords once and are stored no more.
	Revoked []string
	Since   bool // its entry tells when the password was set
}

// app is one app password.
type app struct {
	Password, Value string
	Selected        bool // the value names the selector
	Barred          bool // expired, or bound to a service and a network that nobody has here
}

// plan is everything that is decided before the first bind.
type plan struct {
	Seed  uint64
	Users []user
	Binds int
}

// source is the random source of one part of the plan.
func source(seed uint64, part string, n int) *rand.Rand {
	return rand.New(rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "%d %s %d", seed, part, n))))
}

// newPlan makes the users; the same seed makes the same ones.
func newPlan(seed uint64, users, binds int) (*plan, error) {
	p := &plan{Seed: seed, Users: make([]user, users), Binds: binds}
	var wg sync.WaitGroup
	errs := make([]error, runtime.NumCPU())
	for c := range errs {
		wg.Go(func() {
			for i := c; i < users && errs[c] == nil; i += len(errs) {
				p.Users[i], errs[c] = newUser(i, source(seed, "user", i))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// kindOf deals out the kinds: of fifty users in turn, each has its place.
func kindOf(i int) kind {
	switch i % 50 {
	case 7:
		return shared
	case 13, 38:
		return enrolled
	case 21:
		return disabled
	case 29:
		return attacked
	case 42:
		return changing
	}
	return ordinary
}

func newUser(i int, r *rand.Rand) (user, error) {
	uid := fmt.Sprintf("user%d", i)
	u := user{Index: i, UID: uid, DN: "uid=" + uid + "," + people, Kind: kindOf(i),
		Main: "main password of " + uid, NewMain: "new password of " + uid, Stale: "old password of " + uid, Since: r.IntN(2) == 0}
	n := secretsOf(r)
	switch u.Kind {
	case enrolled:
		var b [20]byte
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		u.TOTP = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])
	case changing:
		u.Change = changes[i/50%len(changes)]
		n = max(n, 1)
	}
	taken := map[string]bool{}
	for k := range n {
		// Guesses at values without a selector are limited; users at whom somebody guesses have none.
		a, err := newApp(r, k, taken, u.Kind == ordinary)
		if err != nil {
			return u, err
		}
		u.Apps = append(u.Apps, a)
	}
	u.Revoked = []string{draw(r, taken), draw(r, taken)}
	var err error
	if u.Change == issue {
		u.Issued, err = newApp(r, 0, taken, false)
	}
	if u.Change == revoke { // the one that is deleted is a plain one
		u.Apps[0], err = newApp(r, 0, taken, false)
	}
	return u, err
}

// secretsOf is how many app passwords a user has: a fifth none, most a few, one in twenty up to fifty.
func secretsOf(r *rand.Rand) int {
	switch n := r.IntN(100); {
	case n < 20:
		return 0
	case n < 60:
		return 1
	case n < 85:
		return 2 + r.IntN(4)
	case n < 95:
		return 6 + r.IntN(15)
	}
	return 21 + r.IntN(30)
}

// newApp makes an app password. The first of a user is never barred, so that most users have one that works.
func newApp(r *rand.Rand, k int, taken map[string]bool, odd bool) (app, error) {
	a := app{Password: draw(r, taken), Selected: true}
	name := fmt.Sprintf("device %d;id=%s", k, a.Password[:4])
	switch n := r.IntN(100); {
	case odd && n < 8: // made here, its hash stored by another tool
		a.Selected, name = false, fmt.Sprintf("device %d", k)
	case odd && n < 16: // chosen by a person
		a.Selected, name = false, fmt.Sprintf("device %d", k)
		a.Password = fmt.Sprintf("chosen by a person %x", r.Uint64())
	case k > 0 && n < 30:
		a.Barred = true
		name += []string{";exp=20200101000000Z", ";svc=imap", ";net=192.0.2.0/24"}[r.IntN(3)]
	}
	hash, err := newHash(r, a.Password)
	a.Value = "$app$" + name + "$" + hash
	return a, err
}

// alphabet is Crockford's base32 in lower case.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// draw makes a password of the generated form (doc/secret-format.md) with a
// selector that the user has not had yet.
func draw(r *rand.Rand, taken map[string]bool) string {
	for {
		b := make([]byte, 20)
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		if head := string(b[:4]); !taken[head] && !strings.HasPrefix(head, "app") {
			taken[head] = true
			return display(string(b))
		}
	}
}

// display adds the check to the twenty characters, and the groups.
func display(drawn string) string {
	sum := sha256.Sum256([]byte(drawn))
	first := uint32(sum[0])<<12 | uint32(sum[1])<<4 | uint32(sum[2])>>4
	for shift := 15; shift >= 0; shift -= 5 {
		drawn += alphabet[first>>shift&31 : first>>shift&31+1]
	}
	var groups []string
	for i := 0; i < len(drawn); i += 4 {
		groups = append(groups, drawn[i:i+4])
	}
	return strings.Join(groups, "-")
}

// withSelector is a password that is stored nowhere and has the selector of one that is.
func withSelector(r *rand.Rand, selector string) string {
	other := draw(r, map[string]bool{})
	return display(selector + strings.ReplaceAll(other, "-", "")[4:20])
}
