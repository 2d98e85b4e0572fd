package secrets

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestHash(t *testing.T) {
	t.Parallel()
	g, err := Generate(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ algorithm, password, prefix string }{
		{SHA256, g.Password, "{SSHA256}"},
		{Bcrypt, g.Password, "$2a$10$"},
		{Argon2i, g.Password, "$argon2i$v=19$m=19456,t=3,p=1$"},
		{Argon2id, g.Password, "$argon2id$v=19$m=19456,t=2,p=1$"},
		{Bcrypt, strings.Repeat("ä", 36), "$2a$10$"},
		{Argon2id, strings.Repeat("x", MaxPassword), "$argon2id$"},
	} {
		text, err := Hash(c.algorithm, []byte(c.password), nil)
		if err != nil || !strings.HasPrefix(text, c.prefix) {
			t.Errorf("Hash(%s) = %.12s, %v, want %s", c.algorithm, text, err, c.prefix)
			continue
		}
		v := Parse([]byte("$app$x$" + text))
		if !v.Verify([]byte(c.password)) || v.Verify([]byte(c.password[1:])) {
			t.Errorf("%s: what was hashed does not match, or something else does (Err: %v)", c.algorithm, v.Err)
		}
		if again, _ := Hash(c.algorithm, []byte(c.password), nil); again == text {
			t.Errorf("%s: two hashes of one password are equal", c.algorithm)
		}
	}
	for _, c := range []struct{ algorithm, password string }{
		{SHA256, "correct horse"},
		{SHA256, g.Password + "x"},
		{"plain", g.Password},
		{"", g.Password},
		{"SHA256", g.Password},
		{Bcrypt, ""},
		{Argon2id, ""},
		{Bcrypt, strings.Repeat("x", 73)},
		{Argon2id, strings.Repeat("x", MaxPassword+1)},
		{Argon2id, "a\x00b"},
	} {
		if text, err := Hash(c.algorithm, []byte(c.password), nil); err == nil || text != "" {
			t.Errorf("Hash(%q, %d bytes) = %q, %v, want an error", c.algorithm, len(c.password), text, err)
		}
	}
	if text, err := Hash(SHA256, []byte(g.Password), iotest.ErrReader(fmt.Errorf("broken"))); err == nil || text != "" {
		t.Errorf("a broken random source gives %q, %v", text, err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	at := time.Date(2027, 1, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	full := Params{
		Label: "Mom's phone; 50% = $5,\n\u0085", ID: "k7m2", Expires: at, Created: at.AddDate(-1, 0, 0), Services: []string{"imap", "smtp"},
		Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::/0")}, Extensions: []string{"x-note=a,b%24"}, Hash: testHash,
	}
	raw, err := New(full)
	const want = "$app$Mom's phone%3B 50%25 %3D %245%2C%0A%C2%85;id=k7m2;exp=20270101110000Z;svc=imap,smtp;net=192.0.2.0/24,::/0;" +
		"crt=20260101110000Z;x-note=a,b%24$" + testHash
	if err != nil || raw != want {
		t.Fatalf("New = %s, %v, want %s", raw, err, want)
	}
	again, err := New(Parse([]byte(raw)).Params())
	if err != nil || again != raw {
		t.Errorf("New of its own Params = %s, %v", again, err)
	}
	if raw, err := New(Params{Label: "phone", Hash: testHash}); err != nil || raw != "$app$phone$"+testHash {
		t.Errorf("New of a label = %s, %v", raw, err)
	}
	for name, change := range map[string]func(p *Params){
		"no label":               func(p *Params) { p.Label = "" },
		"long label":             func(p *Params) { p.Label = strings.Repeat("x", 256) },
		"label not UTF-8":        func(p *Params) { p.Label = "\xff" },
		"wrong id":               func(p *Params) { p.ID = "K7M2" },
		"id with a section":      func(p *Params) { p.ID = "k7m2;svc=imap" },
		"fractions of a second":  func(p *Params) { p.Expires = at.Add(time.Millisecond) },
		"expiry before 1970":     func(p *Params) { p.Expires = time.Unix(-1, 0) },
		"year 10000":             func(p *Params) { p.Expires = at.AddDate(8000, 0, 0) },
		"upper-case service":     func(p *Params) { p.Services = []string{"IMAP"} },
		"empty service":          func(p *Params) { p.Services = []string{""} },
		"service with a comma":   func(p *Params) { p.Services = []string{"imap,smtp"} },
		"service with a section": func(p *Params) { p.Services = []string{"imap;exp=20990101000000Z"} },
		"service twice":          func(p *Params) { p.Services = []string{"imap", "imap"} },
		"host bits":              func(p *Params) { p.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")} },
		"invalid network":        func(p *Params) { p.Networks = []netip.Prefix{{}} },
		"mapped network":         func(p *Params) { p.Networks = []netip.Prefix{netip.MustParsePrefix("::ffff:0:0/96")} },
		"unknown extension":      func(p *Params) { p.Extensions = []string{"note=a"} },
		"extension as parameter": func(p *Params) { p.Extensions = []string{"exp=20990101000000Z"} },
		"no hash":                func(p *Params) { p.Hash = "" },
		"clear text":             func(p *Params) { p.Hash = "secret" },
		"over the cap":           func(p *Params) { p.Hash = "$2b$31$" + strings.Repeat(".", 53) },
	} {
		p := full
		change(&p)
		if raw, err := New(p); err == nil {
			t.Errorf("%s: New = %s, want an error", name, raw)
		}
	}
	// Without parameters NAME is not decoded, so such labels need one.
	for _, label := range []string{"a=b", "$", "VGh1bmRlcmJpcmQkMjAyNC0wNy0wMVQxMDowMDowMC4wMDArMDA6MDA="} {
		if _, err := New(Params{Label: label, Hash: testHash}); err == nil {
			t.Errorf("%q alone is taken for a label", label)
		}
		if _, err := New(Params{Label: label, Created: at, Hash: testHash}); err != nil {
			t.Errorf("%q with a date: %v", label, err)
		}
	}
}

// TestRoundTrip builds values of random parts and takes them apart again. No label can move the hash.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 11))
	pick := func(set []string) (list []string) {
		for _, i := range r.Perm(len(set))[:r.IntN(len(set))] {
			list = append(list, set[i])
		}
		return list
	}
	for range 20_000 {
		runes := []rune("ab;=,%$ \n\x00\u0085äß漢-}{:/")
		label := []rune("x")
		for range r.IntN(12) {
			label = append(label, runes[r.IntN(len(runes))])
		}
		p := Params{
			Label: string(label), Created: time.Unix(r.Int64N(1<<33), 0), Services: pick([]string{"imap", "smtp", "pop3", "sieve"}),
			Extensions: pick([]string{"x-a=1", "x-b=%3B", "x-c="}), Hash: testHash,
		}
		if r.IntN(2) == 0 {
			p.ID, p.Expires = "k7m2", time.Unix(1+r.Int64N(1<<33), 0)
		}
		for range r.IntN(3) {
			a := netip.AddrFrom16([16]byte{0x20, 0x01, byte(r.Uint32()), byte(r.Uint32())})
			if n, _ := a.Prefix(r.IntN(129)); !slices.Contains(p.Networks, n) {
				p.Networks = append(p.Networks, n)
			}
		}
		raw, err := New(p)
		if err != nil {
			t.Fatalf("New(%+v): %v", p, err)
		}
		v := Parse([]byte(raw))
		if v.Label != p.Label || v.hashText != testHash || (p.ID == "") != v.Verify([]byte("correct horse")) {
			t.Fatalf("%q: label %q, Err %v", raw, v.Label, v.Err)
		}
		if again, err := New(v.Params()); again != raw || err != nil {
			t.Fatalf("%q is written again as %q, %v", raw, again, err)
		}
	}
}
