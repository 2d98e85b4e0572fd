package secrets

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// reencode writes NAME from what was parsed, in the order of the stored one.
func reencode(v *Value) string {
	p := v.Params()
	parts := strings.Split(p.name(), ";")
	out := parts[:1]
	for _, section := range strings.Split(v.Name, ";")[1:] {
		word, _, _ := strings.Cut(section, "=")
		i := slices.IndexFunc(parts, func(s string) bool { return strings.HasPrefix(s, word+"=") })
		if i < 0 {
			return "parameter lost"
		}
		out = append(out[:len(out):len(out)], parts[i])
	}
	return strings.Join(out, ";")
}

// fuzzPasswords are presented to garbage. No seed is a hash of one of them, and no fuzzer finds one.
var fuzzPasswords = []string{"correct horse battery", "x9\x00\xff", generatedVectors[3].password}

func FuzzSecret(f *testing.F) {
	for _, row := range strings.Split(readAll(f, "testdata/hashes.tsv"), "\n") {
		stored, _, _ := strings.Cut(row, "\t")
		f.Add([]byte(stored))
		f.Add([]byte("$app$x;id=k7m2$" + stored))
	}
	for _, seed := range []string{
		"$app$a%3B;id=k7m2;exp=20270101000000Z;svc=imap,smtp;net=192.0.2.0/24,::/0;crt=20260101000000Z;x-a=b,%25$" + testHash,
		"$app$x;svc=imap;x-b=;id=k7m2$" + testHash, "otpauth://totp/A:b?secret=" + rfcSHA1 + "&issuer=A&digits=8&period=60&algorithm=SHA512",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v := Parse(raw)
		if v.Raw != string(raw) {
			t.Fatal("Raw is not what was stored")
		}
		if v.Kind == App && v.Err == nil {
			sections := strings.IndexByte(v.Name, ';')
			if sections >= 0 && strings.Contains(v.Name[sections:], "=") && reencode(v) != v.Name {
				t.Fatalf("%q is written again as %q", v.Name, reencode(v))
			}
			if appPrefix+v.Name+"$"+v.hashText != v.Raw {
				t.Fatal("name and hash are not the value")
			}
		}
		memory, _ := v.Cost()
		if memory > maxArgon2Memory<<10+1<<20 {
			t.Fatalf("costs %d bytes", memory)
		}
		if isCheap(v) {
			for _, password := range fuzzPasswords {
				if v.Verify([]byte(password)) {
					t.Fatalf("%q matches", password)
				}
			}
		}
		if v.Verify(nil) || v.Verify(raw) && len(raw) > 0 {
			t.Fatal("nothing, or the stored value itself, matches")
		}
	})
}

func readAll(tb testing.TB, file string) string {
	tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// isCheap leaves out what would take the fuzzer's time: hashing it is the other tests' work.
func isCheap(v *Value) bool {
	switch h := v.hash.(type) {
	case nil, *digest:
		return true
	case *argon2Hash:
		return h.memory*h.time < 4096
	case *pbkdf2Hash:
		return h.iterations < 5000
	case *scryptHash:
		return h.n*h.r*h.p < 1<<14
	case *desHash:
		return h.rounds < 100
	default:
		return strings.HasPrefix(v.hashText, "$1$")
	}
}

// TestGarbageNeverMatches is the fuzzer's rule on random mutations of good hashes: bytes changed, dropped and
// doubled, and the schemes and bodies crossed.
func TestGarbageNeverMatches(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 5))
	var seeds []string
	for _, row := range readVectors(t, "hashes.tsv", 4) {
		if !strings.HasPrefix(row[0], appPrefix) {
			seeds = append(seeds, row[0])
		}
	}
	chars := "$./0123456789ABCXYZabcxyz{}=,_*!\x00\xff \n"
	usable := 0
	for range 100_000 {
		b := []byte(seeds[r.IntN(len(seeds))])
		for range r.IntN(4) {
			if len(b) == 0 {
				break
			}
			i := r.IntN(len(b))
			switch r.IntN(4) {
			case 0:
				b[i] = chars[r.IntN(len(chars))]
			case 1:
				b = slices.Delete(b, i, i+1)
			case 2:
				b = slices.Insert(b, i, chars[r.IntN(len(chars))])
			default:
				other := seeds[r.IntN(len(seeds))]
				b = append(b[:i:i], other[min(i, len(other)):]...)
			}
		}
		v := Parse(append([]byte("$app$x$"), b...))
		if v.Err == nil {
			usable++
		}
		if v.Verify(nil) || v.Verify([]byte{}) {
			t.Fatalf("%q matches the empty password", b)
		}
		// The slow ones are what they were before the mutation, or over a cap: enough of the others remain.
		if d, ok := v.hash.(*digest); ok || v.hash == nil {
			for _, password := range fuzzPasswords {
				if v.Verify([]byte(password)) {
					t.Fatalf("%q matches %q (%v)", b, password, d)
				}
			}
		}
	}
	if usable < 1000 {
		t.Errorf("only %d mutations were usable: the test does not reach the hashes", usable)
	}
}

