package secrets

import (
	"os"
	"strings"
	"testing"
)

// stricter are the rows of testdata/hashes.tsv, by stored value and password, in which Stalwart says true and
// we say false on purpose. doc/secret-format.md lists the same; the reasons are the table's keys there.
var stricter = map[[2]string]string{
	{"plain text secret", "plain text secret"}: "clear text",
	{"{plain}correct horse", "correct horse"}:  "clear text",
	{"{clear}correct horse", "correct horse"}:  "clear text",
	{"{Plain}correct horse", "correct horse"}:  "clear text",
	{"{PLAIN}", ""}:                              "empty password",
	{"$app$phone$plainapp", "plainapp"}:          "clear text",
	{"$app$my$phone$plainapp", "phone$plainapp"}: "clear text",
	{"$2b$05$bvIG6Nmid91Mu9RcmmWZfOkj9XnrxEZD.TL5vmn/zHlOl5a9vAYlC", strings.Repeat("a", 72) + "tail-ignored"}:           "bcrypt beyond 72 bytes",
	{"$argon2i$v=16$m=4096,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$0ARK1hrnuT6Dk0nmi/SzczTUNnQrD/5PbmiDZDWYUIc", "correct horse"}: "argon2 version 16",
}

// readVectors reads a file of tab-separated columns with # comments.
func readVectors(t *testing.T, file string, columns int) [][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		row := strings.Split(line, "\t")
		if len(row) != columns {
			t.Fatalf("%s: a row has %d columns, want %d", file, len(row), columns)
		}
		rows = append(rows, row)
	}
	return rows
}

// asApp makes an app password of a vector's stored value, which may be one already.
func asApp(stored string) *Value {
	if !strings.HasPrefix(stored, appPrefix) {
		stored = appPrefix + "t$" + stored
	}
	return Parse([]byte(stored))
}

func TestHashVectors(t *testing.T) {
	t.Parallel()
	doc := readAll(t, "../doc/secret-format.md")
	for row, reason := range stricter {
		if !strings.Contains(doc, "| `"+row[0]+"` | "+reason) {
			t.Errorf("%.20s: doc/secret-format.md does not list the row with its reason, %s", row[0], reason)
		}
	}
	used := 0
	for _, row := range readVectors(t, "hashes.tsv", 4) {
		stored, password, want, note := row[0], row[1], row[2] == "true", row[3]
		if _, ok := stricter[[2]string{stored, password}]; ok {
			if !want {
				t.Errorf("%s: listed as stricter, but Stalwart says false too", note)
			}
			used++
			want = false
		}
		v := asApp(stored)
		if got := v.Verify([]byte(password)); got != want {
			t.Errorf("%s: Verify = %v, want %v (Err: %v)", note, got, want, v.Err)
		}
		if strings.HasPrefix(note, "[error") && v.Err == nil {
			t.Errorf("%s: Stalwart raises an error, here Err is nil", note)
		}
	}
	if used != len(stricter) {
		t.Errorf("%d of the %d stricter rows are in the file", used, len(stricter))
	}
}

// TestStoredValueIsNoPassword presents each stored value, and its hash part, as the password.
func TestStoredValueIsNoPassword(t *testing.T) {
	t.Parallel()
	for _, row := range readVectors(t, "hashes.tsv", 4) {
		v := asApp(row[0])
		for _, password := range []string{v.Raw, row[0], v.hashText} {
			if v.Verify([]byte(password)) {
				t.Errorf("%s: the stored value logs in", row[3])
			}
		}
	}
}
