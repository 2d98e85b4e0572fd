package auth

import (
	"context"
	"fmt"
	"testing"

	"appbind/secrets"
)

// benchSite has alice with n app passwords of the given kind, and one of them verified before.
func benchSite(tb testing.TB, n int, kind string) (*site, Bind) {
	s := newSite(tb, nil)
	var values []string
	var password string
	for i := range n {
		switch kind {
		case "generated":
			var v string
			password, v = generated(tb, nil)
			values = append(values, v)
		case "bcrypt":
			password = fmt.Sprint("password ", i)
			values = append(values, fmt.Sprintf("$app$%d$%s", i, slowHash(tb, password)))
		}
	}
	s.user("alice", aliceMain, values...)
	b := request(aliceDN, password)
	if d := s.v.Verify(context.Background(), b, s.upstream); d.Kind != Accepted {
		tb.Fatalf("row %d, %q, %v", d.Row, d.Reason, d.Err)
	}
	s.sent()
	return s, b
}

// instant is a directory that costs nothing.
type instant struct {
	*upstream
	entry *Entry
}

func (d instant) Find(context.Context, string) (*Entry, error) { return d.entry, nil }

func BenchmarkVerify(b *testing.B) {
	for _, kind := range []string{"generated", "bcrypt"} {
		for _, n := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				s, bind := benchSite(b, n, kind)
				v := New(s.cfg, instant{s.upstream, s.entries["alice"]}, s.mem, discard())
				b.ReportAllocs()
				for b.Loop() {
					v.Verify(context.Background(), bind, s.upstream)
				}
			})
		}
	}
	b.Run("generated, shared/50", func(b *testing.B) {
		s, bind := benchSite(b, 50, "generated")
		s.entries["alice"].Index = new(Index)
		v := New(s.cfg, instant{s.upstream, s.entries["alice"]}, s.mem, discard())
		b.ReportAllocs()
		for b.Loop() {
			v.Verify(context.Background(), bind, s.upstream)
		}
	})
	b.Run("revoked/50", func(b *testing.B) {
		s, bind := benchSite(b, 50, "generated")
		g, _ := secrets.Generate(nil)
		bind.Password = Password(g.Password)
		v := New(s.cfg, instant{s.upstream, s.entries["alice"]}, s.mem, discard())
		b.ReportAllocs()
		for b.Loop() {
			v.Verify(context.Background(), bind, s.upstream)
		}
	})
}

// TestAllocations pins what an app password that was seen before costs, with ten stored.
func TestAllocations(t *testing.T) {
	for kind, most := range map[string]float64{"generated": 4, "bcrypt": 5} {
		s, bind := benchSite(t, 10, kind)
		v := New(s.cfg, instant{s.upstream, s.entries["alice"]}, s.mem, discard())
		n := testing.AllocsPerRun(1000, func() { v.Verify(context.Background(), bind, s.upstream) })
		if n > most && !raceDetector {
			t.Errorf("%s: %.0f allocations, at most %.0f", kind, n, most)
		}
	}
	s, bind := benchSite(t, 1, "bcrypt")
	v := secrets.Parse(s.entries["alice"].Values[0])
	look := func() { s.mem.verified.has(s.mem.digest(useVerified, aliceDN, bind.Password, v), s.mem.now()) }
	if n := testing.AllocsPerRun(1000, look); n > 0 && !raceDetector {
		t.Errorf("the memory of what was verified: %.0f allocations", n)
	}
}

// BenchmarkVerified is a look into the memory of what was verified.
func BenchmarkVerified(b *testing.B) {
	s, bind := benchSite(b, 1, "bcrypt")
	v := secrets.Parse(s.entries["alice"].Values[0])
	b.ReportAllocs()
	for b.Loop() {
		s.mem.verified.has(s.mem.digest(useVerified, aliceDN, bind.Password, v), s.mem.now())
	}
}
