package proxy

import (
	"sync/atomic"
	"time"
)

// DurationBounds are the upper bounds of the buckets of every Durations; one more takes what is longer.
var DurationBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Durations is a snapshot of a histogram.
type Durations struct {
	Counts [len(DurationBounds) + 1]uint64 // by bucket, not summed up
	Sum    time.Duration
}

// Total is how many durations were counted.
func (d *Durations) Total() (n uint64) {
	for _, c := range d.Counts {
		n += c
	}
	return n
}

// histogram counts durations: two atomic additions each, no lock, no allocation.
type histogram struct {
	counts [len(DurationBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func (h *histogram) add(d time.Duration) {
	i := 0
	for i < len(DurationBounds) && d > DurationBounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// snapshot is not of one moment: a duration that is being added may be in one of the two only.
func (h *histogram) snapshot() (d Durations) {
	d.Sum = time.Duration(h.sum.Load())
	for i := range h.counts {
		d.Counts[i] = h.counts[i].Load()
	}
	return d
}
