package secrets

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// generatedVectors are the test vectors of doc/secret-format.md: the characters drawn and the password.
var generatedVectors = []struct{ drawn, password string }{
	{"00000000000000000000", "0000-0000-0000-0000-0000-mz9n"},
	{"zzzzzzzzzzzzzzzzzzzz", "zzzz-zzzz-zzzz-zzzz-zzzz-5ebd"},
	{"0123456789abcdefghjk", "0123-4567-89ab-cdef-ghjk-jve8"},
	{"k7m2xq4v9t0dhw8b3ncr", "k7m2-xq4v-9t0d-hw8b-3ncr-86f4"},
	{"a1b2c3d4e5f6g7h8j9kz", "a1b2-c3d4-e5f6-g7h8-j9kz-85wy"},
}

func TestGeneratedVectors(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../doc/secret-format.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range generatedVectors {
		// A drawn character comes from the low five bits of a random byte.
		var random []byte
		for _, r := range c.drawn {
			random = append(random, 0xa0|byte(strings.IndexRune(alphabet, r)))
		}
		g, err := Generate(bytes.NewReader(random))
		if err != nil || g.Password != c.password || g.ID != c.password[:4] {
			t.Errorf("Generate(%s) = %s, %s, %v, want %s", c.drawn, g.Password, g.ID, err, c.password)
		}
		shape, selector, canonical := ShapeOf([]byte(c.password))
		if shape != Ours || selector != c.password[:4] || string(canonical) != c.password {
			t.Errorf("ShapeOf(%s) = %v, %s, %s", c.password, shape, selector, canonical)
		}
		if !strings.Contains(string(doc), c.password) {
			t.Errorf("%s is not in doc/secret-format.md", c.password)
		}
	}
}

func TestShapeOf(t *testing.T) {
	t.Parallel()
	g := generatedVectors[2].password
	compact := strings.ReplaceAll(g, "-", "")
	bad := g[:len(g)-1] + "0"
	if bad == g {
		bad = g[:len(g)-1] + "1"
	}
	for _, c := range []struct {
		password string
		want     Shape
	}{
		{g, Ours},
		{strings.ToUpper(g), Ours},
		{compact, Ours},
		{strings.ToUpper(compact), Ours},
		{strings.ReplaceAll(g, "-", " "), Ours},
		{strings.ReplaceAll(g, "-", " - "), Ours},
		{" " + g + "-", Ours},
		{strings.Replace(g, "0", "o", 1), Ours},
		{strings.Replace(g, "0", "O", 1), Ours},
		{strings.Replace(g, "1", "i", 1), Ours},
		{strings.Replace(g, "1", "I", 1), Ours},
		{strings.Replace(g, "1", "l", 1), Ours},
		{strings.Replace(g, "1", "L", 1), Ours},
		{strings.Join(strings.Split(compact, ""), "-"), Ours},

		{bad, Mistyped},
		{strings.ToUpper(bad), Mistyped},
		{strings.ReplaceAll(bad, "-", " "), Mistyped},
		{strings.Replace(g, "2", "3", 1), Mistyped},
		{strings.Replace(g, "2", "u", 1), Mistyped},
		{strings.Replace(g, "01", "10", 1), Mistyped},

		{strings.ReplaceAll(bad, "-", ""), NotOurs},    // may be anyone's 24 characters
		{strings.Replace(bad, "-", "", 1), NotOurs},    // not the displayed grouping
		{strings.Replace(bad, "3-", "-3", 1), NotOurs}, // likewise
		{" " + bad, NotOurs},
		{g + "\n", NotOurs},
		{g + "\x00", NotOurs},
		{g + "\u00a0", NotOurs},
		{g + "0", NotOurs},
		{g + "$123456", NotOurs},
		{g[:len(g)-1], NotOurs},
		{strings.Replace(g, "-", "_", 1), NotOurs},
		{strings.Replace(g, "-", "\u2013", 1), NotOurs},
		{strings.Replace(g, "0", "\uff10", 1), NotOurs},
		{strings.Replace(bad, "2", "!", 1), NotOurs},
		{"", NotOurs},
		{"correct horse battery staple", NotOurs},
		{strings.Repeat("-", 2000), NotOurs},
		{g + strings.Repeat(" ", MaxPassword), NotOurs},
		{"abcde fghi jklm nopq rst", NotOurs}, // Stalwart's web admin
	} {
		shape, selector, canonical := ShapeOf([]byte(c.password))
		if shape != c.want {
			t.Errorf("ShapeOf(%q) = %v, want %v", c.password, shape, c.want)
		}
		if c.want == Ours && (selector != g[:4] || string(canonical) != g) {
			t.Errorf("ShapeOf(%q): selector %q, canonical %q", c.password, selector, canonical)
		}
		if c.want != Ours && (selector != "" || canonical != nil) {
			t.Errorf("ShapeOf(%q) has a selector or a text", c.password)
		}
	}
}

