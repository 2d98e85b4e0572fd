package secrets

import (
	"crypto/sha256"
	"encoding/base64"
	"testing"
)

// saltedOf is the body of {SSHA256}.
func saltedOf(password, salt string) string {
	sum := sha256.Sum256([]byte(password + salt))
	return base64.StdEncoding.EncodeToString(append(sum[:], salt...))
}

const benchName = "phone;id=k7m2;exp=20271231235959Z;svc=imap,smtp;crt=20261231235959Z"

func BenchmarkParse(b *testing.B) {
	raw := []byte("$app$" + benchName + "${SSHA256}" + saltedOf("x", "0123456789abcdef"))
	b.ReportAllocs()
	for b.Loop() {
		if Parse(raw).Err != nil {
			b.Fatal("unusable")
		}
	}
}

func BenchmarkShapeOf(b *testing.B) {
	for _, c := range []struct{ name, password string }{
		{"ours", generatedVectors[3].password},
		{"other", "correct horse battery staple"},
	} {
		password := []byte(c.password)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, selector, canonical := ShapeOf(password)
				if (s == Ours) != (len(selector)+len(canonical) > 0) {
					b.Fatal(s)
				}
			}
		})
	}
}

func BenchmarkVerifySSHA256(b *testing.B) {
	password := generatedVectors[3].password
	presented := []byte(password)
	for _, c := range []struct{ name, raw string }{
		{"id", "$app$" + benchName + "${SSHA256}" + saltedOf(password, "0123456789abcdef")},
		{"otherid", "$app$phone;id=zzzz${SSHA256}" + saltedOf(password, "0123456789abcdef")},
		{"noid", "$app$phone${SSHA256}" + saltedOf(password, "0123456789abcdef")},
	} {
		v := Parse([]byte(c.raw))
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v.Verify(presented) != (c.name != "otherid") {
					b.Fatal("wrong answer")
				}
			}
		})
	}
}

// TestAllocations keeps what every bind does off the heap.
func TestAllocations(t *testing.T) {
	ours, other := []byte(generatedVectors[3].password), []byte("correct horse battery staple")
	raw := []byte("$app$" + benchName + "${SSHA256}" + saltedOf(string(ours), "0123456789abcdef"))
	v := Parse(raw)
	elsewhere := Parse([]byte("$app$phone;id=zzzz${SSHA256}" + saltedOf(string(ours), "0123456789abcdef")))
	for _, c := range []struct {
		name string
		max  float64
		f    func()
	}{
		{"ShapeOf, ours", 1, func() { ShapeOf(ours) }},
		{"ShapeOf, other", 0, func() { ShapeOf(other) }},
		{"Parse", 7, func() {
			if Parse(raw).Err != nil {
				t.Error("unusable")
			}
		}},
		{"Verify, of another id", 1, func() {
			if elsewhere.Verify(ours) {
				t.Error("a match")
			}
		}},
		{"Verify", 1, func() {
			if !v.Verify(ours) {
				t.Error("no match")
			}
		}},
	} {
		if n := testing.AllocsPerRun(100, c.f); n > c.max {
			t.Errorf("%s: %v allocations, at most %v", c.name, n, c.max)
		}
	}
}
