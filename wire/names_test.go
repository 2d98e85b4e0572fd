package wire

import (
	"fmt"
	"strings"
	"testing"
)

// TestNames: only the very name is known, however many share its place.
func TestNames(t *testing.T) {
	t.Parallel()
	n := new(Names)
	for i := range 3 * len(n) {
		name := fmt.Sprint("uid=user", i)
		if n.Has(name) {
			t.Fatalf("%q is known before it was added", name)
		}
		if n.Add(name); !n.Has(name) {
			t.Fatalf("%q is not known", name)
		}
	}
	long := strings.Repeat("x", maxKnownName+1)
	if n.Add(long); n.Has(long) {
		t.Error("a name that is too long is kept")
	}
}
