package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"time"

	"appbind/secrets"
)

// The directory whose users a replica reads at its start.
const (
	largeSite    = 100000
	largeSecrets = 3
)

// isLoaded is the line of the log that says that the replica holds every user.
var isLoaded = regexp.MustCompile(`msg="replica is current"`)

// startup is what the start of a replica costs.
type startup struct {
	Took  time.Duration
	Bytes int64 // resident, for each user
	Err   error
}

// measureStart starts appbind on a copy of 100,000 users with three secrets each.
func (h *house) measureStart() startup {
	ldif := h.dir + "/large.ldif"
	if err := writeLarge(ldif); err != nil {
		return startup{Err: err}
	}
	upstream, err := h.startSlapd("slapd-large", ldif)
	if err != nil {
		return startup{Err: err}
	}
	defer upstream.stop()
	from := time.Now()
	s, err := h.startAppbind(h.program, "appbind-large", variants["replica"], upstream.addr)
	if err != nil {
		return startup{Err: err}
	}
	defer s.stop()
	took := time.Since(from)
	memory, err := s.resident()
	return startup{Took: took, Bytes: memory / largeSite, Err: err}
}

// writeLarge writes many users. They share three secrets: only their number counts.
func writeLarge(path string) error {
	var values []string
	for i := range largeSecrets {
		_, value, err := newSecret(secrets.SHA256, fmt.Sprint("device ", i), nil)
		if err != nil {
			return err
		}
		values = append(values, value)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	writeTree(w)
	for i := range largeSite {
		a := newAccount(fmt.Sprintf("user%d", i))
		a.write(w, i/department, values)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
