package wire

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
)

// Names remembers names by their exact spelling, each at the place of its hash, in that of another one. It
// spares who asks about the same thousands of names again and again to parse them each time. The zero value is
// ready. Safe for concurrent use.
type Names [1 << 14]atomic.Pointer[string]

// maxKnownName is the length of a name up to which it is remembered, in bytes.
const maxKnownName = 256

var namesSeed = maphash.MakeSeed()

// Has reports whether the name was added, and its place not taken by another one since.
func (n *Names) Has(name string) bool {
	known := n.place(name).Load()
	return known != nil && *known == name
}

// Add remembers a name, unless it is very long.
func (n *Names) Add(name string) {
	if len(name) <= maxKnownName {
		own := strings.Clone(name)
		n.place(name).Store(&own)
	}
}

func (n *Names) place(name string) *atomic.Pointer[string] {
	return &n[maphash.String(namesSeed, name)%uint64(len(n))]
}
