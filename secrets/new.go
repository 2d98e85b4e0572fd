package secrets

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Algorithms of Hash.
const (
	SHA256   = "sha256"   // {SSHA256}: for generated passwords only
	Bcrypt   = "bcrypt"   // $2a$
	Argon2i  = "argon2i"  // $argon2i$
	Argon2id = "argon2id" // $argon2id$
)

// Costs of new hashes. A mail server sends binds one after the other, so a bind's cost is its login rate.
const (
	newSalt         = 16          // bytes
	newBcryptCost   = 10          // some 60 ms; OWASP's minimum
	newArgon2Memory = 19456       // KiB: with the next two OWASP's choice, and Stalwart's
	newArgon2Time   = 2           // passes of argon2id
	newArgon2iTime  = 3           // passes of argon2i, which needs one more (RFC 9106, 7.3)
	newArgon2Size   = sha256.Size // bytes of the sum
	maxLabel        = 255         // bytes, so that a label fits in a line and in a column
)

// Params are the parts of an app password's value.
type Params struct {
	Label      string
	ID         string         // the selector of a generated password; "" for one that a person chose
	Expires    time.Time      // in whole seconds; the zero time: never
	Created    time.Time      // likewise; the zero time: not told
	Services   []string       // empty: any
	Networks   []netip.Prefix // empty: any
	Extensions []string       // x-word=value, the values encoded as NAME wants it
	Hash       string         // from Hash, or any that Verify knows
}

// Params takes an App value apart, to be changed and given to New again. An opaque NAME has only a
// label, and the date that Stalwart wrote.
func (v *Value) Params() Params {
	return Params{
		Label: v.Label, ID: v.ID, Expires: v.Expires, Created: v.Created,
		Services: v.Services, Networks: v.Networks, Extensions: v.extensions, Hash: v.hashText,
	}
}

// New builds the stored value and proves that it can be used. The error says what to change.
func New(p Params) (string, error) {
	if p.Label == "" || len(p.Label) > maxLabel || !utf8.ValidString(p.Label) {
		return "", fmt.Errorf("the label is not a text of 1 to %d bytes", maxLabel)
	}
	raw := appPrefix + p.name() + "$" + p.Hash
	v := Parse([]byte(raw))
	if v.Err != nil {
		return "", v.Err
	}
	if v.Label != p.Label || v.ID != p.ID || !v.Expires.Equal(p.Expires) || !v.Created.Equal(p.Created) ||
		!slices.Equal(v.Services, p.Services) || !slices.Equal(v.Networks, p.Networks) ||
		!slices.Equal(v.extensions, p.Extensions) || v.hashText != p.Hash {
		return "", errors.New("the value cannot carry these parameters: times are in whole seconds, " +
			"and a label with ; = , % $ or control characters needs another parameter, such as the time of creation")
	}
	return raw, nil
}

// name writes NAME. Without any parameter it is an opaque label, which New then finds to differ where the
// label would be taken for something else.
func (p *Params) name() string {
	sections := []string{escape(p.Label)}
	add := func(word, value string) { sections = append(sections, word+"="+value) }
	if p.ID != "" {
		add("id", p.ID)
	}
	if !p.Expires.IsZero() {
		add("exp", p.Expires.UTC().Format(timeLayout))
	}
	if len(p.Services) > 0 {
		add("svc", strings.Join(p.Services, ","))
	}
	if len(p.Networks) > 0 {
		list := make([]string, len(p.Networks))
		for i, n := range p.Networks {
			list[i] = n.String()
		}
		add("net", strings.Join(list, ","))
	}
	if !p.Created.IsZero() {
		add("crt", p.Created.UTC().Format(timeLayout))
	}
	return strings.Join(append(sections, p.Extensions...), ";")
}

// Hash hashes a password for a new value. A generated password is hashed as displayed, however it is
// spelled here. SHA256 is refused for any other: only 80 random bits need no slow hash. The random
// source of the salt is crypto/rand where random is nil; bcrypt always draws its own.
func Hash(algorithm string, password []byte, random io.Reader) (string, error) {
	shape, _, canonical := ShapeOf(password)
	if shape == Ours {
		password = canonical
	}
	switch {
	case len(password) == 0:
		return "", errors.New("an empty password cannot be hashed")
	case len(password) > MaxPassword:
		return "", fmt.Errorf("the password has more than %d bytes", MaxPassword)
	case hasNUL(password):
		return "", errors.New("the password contains a NUL byte, which most hashes cannot tell from its end")
	}
	if algorithm == Bcrypt {
		return hashBcrypt(password)
	}
	salt := make([]byte, newSalt)
	if _, err := io.ReadFull(source(random), salt); err != nil {
		return "", fmt.Errorf("cannot draw a salt: %w", err)
	}
	switch algorithm {
	case SHA256:
		if shape != Ours {
			return "", errors.New("sha256 is for generated passwords only; use bcrypt or argon2id for one that a person chose")
		}
		sum := sha256.Sum256(slices.Concat(password, salt))
		return "{SSHA256}" + base64.StdEncoding.EncodeToString(append(sum[:], salt...)), nil
	case Argon2i:
		key := argon2.Key(password, salt, newArgon2iTime, newArgon2Memory, 1, newArgon2Size)
		return phcArgon2(Argon2i, newArgon2iTime, salt, key), nil
	case Argon2id:
		key := argon2.IDKey(password, salt, newArgon2Time, newArgon2Memory, 1, newArgon2Size)
		return phcArgon2(Argon2id, newArgon2Time, salt, key), nil
	default:
		return "", fmt.Errorf("unknown algorithm %q; use %s, %s, %s or %s", algorithm, SHA256, Bcrypt, Argon2i, Argon2id)
	}
}

func hashBcrypt(password []byte) (string, error) {
	if len(password) > maxBcryptPassword {
		return "", fmt.Errorf("bcrypt takes no more than %d bytes; use argon2id for this password", maxBcryptPassword)
	}
	text, err := bcrypt.GenerateFromPassword(password, newBcryptCost)
	return string(text), err
}

// phcArgon2 writes the PHC form, of version 19 and one lane.
func phcArgon2(id string, passes int, salt, key []byte) string {
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$%s$v=19$m=%d,t=%d,p=1$%s$%s", id, newArgon2Memory, passes, enc.EncodeToString(salt), enc.EncodeToString(key))
}
