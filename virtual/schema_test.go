package virtual

import (
	"os"
	"strings"
	"testing"
)

// TestSchemaFile: the file for people has the definitions that clients are told, and no others.
func TestSchemaFile(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../contrib/schema/virtual-entries.schema")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(file)) {
		if !strings.HasPrefix(line, "#") {
			text.WriteString(line)
		}
	}
	types, class := Definitions()
	var want strings.Builder
	for _, d := range types {
		want.WriteString("attributetype " + d.Text + " ")
	}
	want.WriteString("objectclass " + class.Text)
	if got := strings.Join(strings.Fields(text.String()), " "); got != want.String() {
		t.Errorf("the file has\n%s\nthe code\n%s", got, want.String())
	}
}
