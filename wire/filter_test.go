package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// filter is a filter's element, made by go-ldap.
func filter(t testing.TB, s string) []byte {
	t.Helper()
	p, err := ldap.CompileFilter(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return p.Bytes()
}

// shown writes items for comparison.
func shown(f FilterItem) string {
	s := fmt.Sprintf("%02x %s", f.Tag, f.Attribute)
	if f.Rule != nil {
		s += ":" + string(f.Rule)
	}
	if f.DNAttributes {
		s += ":dn"
	}
	if f.Value != nil {
		s += "=" + string(f.Value)
	}
	return s
}

func TestEachFilterItem(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"(cn=a)":                                "a3 cn=a",
		"(cn=)":                                 "a3 cn=",
		"(cn=*)":                                "87 cn",
		"(cn=a*b*c)":                            "a4 cn",
		"(cn=*b*)":                              "a4 cn",
		"(cn>=a)":                               "a5 cn=a",
		"(cn<=a)":                               "a6 cn=a",
		"(cn~=a)":                               "a8 cn=a",
		"(cn:=a)":                               "a9 cn=a",
		"(cn:dn:2.5.13.5:=a)":                   "a9 cn:2.5.13.5:dn=a",
		"(:2.5.13.5:=a)":                        "a9 :2.5.13.5=a",
		"(!(cn=a))":                             "a3 cn=a",
		"(&(a=1)(|(b=2)(!(c=*)))(d=4))":         "a3 a=1 | a3 b=2 | 87 c | a3 d=4",
		"(|(&(a=1)(b=2))(&(c=3)(|(d=4)(e=5))))": "a3 a=1 | a3 b=2 | a3 c=3 | a3 d=4 | a3 e=5",
	} {
		var got []string
		err := EachFilterItem(filter(t, in), func(f FilterItem) bool { got = append(got, shown(f)); return true })
		if err != nil || strings.Join(got, " | ") != want {
			t.Errorf("%s: %q, %v", in, strings.Join(got, " | "), err)
		}
	}
	n := 0
	if err := EachFilterItem(filter(t, "(&(a=1)(b=2))"), func(FilterItem) bool { n++; return false }); err != nil || n != 1 {
		t.Errorf("stopped after %d, %v", n, err)
	}
}

