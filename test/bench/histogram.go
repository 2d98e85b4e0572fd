package main

import (
	"math/bits"
	"time"
)

// subBuckets is how many buckets there are for each power of two: a latency is
// known to 1/32, 3 %.
const (
	subBits    = 5
	subBuckets = 1 << subBits
)

// histogram counts latencies in buckets that grow with them.
type histogram struct {
	buckets [64 * subBuckets]int64
	count   int64
}

// add counts one latency.
func (h *histogram) add(d time.Duration) {
	h.buckets[bucket(uint64(max(d, 0)))]++
	h.count++
}

// merge adds what another one has counted.
func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
}

// quantile is the latency that a share q (0 to 1) of the operations did not
// exceed, as the upper end of its bucket; 0 of none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank, seen := int64(q*float64(h.count-1))+1, int64(0)
	for i, n := range h.buckets {
		if seen += n; seen >= rank {
			return time.Duration(upper(i))
		}
	}
	panic("appbind: internal error: histogram counts do not add up")
}

// bucket is the index of a value: the values below subBuckets one by one, then
// subBuckets for each power of two.
func bucket(v uint64) int {
	if v < subBuckets {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)*subBuckets + int(v>>shift) - subBuckets
}

// upper is the largest value of a bucket.
func upper(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	shift := i/subBuckets - 1
	return (uint64(i%subBuckets)+subBuckets+1)<<shift - 1
}
