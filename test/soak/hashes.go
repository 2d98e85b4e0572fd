package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"appbind/secrets"
)

// broken are texts that stand where a hash should: what directories store to
// disable a password, and what is left of hashes.
var broken = []string{"", "*", "!", "!!", "x", "*LK*", "*NP*", "{CRYPT}", "{CRYPT}*", "{CRYPT}!", "{CRYPT}x", "{CRYPT}*0", "{CRYPT}ab", "{CRYPT}ab*", "{crypt}..", "{CRYPT}!!!!!!!!!!!!!",
	"{SSHA256}", "{SSHA256}=", "{SSHA256}AAAA", "{SSHA512}AAAA", "{SSHA}", "{SSHA}*", "{SHA}", "{SHA}AA==", "{SHA256}", "{SHA512}", "{MD5}", "{MD5}*", "{PLAIN}", "{CLEAR}x", "{SASL}user", "{}", "{",
	"$1$", "$1$$", "$1$salt$", "$5$", "$5$rounds=1000$$", "$6$", "$6$salt", "$6$salt$", "$6$rounds=1000$salt$", "$6$rounds=0$salt$x", "$2b$", "$2b$04$", "$2b$04$*", "$2a$00$", "$sha1$1$a$", "_", "_....",
	"$argon2id$", "$argon2id$v=19$m=64,t=1,p=1$", "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$", "$argon2id$v=19$m=0,t=0,p=0$c2FsdHNhbHQ$AAAA", "$argon2i$v=19$m=64,t=1,p=1$$",
	"$pbkdf2-sha256$", "$pbkdf2-sha256$i=1,l=0$c2FsdA$", "$pbkdf2-sha256$i=0,l=32$c2FsdA$AAAA", "$pbkdf2-sha512$i=1$$", "$scrypt$", "$scrypt$ln=0,r=0,p=0$$", "$scrypt$ln=1,r=1,p=1$c2FsdA$", "$7$", "$y$j9T$x$", "$$", "$"}

// odd are bytes that mean something in a hash.
const odd = "*!$={},\x00 A0:"

// costly is bcrypt of a cost that a million of would be days.
var costly = regexp.MustCompile(`^(\{[A-Za-z0-9]*\})?\$2[aby]\$(0[6-9]|[1-9])`)

// garbage is one stored text that is no good hash, and what is tried against it.
type garbage struct {
	hash      string
	passwords [3]string
}

// newGarbage takes a good hash and spoils it, or takes one that was never good. Where the
// sum was cut short, its right password is tried too: a part of a sum must not do.
func newGarbage(r *rand.Rand) (garbage, error) {
	for {
		right := fmt.Sprintf("right password %x", r.Uint32())
		good, err := newHash(r, right)
		if err != nil {
			return garbage{}, err
		}
		third := broken[1+r.IntN(len(broken)-1)]
		hash := good
		switch n := r.IntN(10); {
		case n == 0:
			hash = broken[r.IntN(len(broken))]
		case n < 4 && strings.HasPrefix(good, "{"):
			hash, third = cutSum(r, good), right
		case n < 4: // the sum is at the end
			hash, third = good[:len(good)-1-r.IntN(len(good)-1)], right
		case n == 4: // the sum is a marker
			at := max(strings.LastIndexAny(good, "}$"), 0)
			hash = good[:at+1] + []string{"*", "!", "x", "!" + good[at+1:]}[r.IntN(4)]
		default:
			for range 1 + r.IntN(3) {
				hash = spoil(r, hash)
			}
		}
		if hash == good || costly.MatchString(hash) {
			continue
		}
		return garbage{hash, [3]string{hash, "$app$device$" + hash, third}}, nil
	}
}

// cutSum leaves less of the sum and the salt than the sum alone has.
func cutSum(r *rand.Rand, good string) string {
	scheme, text, _ := strings.Cut(good, "}")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic("soak: internal error: a hash of our own does not decode")
	}
	return scheme + "}" + base64.StdEncoding.EncodeToString(raw[:r.IntN(len(raw)-16)])
}

// spoil changes, drops or adds one byte.
func spoil(r *rand.Rand, hash string) string {
	if hash == "" {
		return "*"
	}
	at := r.IntN(len(hash))
	switch r.IntN(6) {
	case 0:
		return hash[:at] + hash[at+1:]
	case 1:
		return hash[:at] + string(odd[r.IntN(len(odd))]) + hash[at:]
	case 2:
		return hash[:at] + hash[at:][:len(hash[at:])/2] + hash[at:]
	case 3, 4: // what remains may well be a hash, of something else
		return hash[:at] + string(alphabet[r.IntN(len(alphabet))]) + hash[at+1:]
	}
	return hash[:at] + string([]byte{byte(r.IntN(256))}) + hash[at+1:]
}

// tryHashes tries n of them on all cores. A match is an error.
func tryHashes(seed uint64, n int, out io.Writer) error {
	type finding struct{ hash, password string }
	var mu sync.Mutex // guards found, usable and failed
	var found []finding
	var usable int
	var failed error
	var wg sync.WaitGroup
	cores := runtime.NumCPU()
	for c := range cores {
		wg.Go(func() {
			r := source(seed, "hashes", c)
			for range n / cores {
				g, err := newGarbage(r)
				v := secrets.Parse([]byte("$app$device$" + g.hash))
				var matches []finding
				for _, p := range g.passwords {
					if v.Verify([]byte(p)) {
						matches = append(matches, finding{g.hash, p})
					}
				}
				mu.Lock()
				if v.Err == nil {
					usable++
				}
				found, failed = append(found, matches...), err
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	for _, f := range found[:min(len(found), 10)] {
		fmt.Fprintf(out, "  %q accepts %q\n", f.hash, f.password)
	}
	if _, err := fmt.Fprintf(out, "hashes: %d stored texts, three passwords each, %d of them usable as a hash: %d accepted\n", n/cores*cores, usable, len(found)); err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%d passwords were accepted", len(found))
	}
	return nil
}
