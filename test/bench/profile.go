package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// profileOnce is how long a load that is sent once is profiled: it may end before.
const profileOnce = time.Second

// startProfile saves what appbind spends its CPU time on during a run, where
// profiles are wanted. The channel gets the result when the profile is there.
func (h *house) startProfile(work, name string, s *server, l *load, d time.Duration) <-chan error {
	saved := make(chan error, 1)
	if h.profile == "" || name != ours && name != other {
		saved <- nil
		return saved
	}
	if l.once {
		d = profileOnce
	}
	// Whole seconds is what the profiler takes; the warm-up is part of it.
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.seen, max(1, int(d/time.Second)))
	if name == other {
		work += " beside"
	}
	file := filepath.Join(h.profile, profileName(work))
	go func() { saved <- fetch(url, file) }()
	return saved
}

// saveMemory saves what appbind holds in memory, where profiles are wanted: profiles of the heap and of the
// goroutines, and the heap once more as text, which ends with the sizes of everything else.
// GODEBUG=memprofilerate=4096 makes them finer.
func (h *house) saveMemory(s *server, name string) error {
	if h.profile == "" {
		return nil
	}
	for query, file := range map[string]string{"heap": "-heap.pprof", "goroutine": "-goroutine.pprof", "heap?debug=1": "-memory.txt"} {
		if err := fetch(fmt.Sprintf("http://%s/debug/pprof/%s", s.seen, query), filepath.Join(h.profile, name+file)); err != nil {
			return err
		}
	}
	return nil
}

// profileName is a work as the name of a file.
func profileName(work string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.ToLower(work))
	return name + ".pprof"
}

// fetch saves the answer to a request.
func fetch(url, file string) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, answer.Status)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}
