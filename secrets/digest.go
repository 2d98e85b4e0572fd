package secrets

import (
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
	sum  func(text []byte, out *[sha512.Size]byte) []byte
	want []byte
	salt []byte
}

// digests are the schemes by name without their first S for a salt.
var digests = map[string]struct {
	size   int
	salted bool
	sum    func(text []byte, out *[sha512.Size]byte) []byte
}{
	"MD5":     {md5.Size, false, sumMD5},
	"SHA":     {sha1.Size, false, sumSHA1},
	"SHA256":  {sha256.Size, false, sumSHA256},
	"SHA512":  {sha512.Size, false, sumSHA512},
	"SSHA":    {sha1.Size, true, sumSHA1},
	"SSHA256": {sha256.Size, true, sumSHA256},
	"SSHA512": {sha512.Size, true, sumSHA512},
}

func sumMD5(text []byte, out *[sha512.Size]byte) []byte {
	s := md5.Sum(text)
	return out[:copy(out[:], s[:])]
}

func sumSHA1(text []byte, out *[sha512.Size]byte) []byte {
	s := sha1.Sum(text)
	return out[:copy(out[:], s[:])]
}

func sumSHA256(text []byte, out *[sha512.Size]byte) []byte {
	s := sha256.Sum256(text)
	return out[:copy(out[:], s[:])]
}

func sumSHA512(text []byte, out *[sha512.Size]byte) []byte {
	*out = sha512.Sum512(text)
	return out[:]
}

// parseDigest reads the base64 of digest and salt: padded, without white space, in its one spelling.
func parseDigest(name, body string) (hash, error) {
	d, known := digests[name]
	if !known {
		return nil, ErrScheme
	}
	max := d.size
	if d.salted {
		max += maxDigestSalt
	}
	// The decoder skips line ends, so they are looked for here.
	if strings.ContainsAny(body, "\r\n") || len(body) > base64.StdEncoding.EncodedLen(max) {
		return nil, ErrMalformed
	}
	bin, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil || len(bin) < d.size || len(bin) > max {
		return nil, ErrMalformed
	}
	return &digest{sum: d.sum, want: bin[:d.size], salt: bin[d.size:]}, nil
}

func (d *digest) cost() (int64, bool) { return 0, false }

func (d *digest) verify(password []byte) bool {
	// On the stack, and cleared: the text holds the password.
	var buf [MaxPassword + maxDigestSalt]byte
	n := copy(buf[:], password)
	n += copy(buf[n:], d.salt)
	var out [sha512.Size]byte
	ok := subtle.ConstantTimeCompare(d.sum(buf[:n], &out), d.want) == 1
	clear(buf[:n])
	return ok
}
