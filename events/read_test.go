package events

import (
	"bytes"
	"compress/gzip"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRead: what is written is read, in its order, and what else is in the file is counted and left out.
func TestRead(t *testing.T) {
	t.Parallel()
	all := []Event{
		{Time: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Kind: Issued, Entry: "e1", DN: "uid=alice", ID: "w1nd", Label: "phone\nLF", Services: []string{"imap"}},
		{Time: time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC), Kind: Purged, Count: 7},
	}
	first, second := string(all[0].encode("1")), string(all[1].encode("2"))
	text := first + "\n\n" + second[:40] + "\n" + "time=2026-11-21T10:07:49.826Z level=INFO msg=bind\n" + `{"time":"2026-11-21T10:07:49Z","level":"INFO","msg":"bind"}` + "\nnull\n{}\n" + second
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := io.WriteString(z, text); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{"plain": strings.NewReader(text), "gzip": &zipped} {
		var raw []string
		var lines []Line
		odd, err := Read(r, func(l *Line, b []byte) error {
			lines, raw = append(lines, *l), append(raw, string(b))
			return nil
		})
		if err != nil || odd != 5 || !slices.Equal(raw, []string{first, second}) {
			t.Fatalf("%s: %v, %d odd lines, %q", name, err, odd, raw)
		}
		if l := lines[0]; l.Event != Issued || l.User != "uid=alice" || l.Label != "phone\nLF" || l.Password != "w1nd" || !l.Time.Equal(all[0].Time) || lines[1].Count != 7 {
			t.Errorf("%s: %+v", name, lines)
		}
	}
}

// TestReadEnds at the first error, and at what cannot be a line.
func TestReadEnds(t *testing.T) {
	t.Parallel()
	stop := errors.New("stop")
	line := string((&Event{Time: time.Unix(1, 0), Kind: Issued}).encode("1")) + "\n"
	calls := 0
	if _, err := Read(strings.NewReader(line+line), func(*Line, []byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	for _, text := range []string{line + strings.Repeat("x", maxLine+1), "\x1f\x8bnot gzip"} {
		if _, err := Read(strings.NewReader(text), func(*Line, []byte) error { return nil }); err == nil {
			t.Errorf("no error of %.20q", text)
		}
	}
	if odd, err := Read(strings.NewReader(""), nil); odd != 0 || err != nil {
		t.Errorf("an empty log: %d, %v", odd, err)
	}
}

// TestKinds: Kinds has all constants of the type.
func TestKinds(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "events.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if v, ok := node.(*ast.ValueSpec); ok {
			if id, ok := v.Type.(*ast.Ident); ok && id.Name == "Kind" {
				n += len(v.Names)
				value := strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`)
				if !slices.Contains(Kinds, Kind(value)) {
					t.Errorf("Kinds has no %s", value)
				}
			}
		}
		return true
	})
	if n != len(Kinds) {
		t.Errorf("%d constants, %d Kinds", n, len(Kinds))
	}
}
