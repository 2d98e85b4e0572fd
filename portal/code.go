package portal

import (
	"crypto/rand"
	"strings"
)

// letters are those of codes: Crockford's, which nobody confuses on paper or on the telephone.
const letters = "0123456789abcdefghjkmnpqrstvwxyz"

// codeLength is 80 random bits.
const codeLength = 16

// NewCode is a one-time code in its spelling for people, and as it is stored.
func NewCode() (shown, bare string) {
	var random [codeLength]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	var b strings.Builder
	for i, r := range random {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(letters[r%32])
	}
	shown = b.String()
	return shown, bareCode(shown)
}

// bareCode is a code without what people put into it: separators, capitals, letters for digits.
func bareCode(text string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(text) {
		switch {
		case c == '-' || c == ' ' || c == '\t':
			continue
		case c == 'o':
			c = '0'
		case c == 'i' || c == 'l':
			c = '1'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// isTOTP tells the codes of an authenticator app from those that stand on paper.
func isTOTP(bare string) bool {
	return len(bare) >= 6 && len(bare) <= 8 && strings.Trim(bare, "0123456789") == ""
}
