package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"appbind/secrets"
)

// The directory whose users a replica reads at its start.
const (
	largeSite    = 100000
	largeSecrets = 3
)

// startPoll is how often a process that starts is asked.
const startPoll = 2 * time.Millisecond

// isLoaded is the line of the log that says that the replica holds every user.
var isLoaded = regexp.MustCompile(`msg="replica is current"`)

// startup is what one start of a replica took, each from the start of the process.
type startup struct {
	Name  string
	Bind  time.Duration // until a user's app password was accepted
	Ready time.Duration // until /readyz said 200
	Held  time.Duration // until the log said that every user is held; 0: it does not wait for that
	Bytes int64         // resident then, for each user
	Err   error
}

// measureStart starts appbind on a copy of 100,000 users with three secrets each: without and with a snapshot of
// it, and with one while the directory is down.
func (h *house) measureStart() []startup {
	results := []startup{{Name: "without a snapshot"}, {Name: "with a snapshot"}, {Name: "with a snapshot, no directory"}}
	if err := h.starts(results); err != nil {
		for i := range results {
			results[i].Err = err
		}
	}
	return results
}

func (h *house) starts(results []startup) error {
	ldif := h.dir + "/large.ldif"
	password, err := writeLarge(ldif)
	if err != nil {
		return err
	}
	upstream, err := h.startSlapd("slapd-large", ldif)
	if err != nil {
		return err
	}
	defer upstream.stop()
	state := filepath.Join(h.dir, "large-state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	kept := fmt.Sprintf("state_dir: %q\napp_passwords: {lookup: replica, snapshot: true}\n", state)
	user := bindStep("uid=user7,"+people, password, 0)
	results[0].measure(h, variants["replica"], upstream.addr, user, true)
	warm := startup{} // leaves the snapshot when it stops
	if warm.measure(h, kept, upstream.addr, user, true); warm.Err != nil {
		return warm.Err
	}
	results[1].measure(h, kept, upstream.addr, user, true)
	upstream.stop()
	results[2].measure(h, kept, upstream.addr, user, false)
	return nil
}

// measure starts appbind and stops it. held: it will hold every user of the directory.
func (r *startup) measure(h *house, more, upstream string, user step, held bool) {
	from := time.Now()
	s, err := h.launch(h.program, "appbind-large", more, upstream, true)
	if err != nil {
		r.Err = err
		return
	}
	defer s.stop()
	var wg sync.WaitGroup
	var errs [3]error
	wait := func(i int, took *time.Duration, what string, ok func() bool) {
		wg.Go(func() {
			errs[i] = s.await(what, ok)
			*took = time.Since(from)
		})
	}
	wait(0, &r.Bind, "a bind that is accepted", func() bool { return accepts(s.addr, user) })
	wait(1, &r.Ready, "being ready", func() bool { return isReady(s.seen) })
	if held {
		wait(2, &r.Held, "a replica that holds every user", func() bool { return isLoaded.Match(s.printed()) })
	}
	wg.Wait()
	if r.Err = errors.Join(errs[:]...); r.Err != nil {
		return
	}
	memory, err := s.resident()
	r.Bytes, r.Err = memory/largeSite, err
}

// accepts reports whether a bind is answered as it must be.
func accepts(addr string, bind step) bool {
	conn, err := login(addr, nil, bind)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// isReady asks appbind whether it is in service.
func isReady(addr string) bool {
	answer, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// writeLarge writes many users. They share three secrets, since only the number of those counts; it returns a password.
func writeLarge(path string) (string, error) {
	var values []string
	var password string
	for i := range largeSecrets {
		g, value, err := newSecret(secrets.SHA256, fmt.Sprint("device ", i), nil)
		if err != nil {
			return "", err
		}
		values, password = append(values, value), g.Password
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	writeTree(w)
	for i := range largeSite {
		a := newAccount(fmt.Sprintf("user%d", i))
		a.write(w, i/department, values)
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	return password, f.Close()
}
