package wire

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// unhex reads hexadecimal with spaces.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("bad hex in test: %v", err)
	}
	return b
}

func TestElement(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, in, content, rest string
		bad                     bool
	}{
		{name: "short", in: "04 01 61 ff", content: "61", rest: "ff"},
		{name: "empty", in: "04 00"},
		{name: "padded to 1", in: "04 81 01 61", content: "61"},
		{name: "padded to 4", in: "04 84 00 00 00 01 61 ff", content: "61", rest: "ff"},
		{name: "padded empty", in: "04 84 00 00 00 00"},
		{name: "no bytes", in: "", bad: true},
		{name: "no length", in: "04", bad: true},
		{name: "length cut", in: "04 82 01", bad: true},
		{name: "content cut", in: "04 02 61", bad: true},
		{name: "indefinite", in: "24 80 04 01 61 00 00", bad: true},
		{name: "five octets", in: "04 85 00 00 00 00 01 61", bad: true},
		{name: "127 octets", in: "04 ff 00", bad: true},
		{name: "2^31", in: "04 84 80 00 00 00 61", bad: true},
		{name: "2^32-1", in: "04 84 ff ff ff ff 61", bad: true},
		{name: "2^31-1", in: "04 84 7f ff ff ff 61", bad: true},
		{name: "long tag", in: "1f 81 01 61", bad: true},
		{name: "long tag, context", in: "bf 01 00", bad: true},
	} {
		tag, content, rest, err := Element(unhex(t, test.in))
		if (err != nil) != test.bad {
			t.Errorf("%s: error %v", test.name, err)
			continue
		}
		if test.bad {
			continue
		}
		if tag != 0x04 || hex.EncodeToString(content) != test.content || hex.EncodeToString(rest) != test.rest {
			t.Errorf("%s: %x %x %x", test.name, tag, content, rest)
		}
		if cap(content) != len(content) {
			t.Errorf("%s: appending to the content would overwrite what follows", test.name)
		}
	}
}

func TestBoundedInteger(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int32{
		"00": 0, "7f": 127, "00 80": 128, "7f ff ff ff": 1<<31 - 1,
		"00 00 00 05": 5, // padded
		"":            -1, "80": -1, "ff": -1, "80 00 00 00": -1, "ff ff ff ff": -1,
		"00 80 00 00 00": -1, "00 00 00 00 05": -1, "00 00 00 00 00 00 00 05": -1,
	} {
		got, err := boundedInteger(unhex(t, in))
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
}

func TestAppendInteger(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]int32{
		"020100": 0, "02017f": 127, "02020080": 128, "02027fff": 1<<15 - 1,
		"0203008000": 1 << 15, "020400800000": 1 << 23, "02047fffffff": 1<<31 - 1,
	} {
		got := appendInteger(nil, TagInteger, v)
		if hex.EncodeToString(got) != want {
			t.Errorf("%d: %x, want %s", v, got, want)
		}
		content, _, err := Expect(got, TagInteger)
		if back, err2 := boundedInteger(content); err != nil || err2 != nil || back != v || len(content) != integerSize(v) {
			t.Errorf("%d comes back as %d (%v, %v)", v, back, err, err2)
		}
	}
}

// Every length around the places where the number of length octets changes is
// written in its shortest form, in one go or by closeElement.
func TestLengths(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 127, 128, 255, 256, 65535, 65536, 1<<24 - 1, 1 << 24} {
		content := bytes.Repeat([]byte{'x'}, n)
		whole := AppendElement([]byte("before"), TagOctetString, content)[6:]
		if len(whole) != elementSize(n) {
			t.Errorf("%d: size %d, elementSize says %d", n, len(whole), elementSize(n))
		}
		_, got, rest, err := Element(whole)
		if err != nil || len(rest) != 0 || !bytes.Equal(got, content) {
			t.Errorf("%d: %d octets come back, %d rest, %v", n, len(got), len(rest), err)
		}
		closed := CloseElement(append([]byte("before"), content...), 6, TagOctetString)
		if string(closed[:6]) != "before" || !bytes.Equal(closed[6:], whole) {
			t.Errorf("%d: closeElement differs from appendElement", n)
		}
	}
}
