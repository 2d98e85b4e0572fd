//go:build !race

package backend

import (
	"context"
	"testing"

	"appbind/backend/fakeldap"
)

// holdsEve is an upstream whose replica holds eve.
func holdsEve(tb testing.TB) *Upstream {
	tb.Helper()
	k := newKeeper(false)
	u := polled(tb, never, never, fake(tb, fakeldap.Options{Handler: k.Handle}))
	isCurrent(tb, u, true)
	return u
}

// heldNames are the names that she binds with, and what a lookup of each allocates.
var heldNames = []struct {
	kind, name string
	most       float64
}{
	{"as the directory spells it", "uid=eve," + people, 0},
	{"name", "eve", 0},
}

func BenchmarkFindInReplica(b *testing.B) {
	u := holdsEve(b)
	for _, n := range heldNames {
		b.Run(n.kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := u.Find(context.Background(), n.name); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestFindInReplicaAllocations pins what a lookup without the directory costs.
func TestFindInReplicaAllocations(t *testing.T) {
	u := holdsEve(t)
	for _, n := range heldNames {
		got := testing.AllocsPerRun(1000, func() {
			if _, err := u.Find(context.Background(), n.name); err != nil {
				t.Fatal(err)
			}
		})
		if got > n.most {
			t.Errorf("%s: %v allocations, at most %v", n.kind, got, n.most)
		}
	}
}
