package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// cell is one work on one server.
type cell struct{ work, server string }

// results is the samples of each cell, one for each round, and why some have none.
type results struct {
	samples map[cell][]sample
	refused map[cell]error
}

// rounds runs every work on every server, all of them once before any a second
// time, so that a change of the machine's mood meets all alike.
func (h *house) rounds(list []work, rounds int, d time.Duration, progress func(string)) (*results, error) {
	r := &results{samples: map[cell][]sample{}, refused: map[cell]error{}}
	primed := map[primedCell]bool{}
	for round := range rounds {
		for i := range list {
			for _, name := range list[i].servers(h) {
				c := cell{list[i].name, name}
				s, err := h.one(&list[i], name, d, primed)
				if err != nil && name == lloadd { // it has limits of its own, and is here only to compare with
					err = fmt.Errorf("%w: %w", errNotAvailable, err)
					progress(fmt.Sprintf("%s, %s: %v", c.work, c.server, err))
				}
				if errors.Is(err, errNotAvailable) {
					r.refused[c] = err
					continue
				}
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", c.work, c.server, err)
				}
				r.samples[c] = append(r.samples[c], s)
				progress(fmt.Sprintf("round %d/%d  %-70s %-10s %9.0f/s  %7.1f us CPU", round+1, rounds, c.work, c.server, s.Rate, s.CPU))
			}
		}
	}
	return r, nil
}

// primedCell is a process that was sent the requests of a work before.
type primedCell struct {
	work string
	pid  int
}

// servers names who does a work.
func (w *work) servers(h *house) []string {
	var names []string
	for _, name := range []string{direct, backLDAP, haproxy, lloadd} {
		if w.peers && h.peers[name] != nil {
			names = append(names, name)
		}
	}
	if w.variant != "" {
		names = append(names, ours)
		if h.beside != "" {
			names = append(names, other)
		}
	}
	return names
}

// one is one run of a work on a server.
func (h *house) one(w *work, name string, d time.Duration, primed map[primedCell]bool) (sample, error) {
	s := h.peers[name]
	if name == ours || name == other {
		var err error
		if s, err = h.proxy(name, w.variant, w.fresh); err != nil {
			return sample{}, err
		}
	}
	addr := s.addr
	if w.deny {
		addr = s.deny
	}
	l := w.load(h.site)
	if l.tls = w.tls; l.tls {
		addr = s.tls
	}
	key := primedCell{w.name, s.cmd.Process.Pid}
	if !l.once && !primed[key] {
		if err := l.prime(addr, s.process); err != nil {
			return sample{}, err
		}
		primed[key] = true
	}
	saved := h.startProfile(w.name, name, s, l, d)
	r, err := l.measure(addr, s.process, d)
	return r, errors.Join(err, <-saved)
}

// median is the sample whose figures are the medians of the rounds, each for itself.
func median(samples []sample) sample {
	return sample{Rate: middle(samples, func(s sample) float64 { return s.Rate }), CPU: middle(samples, func(s sample) float64 { return s.CPU }),
		P50: middle(samples, func(s sample) time.Duration { return s.P50 }), P99: middle(samples, func(s sample) time.Duration { return s.P99 }),
		Ops: middle(samples, func(s sample) int64 { return s.Ops })}
}

// middle is the median of one figure; the lower one of two in the middle.
func middle[T cmp.Ordered](samples []sample, of func(sample) T) T {
	list := make([]T, 0, len(samples))
	for _, s := range samples {
		list = append(list, of(s))
	}
	slices.Sort(list)
	return list[(len(list)-1)/2]
}
