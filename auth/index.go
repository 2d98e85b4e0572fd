package auth

import (
	"sync/atomic"

	"appbind/secrets"
)

// Index keeps what binds have found out about the values of an entry that several of them share, so that the next one need not look at
// all of them: with fifty, most of a bind's work would be to read them. The zero value is ready; it can be used from several goroutines.
// It belongs to one list of values and is made anew for another.
type Index struct{ made atomic.Pointer[marks] }

// marks says of each value what a bind must know to pass it by.
type marks struct {
	of   *[]byte // the first value of the list that was read
	each []uint32
}

// A mark is the four characters of a selector, or one of these.
const (
	markNone       uint32 = 0       // no app password, or one that is unusable
	markUnselected uint32 = 1       // an app password without a selector
	markUnusable   uint32 = 1 << 31 // beside the others: reported
)

// selectorMark is the mark of a selector, which has four ASCII characters.
func selectorMark(id string) uint32 {
	if len(id) != 4 {
		return markNone
	}
	return uint32(id[0])<<24 | uint32(id[1])<<16 | uint32(id[2])<<8 | uint32(id[3])
}

func markOf(v *secrets.Value) (mark uint32) {
	switch {
	case v.Kind == secrets.App && v.ID != "":
		mark = selectorMark(v.ID)
	case v.Kind == secrets.App && v.Err == nil:
		mark = markUnselected
	}
	if v.Err != nil {
		mark |= markUnusable
	}
	return mark
}

// marks are those of the entry's values, made by the first bind that asks; nil where the entry is one bind's own.
func (e *Entry) marks() []uint32 {
	if e.Index == nil || len(e.Values) == 0 {
		return nil
	}
	if m := e.Index.made.Load(); m != nil && m.of == &e.Values[0] && len(m.each) == len(e.Values) {
		return m.each
	}
	m := &marks{of: &e.Values[0], each: make([]uint32, len(e.Values))}
	for i, raw := range e.Values {
		m.each[i] = markOf(secrets.Parse(raw))
	}
	e.Index.made.Store(m)
	return m.each
}

// faultless reports whether the marks tell that every value is usable.
func faultless(marks []uint32) bool {
	all := uint32(0)
	for _, m := range marks {
		all |= m
	}
	return marks != nil && all&markUnusable == 0
}
