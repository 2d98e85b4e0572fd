package loopback

import "testing"

// TestFree: as many as are asked for, all different.
func TestFree(t *testing.T) {
	list := make([]string, 300)
	to := make([]*string, len(list))
	for i := range list {
		to[i] = &list[i]
	}
	if err := Free(to...); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{"": true}
	for _, addr := range list {
		if seen[addr] {
			t.Errorf("%q is there twice, or none", addr)
		}
		seen[addr] = true
	}
}
