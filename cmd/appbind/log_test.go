package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/config"
)

// gate is a sink whose writes wait for a word each, and tell what they got.
type gate struct {
	begun chan string
	pass  chan struct{}
}

func newGate() *gate { return &gate{begun: make(chan string), pass: make(chan struct{})} }

func (g *gate) Write(b []byte) (int, error) {
	g.begun <- string(b)
	<-g.pass
	return len(b), nil
}

// record keeps the writes apart.
type record struct {
	mu     sync.Mutex // guards writes
	writes []string
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, string(b))
	return len(b), nil
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.writes)
}

// TestLoneLine: a line that comes alone is written before Write returns, one behind it without any further call.
func TestLoneLine(t *testing.T) {
	t.Parallel()
	r := &record{}
	w := newLogWriter(r)
	w.Write([]byte("one\n"))
	if got := r.all(); len(got) != 1 || got[0] != "one\n" {
		t.Fatalf("%q", got)
	}
	w.Write([]byte("two\n"))
	w.Write([]byte("three\n"))
	for limit := time.Now().Add(10 * time.Second); strings.Join(r.all(), "") != "one\ntwo\nthree\n"; {
		if time.Now().After(limit) {
			t.Fatalf("%q", r.all())
		}
		<-time.After(time.Millisecond)
	}
	<-time.After(2 * logDelay)
	w.Write([]byte("four\n"))
	if got := r.all(); got[len(got)-1] != "four\n" {
		t.Errorf("a line after a pause waits: %q", got)
	}
}

// TestLinesTogether: what comes during a write goes out with the next, Flush
// waits for both, and whoever fills the backlog waits as well.
func TestLinesTogether(t *testing.T) {
	t.Parallel()
	g := newGate()
	w := newLogWriter(g)
	first := make(chan struct{})
	go func() { w.Write([]byte("one\n")); close(first) }()
	if got := <-g.begun; got != "one\n" {
		t.Fatalf("%q", got)
	}
	w.Write([]byte("two\n"))
	w.Write(bytes.Repeat([]byte("x"), logBacklog))
	over, flushed := make(chan struct{}), make(chan struct{})
	go func() { w.Write([]byte("over\n")); close(over) }()
	go func() { w.Flush(); close(flushed) }()
	select {
	case <-over:
		t.Error("nobody waits for a full backlog")
	case <-flushed:
		t.Error("Flush does not wait for the write under way")
	case <-time.After(20 * time.Millisecond):
	}
	g.pass <- struct{}{}
	got := <-g.begun
	if !strings.HasPrefix(got, "two\nxxx") {
		t.Errorf("%.20q", got)
	}
	<-over // the backlog is in the write, there is room behind it
	g.pass <- struct{}{}
	if got := <-g.begun; got != "over\n" {
		t.Errorf("%.20q", got)
	}
	g.pass <- struct{}{}
	<-first
	<-flushed
}

// TestNoLineLost: every line of many goroutines is there once, whole, and in the order of its goroutine.
func TestNoLineLost(t *testing.T) {
	t.Parallel()
	const writers, lines = 8, 2000
	r := &record{}
	w := newLogWriter(r)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range lines {
				fmt.Fprintf(w, "%d %d\n", i, n)
			}
		})
	}
	wg.Wait()
	w.Flush()
	writes := r.all()
	var next [writers]int
	for line := range strings.Lines(strings.Join(writes, "")) {
		var i, n int
		if _, err := fmt.Sscanf(line, "%d %d\n", &i, &n); err != nil || n != next[i] {
			t.Fatalf("%q, want line %d: %v", line, next[i], err)
		}
		next[i]++
	}
	for i := range next {
		if next[i] != lines {
			t.Errorf("%d of %d lines of writer %d", next[i], lines, i)
		}
	}
	if len(writes) > writers*lines/10 {
		t.Errorf("%d writes", len(writes))
	}
}

// TestLastLine: what was logged last is written when serve returns, in both formats.
func TestLastLine(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		r := &record{}
		h := newHouse(r, config.Log{Level: "info", Format: format})
		for i := range 100 {
			h.log.LogAttrs(context.Background(), slog.LevelInfo, "bind", slog.Int("n", i))
		}
		h.close()
		got := strings.Join(r.all(), "")
		if strings.Count(got, "\n") != 100 || !strings.Contains(got[strings.LastIndexByte(got[:len(got)-1], '\n'):], "99") {
			t.Errorf("%s: %q", format, got)
		}
	}
}
