package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// top begins the files of the tests: three lines and an empty one.
const top = "dn: dc=example\nobjectClass: domain\ndc: example\n\n"

func TestLDIFMistakes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "f: no entry in the file: the first one is the suffix (dn: dc=example,dc=org)"},
		{"comments only", "# nothing\n\n", "f: no entry in the file: the first one is the suffix (dn: dc=example,dc=org)"},
		{"no colon", top + "dn: ou=a,dc=example\nsecret value\n", "f:6: expected NAME: VALUE"},
		{"bad name", top + "dn: ou=a,dc=example\no_u: a\n", "f:6: invalid attribute name before the colon"},
		{"no name", top + "dn: ou=a,dc=example\n: a\n", "f:6: invalid attribute name before the colon"},
		{"base64", top + "dn: ou=a,dc=example\nou:: a!\n", "f:6: ou: the value is not valid base64"},
		{"base64 bits", top + "dn: ou=a,dc=example\nou:: YR==\n", "f:6: ou: the value is not valid base64"},
		{"url", top + "dn: ou=a,dc=example\nou:< file:///etc/passwd\n", "f:6: ou: values from a URL are not read"},
		{"latin1", top + "dn: ou=a,dc=example\nou: \xe9\n", "f:6: ou: the value must be written in base64 (ou:: ...)"},
		{"empty value", top + "dn: ou=a,dc=example\nobjectClass: x\nou: a\ndescription:\n", "f:8: description: empty value"},
		{"continuation", " x\n" + top, "f:1: a line that begins with a space continues the line before, and there is none"},
		{"no dn", top + "ou: a\nobjectClass: x\n", "f:5: an entry begins with dn:"},
		{"version", "version: 2\n\n" + top, "f:1: version: only version 1 of LDIF is read"},
		{"changetype", top + "dn: ou=a,dc=example\nchangetype: add\nou: a\n", "f:6: change records are not read: write entries without changetype"},
		{"two dn", top + "dn: ou=a,dc=example\nobjectClass: x\nou: a\ndn: ou=b,dc=example\nobjectClass: x\nou: b\n",
			"f:8: dn: within an entry: leave an empty line before it"},
		{"not a DN", top + "dn: a\nou: a\n", `f:5: dn: "a" is not a DN`},
		{"root", "dn:\nou: a\n", `f:1: dn: "" is not a DN`},
		{"twice", top + "dn: DC=Example\nobjectClass: x\ndc: example\n", `f:5: dn: "DC=Example" stands already in line 1`},
		{"orphan", top + "dn: ou=a,ou=b,dc=example\nobjectClass: x\nou: a\n",
			`f:5: dn: the entry above "ou=a,ou=b,dc=example" must stand before it`},
		{"no class", top + "dn: ou=a,dc=example\nou: a\n", `f:5: dn: "ou=a,dc=example" has no objectClass`},
		{"naming", top + "dn: ou=a,dc=example\nobjectClass: x\nou: b\n",
			`f:5: dn: "ou=a,dc=example" lacks the value of ou that is in its name`},
		{"same value", top + "dn: ou=a,dc=example\nobjectClass: x\nou: a\nOU: A\n", "f:8: OU: the same value twice"},
		{"single", top + "dn: ou=a,dc=example\nobjectClass: x\nou: a\nuidNumber: 1\nuidNumber: 2\n",
			"f:9: uidNumber: the attribute takes one value"},
		{"several", top + "dn: ou=a,dc=example\nou: a\n\nx\ndn: ou=c,dc=example\nou:: !\nou: c\n",
			"f:8: expected NAME: VALUE\nf:10: ou: the value is not valid base64"},
	} {
		_, err := parse("f", test.text)
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\n got %v\nwant %s", test.name, err, test.want)
		}
	}
}

func parse(file, text string) (*tree, error) {
	r, err := readLDIF(file, []byte(text))
	if err != nil {
		return nil, err
	}
	return r.tree()
}

func TestLDIFMistakesAreBounded(t *testing.T) {
	t.Parallel()
	_, err := parse("f", top+strings.Repeat("x\n", 1000))
	if got := strings.Count(err.Error(), "\n") + 1; got != maxMistakes {
		t.Errorf("%d mistakes, want %d", got, maxMistakes)
	}
}

// The message of Start names the file as it was given.
func TestStartNamesFileAndLine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.ldif")
	text := top + "dn: cn=a,dc=example\nobjectClass: x\ncn: a\nuserPassword: " + strings.Repeat("p", 73) + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(file, (&logBuffer{}).logger())
	if err == nil || !strings.HasPrefix(err.Error(), file+":5: userPassword: ") || strings.Contains(err.Error(), "pppp") {
		t.Errorf("got %v", err)
	}
}

const variedLDIF = `version: 1

# header
#
dn: dc=example
objectClass: domain
dc: example
description: folded
  line
description: with: colon
description:: IGxlYWRpbmc=
description:: dHJhaWxpbmcg
description:: w6k=
description:: bmV3CmxpbmU=
cn;lang-de: option

# about a
# two lines
dn: ou=a,dc=example
ou: a
OBJECTCLASS: organizationalUnit
# inside
1.2.3: by OID

# the end
`

func TestLDIFRoundTrip(t *testing.T) {
	t.Parallel()
	for _, text := range []string{variedLDIF, strings.ReplaceAll(variedLDIF, "\n", "\r\n")} {
		tr, err := parse("f", text)
		if err != nil {
			t.Fatal(err)
		}
		e := tr.entries[0]
		want := []string{"folded line", "with: colon", " leading", "trailing ", "é", "new\nline"}
		if got := e.get("description"); strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("values %q, want %q", got, want)
		}
		const written = `version: 1

# header
#
dn: dc=example
objectClass: domain
dc: example
description: folded line
description: with: colon
description:: IGxlYWRpbmc=
description:: dHJhaWxpbmcg
description:: w6k=
description:: bmV3CmxpbmU=
cn;lang-de: option

# about a
# two lines
# inside
dn: ou=a,dc=example
ou: a
OBJECTCLASS: organizationalUnit
1.2.3: by OID

# the end
`
		if got := string(tr.appendLDIF(nil)); got != written {
			t.Errorf("written:\n%s", got)
		}
	}
}

// What can be read is written so that it reads the same, in the same bytes.
func FuzzLDIF(f *testing.F) {
	for _, s := range []string{variedLDIF, clearLDIF, string(DemoLDIF), top, top + "x\n", "version: 1\n", " ", "dn:: !"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := parse("f", string(data))
		if err != nil {
			return
		}
		written := tr.appendLDIF(nil)
		again, err := parse("f", string(written))
		if err != nil {
			t.Fatalf("cannot be read again: %v\n%q", err, written)
		}
		if len(again.entries) != len(tr.entries) {
			t.Fatalf("%d entries became %d", len(tr.entries), len(again.entries))
		}
		for i, e := range tr.entries {
			b := again.entries[i]
			if b.dn != e.dn || len(b.attrs) != len(e.attrs) {
				t.Fatalf("%q: %v became %v", e.dn, e.attrs, b.attrs)
			}
			for j, a := range e.attrs {
				if a.key != b.attrs[j].key || strings.Join(a.values, "\x00") != strings.Join(b.attrs[j].values, "\x00") {
					t.Fatalf("%q: %v became %v", e.dn, a, b.attrs[j])
				}
			}
		}
		if !bytes.Equal(again.appendLDIF(nil), written) {
			t.Fatalf("written again it differs:\n%q\n%q", written, again.appendLDIF(nil))
		}
	})
}