// TestNothingPrintsMaterial looks for a canary in the errors and in every way to print a value.
func TestNothingPrintsMaterial(t *testing.T) {
	t.Parallel()
	const canary = "C4N4RYC4N4RY"
	raws := []string{
		canary, "{SSHA}" + canary, "$app$" + canary, "$app$x$" + canary, "$app$x;id=k7m2$" + canary, "otpauth://" + canary, "otpauth://totp/x?secret=" + canary,
		"otpauth://totp/x?secret=" + canary + "%zz", "otpauth://totp/x?secret=" + canary + "&digits=" + canary, "otpauth://[" + canary, "otpauth://totp/x?secret=" + rfcSHA1 + canary,
	}
	for _, prefix := range []string{"$6$", "$5$", "$1$", "$sha1$", "$sha1$1$", "$2b$", "$2b$05$", "_", "{", "{SSHA}", "{" + canary + "}", "{CRYPT}", "{PLAIN}", "$argon2id$", "$argon2id$v=19$", "$argon2id$m=" + canary + "$",
		"$pbkdf2-sha256$", "$scrypt$ln=1$", "$" + canary + "$", "$6$rounds=" + canary + "$"} {
		raws = append(raws, "$app$x$"+prefix+canary, "$app$x;id=k7m2$"+prefix+canary, "$app$x$"+prefix+canary+"$"+canary)
	}
	for _, word := range []string{"id", "exp", "svc", "net", "crt", "x-a", canary} {
		raws = append(raws, "$app$x;"+word+"="+canary+"%zz$"+testHash)
	}
	raws = append(raws, "$app$x$$6$"+canary+"$"+strings.Repeat(".", 86)) // usable
	for _, raw := range raws {
		v := Parse([]byte(raw))
		text := fmt.Sprint(v.Err, v.Allows(timeZero, "", addrNone))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			text += fmt.Sprintf(verb, v) + fmt.Sprintf(verb, *v) + fmt.Sprintf(verb, []*Value{v}[0]) + fmt.Sprintf(verb, struct{ V Value }{*v})
		}
		text += logAndJSON(t, v)
		if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("%q: printed as %s", raw, text)
		}
	}
	g := Generated{Password: canary, ID: "k7m2"}
	if text := fmt.Sprintf("%v %+v %#v %s %x", g, g, &g, g, g) + logAndJSON(t, g); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
		t.Errorf("a generated password prints itself: %s", text)
	}
	for _, algorithm := range []string{SHA256, Bcrypt, Argon2id, "plain"} {
		if _, err := Hash(algorithm, []byte(strings.Repeat(canary, 100)), nil); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	if _, err := New(Params{Label: "x", ID: canary, Hash: canary}); err == nil || strings.Contains(err.Error(), canary) {
		t.Error("New prints what it was given")
	}
}