// TestShapeOfRandomHex counts how often other generators' passwords are taken for ours: of 24 hexadecimal
// characters one in a million, of other lengths none.
func TestShapeOfRandomHex(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	ours := 0
	for range 200_000 {
		b := make([]byte, 24)
		for i := range b {
			b[i] = "0123456789abcdef"[r.IntN(16)]
		}
		if s, _, _ := ShapeOf(b); s == Ours {
			ours++
		}
		if s, _, _ := ShapeOf(b[:20]); s != NotOurs {
			t.Fatalf("%s is taken for ours", b[:20])
		}
	}
	if ours > 5 {
		t.Errorf("%d of 200,000 are taken for ours", ours)
	}
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 2000 {
		g, err := Generate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if shape, selector, canonical := ShapeOf([]byte(g.Password)); shape != Ours || selector != g.ID || string(canonical) != g.Password {
			t.Fatalf("%s is not of the generated form", g.Password)
		}
		if seen[g.Password] || strings.HasPrefix(g.Password, "app") || len(g.Password) != 29 {
			t.Fatalf("%s: drawn twice, reserved or of a wrong length", g.Password)
		}
		seen[g.Password] = true
	}
}

// scripted is a random source that gives the drawn characters asked for, one password after the other.
func scripted(drawn ...string) *bytes.Reader {
	var b []byte
	for _, r := range strings.Join(drawn, "") {
		b = append(b, byte(strings.IndexRune(alphabet, r)))
	}
	return bytes.NewReader(b)
}

func TestGenerateDrawsAgain(t *testing.T) {
	t.Parallel()
	rest := strings.Repeat("0", 16)
	g, err := Generate(scripted("appz"+rest, "k7m2"+rest, "k7m3"+rest), "0000", "k7m2")
	if err != nil || g.ID != "k7m3" {
		t.Errorf("Generate = %s, %v, want k7m3", g.ID, err)
	}
	if _, err := Generate(scripted(strings.Repeat("0", 20*200)), "0000"); err == nil {
		t.Error("a source that repeats itself is no error")
	}
	broken := errors.New("broken")
	if g, err := Generate(iotest.ErrReader(broken)); !errors.Is(err, broken) || g.Password != "" {
		t.Errorf("Generate = %q, %v, want the source's error", g.Password, err)
	}
	if _, err := Generate(scripted("0000000")); err == nil {
		t.Error("a short source is no error")
	}
}

// TestVerifySpelling has a generated password in several spellings against values with and without id.
func TestVerifySpelling(t *testing.T) {
	t.Parallel()
	g := generatedVectors[3].password
	text, err := Hash(SHA256, []byte(strings.ToUpper(g)), nil)
	if err != nil {
		t.Fatal(err)
	}
	upper := Parse([]byte("$app$x${SHA256}" + digestOf(strings.ToUpper(g))))
	withID := Parse([]byte("$app$phone;id=" + g[:4] + "$" + text))
	otherID := Parse([]byte("$app$phone;id=zzzz$" + text))
	without := Parse([]byte("$app$phone$" + text))
	for _, c := range []struct {
		password                       string
		withID, otherID, plain, shouts bool
	}{
		{g, true, false, true, false},
		{strings.ToUpper(g), true, false, true, true},
		{strings.ReplaceAll(g, "-", ""), true, false, true, false},
		{strings.ReplaceAll(g, "0", "o"), true, false, true, false},
		{g + "\n", false, false, false, false},
		{g[:28] + "0", false, false, false, false},
		{"correct horse", false, false, false, false},
	} {
		for _, x := range []struct {
			v    *Value
			want bool
		}{{withID, c.withID}, {otherID, c.otherID}, {without, c.plain}, {upper, c.shouts}} {
			if got := x.v.Verify([]byte(c.password)); got != x.want {
				t.Errorf("%q against %v, id %q: %v, want %v (Err: %v)", c.password, x.v, x.v.ID, got, x.want, x.v.Err)
			}
		}
	}
	// With an id nothing but a generated password matches, whatever the hash is of.
	other := Parse([]byte("$app$x;id=k7m2${SHA256}" + digestOf("correct horse")))
	if other.Err != nil || other.Verify([]byte("correct horse")) {
		t.Errorf("a chosen password matches a value with id (Err: %v)", other.Err)
	}
}
