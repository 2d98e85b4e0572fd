package secrets

import (
	"crypto"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"strings"
)

// maxDigestSalt bounds the salt of {SSHA...}, in bytes: directories write 4 to 32.
const maxDigestSalt = 128

// digest is {SHA}, {SSHA512} and their like: one pass over password and salt, then the salt.
type digest struct {
	algorithm crypto.Hash
	want      []byte
	salt      []byte
}

// digestOfScheme is the algorithm of a scheme name in capitals, 0 for none, and whether it has a salt.
func digestOfScheme(name string) (algorithm crypto.Hash, salted bool) {
	switch name {
	case "MD5":
		return crypto.MD5, false
	case "SHA", "SSHA":
		return crypto.SHA1, name == "SSHA"
	case "SHA256", "SSHA256":
		return crypto.SHA256, name == "SSHA256"
	case "SHA512", "SSHA512":
		return crypto.SHA512, name == "SSHA512"
	default:
		return 0, false
	}
}

// parseDigest reads the base64 of digest and salt: padded, without white space, in its one spelling.
func parseDigest(name, body string) (hash, error) {
	algorithm, salted := digestOfScheme(name)
	if algorithm == 0 {
		return nil, ErrScheme
	}
	size := algorithm.Size()
	max := size
	if salted {
		max += maxDigestSalt
	}
	// The decoder skips line ends, so they are looked for here.
	if strings.ContainsAny(body, "\r\n") || len(body) > base64.StdEncoding.EncodedLen(max) {
		return nil, ErrMalformed
	}
	bin, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil || len(bin) < size || len(bin) > max {
		return nil, ErrMalformed
	}
	return &digest{algorithm: algorithm, want: bin[:size], salt: bin[size:]}, nil
}

func (d *digest) cost() (int64, bool) { return 0, false }

func (d *digest) verify(password []byte) bool {
	// On the stack, and cleared: the text holds the password.
	var buf [MaxPassword + maxDigestSalt]byte
	n := copy(buf[:], password)
	n += copy(buf[n:], d.salt)
	ok := d.equals(buf[:n])
	clear(buf[:n])
	return ok
}

// equals hashes without a hash.Hash, so that nothing is on the heap.
func (d *digest) equals(text []byte) bool {
	switch d.algorithm {
	case crypto.MD5:
		sum := md5.Sum(text)
		return subtle.ConstantTimeCompare(sum[:], d.want) == 1
	case crypto.SHA1:
		sum := sha1.Sum(text)
		return subtle.ConstantTimeCompare(sum[:], d.want) == 1
	case crypto.SHA256:
		sum := sha256.Sum256(text)
		return subtle.ConstantTimeCompare(sum[:], d.want) == 1
	default: // crypto.SHA512, the last that digestOfScheme knows
		sum := sha512.Sum512(text)
		return subtle.ConstantTimeCompare(sum[:], d.want) == 1
	}
}
