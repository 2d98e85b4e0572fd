package secrets

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	stdhash "hash"
	"strings"

	"github.com/go-crypt/x/crypt"
	"golang.org/x/crypto/bcrypt"
)

// Caps of the crypt(3) family.
const (
	maxBcryptCost      = 14        // about a second; each step doubles it
	maxSHACryptRounds  = 1_000_000 // half a second, two with the longest password; the algorithm allows a thousand times more
	maxSHA1CryptRounds = 1_000_000 // a quarter of a second; NetBSD writes some 25,000
	maxBSDiRounds      = 100_000   // a quarter of a second; BSD/OS wrote 725

	// maxCryptPassword is the longest password of SHA-crypt, md5-crypt and sha1crypt, in bytes, as in libxcrypt
	// (CRYPT_MAX_PASSPHRASE_SIZE): each round hashes the whole password again.
	maxCryptPassword = 512
	// maxBcryptPassword is what bcrypt looks at. A longer password would match whatever follows.
	maxBcryptPassword = 72
)

// cryptAlphabet is the base64 of crypt(3), in the order of its values.
const cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var cryptSet = setOf(cryptAlphabet)

// cryptHash is a hash whose library computes the text behind the last "$".
type cryptHash struct {
	light
	key  func(password []byte) []byte
	want []byte
}

func (h *cryptHash) verify(password []byte) bool {
	if len(password) > maxCryptPassword {
		return false
	}
	return subtle.ConstantTimeCompare(h.key(password), h.want) == 1
}

// splitCrypt reads salt$sum, both of the crypt alphabet.
func splitCrypt(s string, minSalt, maxSalt, sumChars int) (salt, sum []byte, err error) {
	head, tail, found := strings.Cut(s, "$")
	if !found || !isOf(head, cryptSet, minSalt, maxSalt) || !isOf(tail, cryptSet, sumChars, sumChars) {
		return nil, nil, ErrMalformed
	}
	return []byte(head), []byte(tail), nil
}

// parseSHACrypt reads what follows $5$ and $6$: [rounds=N$]salt$sum.
func parseSHACrypt(id, s string) (hash, error) {
	rounds := 5000
	if rest, found := strings.CutPrefix(s, "rounds="); found {
		text, tail, _ := strings.Cut(rest, "$")
		n, ok, over := decimal(text, maxSHACryptRounds)
		if over {
			return nil, ErrOverCap
		}
		// Below 1000 crypt(3) computes with 1000; then the text says something else than what was done.
		if !ok || n < 1000 {
			return nil, ErrMalformed
		}
		rounds, s = n, tail
	}
	var newHash func() stdhash.Hash = sha256.New
	sumChars := 43
	if id == "6" {
		newHash, sumChars = sha512.New, 86
	}
	salt, sum, err := splitCrypt(s, 0, 16, sumChars)
	if err != nil {
		return nil, err
	}
	key := func(password []byte) []byte { return crypt.KeySHACrypt(newHash, password, salt, rounds) }
	return &cryptHash{key: key, want: sum}, nil
}

// parseMD5Crypt reads what follows $1$: salt$sum.
func parseMD5Crypt(s string) (hash, error) {
	salt, sum, err := splitCrypt(s, 0, 8, 22)
	if err != nil {
		return nil, err
	}
	key := func(password []byte) []byte { return crypt.KeyMD5Crypt(password, salt) }
	return &cryptHash{key: key, want: sum}, nil
}

// parseSHA1Crypt reads what follows $sha1$: rounds$salt$sum.
func parseSHA1Crypt(s string) (hash, error) {
	text, rest, _ := strings.Cut(s, "$")
	rounds, ok, over := decimal(text, maxSHA1CryptRounds)
	if over {
		return nil, ErrOverCap
	}
	if !ok || rounds < 1 {
		return nil, ErrMalformed
	}
	salt, sum, err := splitCrypt(rest, 1, 64, 28)
	if err != nil {
		return nil, err
	}
	key := func(password []byte) []byte {
		if hasNUL(password) { // HMAC pads its key with zeros
			return nil
		}
		return crypt.KeySHA1Crypt(password, salt, uint32(rounds))
	}
	return &cryptHash{key: key, want: sum}, nil
}

// bcryptHash is the whole text: the library reads it again.
type bcryptHash struct {
	light
	text []byte
}

// bcryptAlphabet is the base64 of bcrypt, in the order of its values: not that of crypt(3).
const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

var bcryptSet = setOf(bcryptAlphabet)

// parseBcrypt reads $2a$NN$ and what follows: 22 characters of salt, 31 of sum. The library takes more: other
// letters behind the 2, and a salt whose unused bits are set, so that one hash had sixteen spellings.
func parseBcrypt(s string) (hash, error) {
	const prefix = len("$2b$04$")
	if len(s) != prefix+22+31 || s[prefix-1] != '$' || !isOf(s[prefix:], bcryptSet, 53, 53) {
		return nil, ErrMalformed
	}
	cost := s[4:6]
	if strings.Trim(cost, "0123456789") != "" || cost < "04" || cost > "31" {
		return nil, ErrMalformed
	}
	if int(cost[0]-'0')*10+int(cost[1]-'0') > maxBcryptCost {
		return nil, ErrOverCap
	}
	salt, sum := s[prefix+21], s[len(s)-1]
	// 16 bytes in 22 characters leave 4 bits unused, 23 bytes in 31 leave 2.
	if strings.IndexByte(bcryptAlphabet, salt)&15 != 0 || strings.IndexByte(bcryptAlphabet, sum)&3 != 0 {
		return nil, ErrMalformed
	}
	return &bcryptHash{text: []byte(s)}, nil
}

func (h *bcryptHash) verify(password []byte) bool {
	// The key is the password and a NUL, over and over: "abc" and "abc\x00abc" are the same to it.
	if len(password) > maxBcryptPassword || hasNUL(password) {
		return false
	}
	return bcrypt.CompareHashAndPassword(h.text, password) == nil
}