func TestFilterEncodings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in string
		bad      bool
	}{
		{name: "absolute true", in: "a0 00"},
		{name: "absolute false", in: "a1 00"},
		{name: "not true", in: "a2 02 a0 00"},
		{name: "padded", in: "a2 84 00 00 00 07 87 84 00 00 00 01 61"},
		{name: "nothing", in: "", bad: true},
		{name: "two", in: "a0 00 a0 00", bad: true},
		{name: "not of nothing", in: "a2 00", bad: true},
		{name: "not of two", in: "a2 06 87 01 61 87 01 61", bad: true},
		{name: "not of bytes", in: "a2 01 87", bad: true},
		{name: "unknown choice", in: "aa 00", bad: true},
		{name: "constructed present", in: "a7 01 61", bad: true},
		{name: "primitive and", in: "80 00", bad: true},
		{name: "universal", in: "04 01 61", bad: true},
		{name: "and cut", in: "a0 03 87 02 61", bad: true},
		{name: "present of nothing", in: "87 00", bad: true},

		{name: "equality", in: "a3 06 04 01 61 04 01 62"},
		{name: "equality, empty value", in: "a3 05 04 01 61 04 00"},
		{name: "equality, empty attribute", in: "a3 05 04 00 04 01 62", bad: true},
		{name: "equality, no value", in: "a3 03 04 01 61", bad: true},
		{name: "equality, more", in: "a3 08 04 01 61 04 01 62 05 00", bad: true},
		{name: "equality, value no string", in: "a3 06 04 01 61 02 01 62", bad: true},

		{name: "substrings", in: "a4 0e 04 01 61 30 09 80 01 78 81 01 79 82 01 7a"},
		{name: "substrings, any only", in: "a4 08 04 01 61 30 03 81 01 79"},
		{name: "substrings, any twice", in: "a4 0b 04 01 61 30 06 81 01 79 81 01 79"},
		{name: "substrings, none", in: "a4 05 04 01 61 30 00", bad: true},
		{name: "substrings, initial second", in: "a4 0b 04 01 61 30 06 81 01 78 80 01 79", bad: true},
		{name: "substrings, initial twice", in: "a4 0b 04 01 61 30 06 80 01 78 80 01 79", bad: true},
		{name: "substrings, final first", in: "a4 0b 04 01 61 30 06 82 01 78 81 01 79", bad: true},
		{name: "substrings, final twice", in: "a4 0b 04 01 61 30 06 82 01 78 82 01 79", bad: true},
		{name: "substrings, unknown part", in: "a4 08 04 01 61 30 03 83 01 79", bad: true},
		{name: "substrings, empty attribute", in: "a4 07 04 00 30 03 81 01 79", bad: true},
		{name: "substrings, more", in: "a4 0a 04 01 61 30 03 81 01 79 05 00", bad: true},
		{name: "substrings, a SET", in: "a4 08 04 01 61 31 03 81 01 79", bad: true},

		{name: "extensible", in: "a9 0c 81 01 72 82 01 61 83 01 76 84 01 ff"},
		{name: "extensible, type only", in: "a9 06 82 01 61 83 01 76"},
		{name: "extensible, rule only", in: "a9 06 81 01 72 83 01 76"},
		{name: "extensible, neither", in: "a9 03 83 01 76", bad: true},
		{name: "extensible, empty rule", in: "a9 05 81 00 83 01 76", bad: true},
		{name: "extensible, empty type", in: "a9 08 81 01 72 82 00 83 01 76", bad: true},
		{name: "extensible, no value", in: "a9 03 82 01 61", bad: true},
		{name: "extensible, type before rule", in: "a9 09 82 01 61 81 01 72 83 01 76", bad: true},
		{name: "extensible, long boolean", in: "a9 0a 82 01 61 83 01 76 84 02 00 ff", bad: true},
		{name: "extensible, more", in: "a9 0b 82 01 61 83 01 76 84 01 ff 05 00", bad: true},
	} {
		err := EachFilterItem(unhex(t, test.in), func(FilterItem) bool { return true })
		if (err != nil) != test.bad {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// nested is an item within depth-1 nots.
func nested(depth int) []byte {
	f := AppendElement(nil, filterPresent, []byte("a"))
	for range depth - 1 {
		f = AppendElement(nil, filterNot, f)
	}
	return f
}

func TestFilterLimits(t *testing.T) {
	t.Parallel()
	item := AppendElement(nil, filterPresent, []byte("a"))
	wide := func(nodes int) []byte { return AppendElement(nil, filterOr, bytes.Repeat(item, nodes-1)) }
	parts := func(n int) []byte { // the item and its n-1 parts
		content := appendString(nil, TagOctetString, "a")
		list := bytes.Repeat([]byte{substringAny, 1, 'x'}, n-1)
		return AppendElement(nil, filterSubstrings, AppendElement(content, TagSequence, list))
	}
	for _, test := range []struct {
		name string
		make func(int) []byte
		most int
	}{{"nesting", nested, MaxNesting}, {"nodes", wide, MaxFilterNodes}, {"substrings", parts, MaxFilterNodes}} {
		if err := walkFilter(test.make(test.most), nil); err != nil {
			t.Errorf("%s, %d: %v", test.name, test.most, err)
		}
		if err := walkFilter(test.make(test.most+1), nil); err == nil {
			t.Errorf("%s, %d: passes", test.name, test.most+1)
		}
	}
	if err := walkFilter(nested(5000), nil); err == nil {
		t.Error("5,000 levels pass")
	}
}

func TestAppendExpandedFilter(t *testing.T) {
	t.Parallel()
	const name = `*)(uid=\2a%s`
	escaped := ldap.EscapeFilter(name)
	for _, in := range []string{
		"(uid=%s)", "(uid=a%sb%s)", "(uid=%d%)", "(uid=x)", "(uid=*)",
		"(|(uid=%s)(&(mail=%s)(!(cn~=%s)))(sn>=%s)(sn<=%s))",
		"(mail=%s*)", "(mail=*%s)", "(mail=a*%s*%s*b%s)",
		"(uid:=%s)", "(uid:dn:2.5.13.5:=x%s)", "(:2.5.13.5:=%s)",
	} {
		got, err := AppendExpandedFilter([]byte("x"), filter(t, in), name)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if want := filter(t, strings.ReplaceAll(in, "%s", escaped)); !bytes.Equal(got[1:], want) {
			t.Errorf("%s: %q, want %q", in, got[1:], want)
		}
		if err := walkFilter(got[1:], nil); err != nil {
			t.Errorf("%s: the expanded filter: %v", in, err)
		}
	}
	long := strings.Repeat("n", 70000) // every length around it changes its form
	got, err := AppendExpandedFilter(nil, filter(t, "(&(uid=%s)(!(mail=%s)))"), long)
	if err != nil || !bytes.Equal(got, filter(t, "(&(uid="+long+")(!(mail="+long+")))")) {
		t.Errorf("a long name: %d octets, %v", len(got), err)
	}
	if got, err := AppendExpandedFilter([]byte("x"), unhex(t, "a2 00"), name); err == nil || string(got) != "x" {
		t.Errorf("a malformed filter: %q, %v", got, err)
	}
}

// Attribute descriptions and rules are not places for a name.
func TestAppendExpandedFilterOnlyInValues(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"a3 07 04 02 25 73 04 01 62", "87 02 25 73", "a4 09 04 02 25 73 30 03 81 01 79", "a9 0a 81 02 25 73 82 02 25 73 83 00",
	} {
		f := unhex(t, in)
		if got, err := AppendExpandedFilter(nil, f, "name"); err != nil || !bytes.Equal(got, f) {
			t.Errorf("%s: %x, %v", in, got, err)
		}
	}
}

func TestAppendAnd(t *testing.T) {
	t.Parallel()
	a, b := filter(t, "(a=1)"), filter(t, "(|(b=2)(c=*))")
	for _, test := range []struct {
		in   [][]byte
		want []byte
	}{
		{nil, nil}, {[][]byte{nil, {}}, nil}, {[][]byte{a}, a}, {[][]byte{nil, a, nil}, a},
		{[][]byte{a, nil, b}, filter(t, "(&(a=1)(|(b=2)(c=*)))")},
	} {
		if got := AppendAnd([]byte("x"), test.in...); !bytes.Equal(got[1:], test.want) {
			t.Errorf("%x: %x", test.in, got[1:])
		}
	}
}
