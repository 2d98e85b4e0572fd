package main

import (
	"bytes"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"appbind/config"
)

const top = "../.."

// TestPageIsCurrent: the page in the repository is what the comments say now.
func TestPageIsCurrent(t *testing.T) {
	t.Parallel()
	want, err := manual(top)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(top + "/" + page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the comments in %s say; run: go run ./test/manual", page, source)
	}
}

// TestEveryKeyIsThere: each key of the configuration has an item of its own.
func TestEveryKeyIsThere(t *testing.T) {
	t.Parallel()
	text, err := manual(top)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reflect.Type)
	walk = func(s reflect.Type) {
		for i := range s.NumField() {
			f := s.Field(i)
			key := f.Tag.Get("yaml")
			if key == "-" {
				continue
			}
			if !bytes.Contains(text, []byte("\n.It Ic "+key+" Pq ")) {
				t.Errorf("%s.%s: no item %s", s.Name(), f.Name, key)
			}
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if isSection(inner) {
				walk(inner)
			}
		}
	}
	walk(reflect.TypeFor[config.Config]())
}

// namesDefault finds "default 5s" and "loopback (default ...", but not "the ports default to".
var namesDefault = regexp.MustCompile(`default [^t]|[( ]default[:;)]`)

// word is what could be a value in a comment.
var word = regexp.MustCompile(`[a-z0-9_."]+`)

// TestDefaultsInComments: a comment that names a default names the real one.
func TestDefaultsInComments(t *testing.T) {
	t.Parallel()
	c, err := readComments(top + "/" + source)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	var walk func(reflect.Value)
	walk = func(s reflect.Value) {
		for i := range s.NumField() {
			if _, inner := mapping("", s.Field(i)); inner {
				below, _ := mapping("", s.Field(i))
				walk(below.def)
				continue
			}
			text := c[s.Type().Name()+"."+s.Type().Field(i).Name]
			if !namesDefault.MatchString(text) {
				continue
			}
			checked++
			if want := defaultText(s.Field(i)); !names(text, want) {
				t.Errorf("%s.%s: the default is %s, the comment says: %s", s.Type().Name(), s.Type().Field(i).Name, want, text)
			}
		}
	}
	walk(reflect.ValueOf(*config.Default()))
	if checked < 10 {
		t.Errorf("%d comments name a default; is the pattern still right?", checked)
	}
}

// names reports whether a value, or a duration that is equal to it, is a word of the text.
func names(text, want string) bool {
	for _, w := range word.FindAllString(text, -1) {
		w = strings.Trim(w, `".`)
		if w == want {
			return true
		}
		if d, err := config.ParseDuration(w); err == nil && d.String() == want {
			return true
		}
	}
	return false
}

func TestRoff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"One. Two", "One.\nTwo\n"},
		{".hidden", "\\&.hidden\n"},
		{"'quoted'", "\\&'quoted'\n"},
		{`a\b`, "a\\eb\n"},
		{"two\nlines", "two lines\n"},
		{strings.Repeat("a", 70) + " bbbbbbb cc", strings.Repeat("a", 70) + " bbbbbbb\ncc\n"},
		{"", ""},
	} {
		if got := roff(test.text); got != test.want {
			t.Errorf("roff(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

func TestAboutKey(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ field, text, want string }{
		{"Bases", "Bases are the DNs.", "the DNs."},
		{"Mode", "Mode is allow.", "allow."},
		{"Context", "Context says whether.", "says whether."},
		{"Key", "A file.", "A file."},
		{"Certificate", "Certificate and Key are a pair.", "Certificate and Key are a pair."},
	} {
		if got := aboutKey(test.field, test.text); got != test.want {
			t.Errorf("aboutKey(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

// TestPagesAreMdoc: mandoc, where there is one, has nothing to say about the pages.
func TestPagesAreMdoc(t *testing.T) {
	t.Parallel()
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Log("no mandoc: the form of the pages is not looked at")
		return
	}
	for _, p := range []string{page, "doc/man/appbind.8"} {
		out, err := exec.Command(mandoc, "-T", "lint", "-W", "warning", top+"/"+p).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", p, err, out)
		}
	}
}
