package history

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestNoWayToTheDirectory: what notes the logins can change no app password. It sees the configuration and the events of our packages, knows
// no LDAP, and opens no connection but by the driver of its store.
func TestNoWayToTheDirectory(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			seen++
			path := strings.Trim(spec.Path.Value, `"`)
			ours := strings.HasPrefix(path, "appbind/")
			if ours && path != "appbind/config" && path != "appbind/events" || strings.Contains(path, "ldap") ||
				slices.Contains([]string{"net", "net/http", "os/exec", "crypto/tls"}, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
	if seen == 0 {
		t.Error("no imports were found")
	}
}
