package auth

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
	"time"
)

// TestReasons: the list has every constant, once.
func TestReasons(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	list, n := Reasons(), 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		n++
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || !slices.Contains(list, text) {
			t.Errorf("%s is not in the list", spec.Names[0].Name)
		}
		return true
	})
	slices.Sort(list)
	if len(slices.Compact(list)) != n {
		t.Errorf("%d reasons listed, %d declared", len(list), n)
	}
}

// TestStats: the tables are counted by their names.
func TestStats(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	now := time.Now()
	m.verified.add(digest{1}, now)
	m.verified.add(digest{2}, now)
	m.misses.add(digest{1}, now)
	m.parsed.parse([]byte("$app$a$b"))
	m.flawless.add(1, now)
	_ = m.guesses.take("a", now)
	_ = m.generated.take("a", now)
	_ = m.codes.take("a", now)
	_, _ = m.claims.claim(digest{1}, now)
	m.hashing.slots.refused, m.hashing.slots.queued, m.hashing.slots.used = 3, 4, 5
	m.hashing.slots.running["a"] = true
	m.unusable.Add(7)
	m.hashing.computed.Add(8)
	st := m.Stats()
	want := map[string]int{"verified": 2, "misses": 1, "parsed": 1, "flawless": 1, "guesses": 2, "codes_wrong": 1, "codes_used": 1}
	for _, c := range st.MemoryCounts {
		if c.N != want[c.Name] {
			t.Errorf("%s: %d, want %d", c.Name, c.N, want[c.Name])
		}
		delete(want, c.Name)
	}
	if len(want) > 0 || st.HashRefused != 3 || st.HashQueued != 4 || st.HashMemory != 5 || st.HashRunning != 1 || st.Unusable != 7 || st.Hashed != 8 {
		t.Errorf("%v %+v", want, st)
	}
}
