package main

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"math/rand/v2"

	"github.com/go-crypt/x/bcrypt"
	"github.com/go-crypt/x/crypt"
	"golang.org/x/crypto/argon2"
)

// The mix of algorithms, in parts of a hundred; the costs are the least that is
// taken, so that a million binds are minutes and not days.
const (
	partSSHA256 = 80 // {SSHA256}
	partSSHA512 = 85 // {SSHA512}
	partSSHA    = 90 // {SSHA}
	partCrypt   = 93 // $6$ or $5$, 1000 rounds
	partPBKDF2  = 95 // $pbkdf2-sha256$, 1000 rounds
	partArgon2  = 97 // $argon2id$, 64 KiB; the rest is bcrypt of cost 4
)

// newHash hashes a password with one of the algorithms. It uses the libraries
// themselves, not the code that the run tests.
func newHash(r *rand.Rand, password string) (string, error) {
	salt := make([]byte, 16)
	for i := range salt {
		salt[i] = byte(r.Uint32())
	}
	text, enc := []byte(password), base64.StdEncoding
	switch n := r.IntN(100); {
	case n < partSSHA256:
		sum := sha256.Sum256(append(text, salt...))
		return "{SSHA256}" + enc.EncodeToString(append(sum[:], salt...)), nil
	case n < partSSHA512:
		sum := sha512.Sum512(append(text, salt...))
		return "{SSHA512}" + enc.EncodeToString(append(sum[:], salt...)), nil
	case n < partSSHA:
		sum := sha1.Sum(append(text, salt...))
		return "{SSHA}" + enc.EncodeToString(append(sum[:], salt...)), nil
	case n < partCrypt:
		printable := fmt.Appendf(nil, "%x", salt[:8])
		kind, sum := "$6$", sha512.New
		if n%2 == 0 {
			kind, sum = "$5$", sha256.New
		}
		return fmt.Sprintf("%srounds=1000$%s$%s", kind, printable, crypt.KeySHACrypt(sum, text, printable, 1000)), nil
	case n < partPBKDF2:
		sum, err := pbkdf2.Key(sha256.New, password, salt, 1000, 32)
		raw := base64.RawStdEncoding
		return "$pbkdf2-sha256$i=1000,l=32$" + raw.EncodeToString(salt) + "$" + raw.EncodeToString(sum), err
	case n < partArgon2:
		raw := base64.RawStdEncoding
		sum := argon2.IDKey(text, salt, 1, 64, 1, 32)
		return "$argon2id$v=19$m=64,t=1,p=1$" + raw.EncodeToString(salt) + "$" + raw.EncodeToString(sum), nil
	}
	sum, err := bcrypt.GenerateFromPasswordSalt(text, salt, bcrypt.MinCost)
	return string(sum), err
}
