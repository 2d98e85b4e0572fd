package secrets

import (
	"crypto/subtle"
	"strings"
)

// Traditional and BSDi DES crypt, for hashes that exist; neither is ever written. The salt changes DES
// itself, which is why crypto/des cannot do it. Tables are those of FIPS 46-3.

// maxDESPassword is what traditional DES crypt looks at, in bytes.
const maxDESPassword = 8

// desHash is {CRYPT} with 13 characters, or _ and 19 characters.
type desHash struct {
	light
	bsdi   bool
	rounds int
	salt   uint64
	want   []byte // the last 11 characters
}

// parseDES reads two characters of salt and eleven of sum.
func parseDES(s string) (hash, error) {
	if !isOf(s, cryptSet, 13, 13) || !isCanonicalDES(s) {
		return nil, ErrMalformed
	}
	return &desHash{rounds: 25, salt: cryptBits(s[:2]), want: []byte(s[2:])}, nil
}

// parseBSDi reads _, four characters of rounds, four of salt and eleven of sum.
func parseBSDi(s string) (hash, error) {
	if !isOf(s[1:], cryptSet, 19, 19) || !isCanonicalDES(s) {
		return nil, ErrMalformed
	}
	rounds := int(cryptBits(s[1:5]))
	if rounds > maxBSDiRounds {
		return nil, ErrOverCap
	}
	if rounds < 1 {
		return nil, ErrMalformed
	}
	return &desHash{bsdi: true, rounds: rounds, salt: cryptBits(s[5:9]), want: []byte(s[9:])}, nil
}

// isCanonicalDES says whether the two bits behind the last of the 64 are unset.
func isCanonicalDES(s string) bool { return strings.IndexByte(cryptAlphabet, s[len(s)-1])&3 == 0 }

// cryptBits reads characters of six bits each, the lowest first.
func cryptBits(s string) (n uint64) {
	for i := range len(s) {
		n |= uint64(strings.IndexByte(cryptAlphabet, s[i])) << (6 * i)
	}
	return n
}

// verify refuses what DES would take for another password: more than eight bytes (BSDi folds
// them instead), bytes with the eighth bit, and NUL, which is the padding.
func (h *desHash) verify(password []byte) bool {
	if !h.bsdi && len(password) > maxDESPassword || len(password) > maxCryptPassword {
		return false
	}
	for _, c := range password {
		if c == 0 || c >= 0x80 {
			return false
		}
	}
	key := desBlock(password)
	for len(password) > maxDESPassword {
		password = password[maxDESPassword:]
		key = desEncrypt(key, key, 0, 1) ^ desBlock(password)
	}
	return subtle.ConstantTimeCompare(desText(desEncrypt(key, 0, h.salt, h.rounds)), h.want) == 1
}

// desBlock is up to eight characters as a key: seven bits each, then the unused parity bit.
func desBlock(s []byte) (b uint64) {
	for i := range maxDESPassword {
		b <<= 8
		if i < len(s) {
			b |= uint64(s[i]<<1) & 0xff
		}
	}
	return b
}

// desText writes 64 bits as eleven characters, the highest bits first.
func desText(b uint64) []byte {
	text := make([]byte, 11)
	for i := range 10 {
		text[i] = cryptAlphabet[b>>(58-6*i)&63]
	}
	text[10] = cryptAlphabet[b<<2&63]
	return text
}

// desEncrypt encrypts block count times, with an expansion in which the bits of salt swap its two halves.
func desEncrypt(key, block, salt uint64, count int) uint64 {
	keys := desKeys(key)
	swap := uint64(0) // salt bit 0 is the first bit of the expansion, the highest of each half
	for i := range 24 {
		swap |= (salt >> i & 1) << (23 - i)
	}
	block = desPermute(block, 64, desIP[:])
	l, r := block>>32, block&0xffffffff
	for range count {
		for _, k := range keys {
			l, r = r, l^desRound(r, k, swap)
		}
		l, r = r, l
	}
	return desPermute(l<<32|r, 64, desFP[:])
}

// desRound is the function f of DES.
func desRound(r, key, swap uint64) uint64 {
	e := desPermute(r, 32, desE[:])
	t := (e>>24 ^ e) & swap
	e ^= t<<24 | t ^ key
	var out uint64
	for i := range 8 {
		x := e >> (42 - 6*i) & 63
		// The outer two bits are the row, the inner four the column.
		out = out<<4 | uint64(desS[i][x>>5<<5|x&1<<4|x>>1&15])
	}
	return desPermute(out, 32, desP[:])
}

// desKeys is the key schedule.
func desKeys(key uint64) (keys [16]uint64) {
	cd := desPermute(key, 64, desPC1[:])
	c, d := cd>>28, cd&0xfffffff
	for i, shift := range desShifts {
		c = (c<<shift | c>>(28-shift)) & 0xfffffff
		d = (d<<shift | d>>(28-shift)) & 0xfffffff
		keys[i] = desPermute(c<<28|d, 56, desPC2[:])
	}
	return keys
}

// desPermute picks bits of src, which has the given width; bit 1 is the highest, as in FIPS 46-3.
func desPermute(src uint64, width int, table []uint8) (out uint64) {
	for _, bit := range table {
		out = out<<1 | src>>(width-int(bit))&1
	}
	return out
}
