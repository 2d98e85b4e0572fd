package secrets

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"

	xargon2 "github.com/go-crypt/x/argon2"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/scrypt"
)

// Caps of the hashes in PHC form. At each of them one Verify stays below two seconds of one core.
const (
	maxArgon2Memory  = 256 << 10 // KiB: the memory budget of a small machine
	maxArgon2Time    = 10        // passes; RFC 9106 recommends 1 and 3
	maxArgon2Threads = 16        // each is a goroutine; more than cores gain nothing
	maxArgon2Work    = 1 << 20   // KiB filled, m*t: at m = 256 MiB four passes, more than a second

	maxPBKDF2Iterations = 2_000_000 // three times OWASP's figure for SHA-256; about a second

	maxScryptLog  = 20        // N = 2^20
	maxScryptR    = 64        // block size in 128 bytes; 8 is the usual one
	maxScryptP    = 16        // lanes, computed one after the other
	maxScryptWork = 256 << 20 // bytes mixed, 128*N*r*p, of which 128*N*r is memory; about a second
)

// argon2Hash is argon2 of version 19. The library for argon2i and argon2id has no argon2d.
type argon2Hash struct {
	key                   func(password, salt []byte, time, memory, threads, size uint32) []byte
	time, memory, threads uint32
	salt, want            []byte
}

// parseArgon2 reads what follows $argon2*$. Without v= the version is 19, as in Stalwart; the reference
// code took such a hash for version 16, so one of that age does not match.
func parseArgon2(id, s string) (hash, error) {
	p, err := parsePHC(s)
	if err != nil {
		return nil, err
	}
	if p.version != "" && p.version != "19" {
		return nil, ErrScheme
	}
	params := []phcParam{
		{name: "m", value: 19456, max: maxArgon2Memory},
		{name: "t", value: 2, max: maxArgon2Time},
		{name: "p", value: 1, max: maxArgon2Threads},
	}
	if err := p.read(params); err != nil {
		return nil, err
	}
	m, t, lanes := params[0].value, params[1].value, params[2].value
	// RFC 9106, 3.1: at least one pass and one lane, 8 KiB for each lane, 8 bytes of salt.
	if t < 1 || lanes < 1 || m < 8*lanes || len(p.salt) < 8 {
		return nil, ErrMalformed
	}
	if m*t > maxArgon2Work {
		return nil, ErrOverCap
	}
	h := &argon2Hash{time: uint32(t), memory: uint32(m), threads: uint32(lanes), salt: p.salt, want: p.sum}
	switch id {
	case "argon2i":
		h.key = func(password, salt []byte, time, memory, threads, size uint32) []byte {
			return argon2.Key(password, salt, time, memory, uint8(threads), size)
		}
	case "argon2id":
		h.key = func(password, salt []byte, time, memory, threads, size uint32) []byte {
			return argon2.IDKey(password, salt, time, memory, uint8(threads), size)
		}
	default:
		h.key = xargon2.DKey
	}
	return h, nil
}

func (h *argon2Hash) cost() (int64, bool) { return int64(h.memory) << 10, true }

func (h *argon2Hash) verify(password []byte) bool {
	got := h.key(password, h.salt, h.time, h.memory, h.threads, uint32(len(h.want)))
	return subtle.ConstantTimeCompare(got, h.want) == 1
}

// pbkdf2Hash is PBKDF2 with HMAC-SHA-256 or HMAC-SHA-512.
type pbkdf2Hash struct {
	light
	sha512     bool
	iterations int
	salt, want []byte
}

// parsePBKDF2 reads what follows $pbkdf2-sha*$.
func parsePBKDF2(id, s string) (hash, error) {
	p, err := parsePHC(s)
	if err != nil {
		return nil, err
	}
	params := []phcParam{
		{name: "i", value: 600_000, max: maxPBKDF2Iterations},
		{name: "l", value: 32, max: phcMaxSum},
	}
	if err := p.read(params); err != nil {
		return nil, err
	}
	if p.version != "" || params[0].value < 1 || params[1].value != len(p.sum) {
		return nil, ErrMalformed
	}
	return &pbkdf2Hash{sha512: id == "pbkdf2-sha512", iterations: params[0].value, salt: p.salt, want: p.sum}, nil
}

func (h *pbkdf2Hash) verify(password []byte) bool {
	if hasNUL(password) { // HMAC pads its key with zeros
		return false
	}
	var got []byte
	var err error
	if h.sha512 {
		got, err = pbkdf2.Key(sha512.New, string(password), h.salt, h.iterations, len(h.want))
	} else {
		got, err = pbkdf2.Key(sha256.New, string(password), h.salt, h.iterations, len(h.want))
	}
	// An error is FIPS mode refusing a short salt: no match.
	return err == nil && subtle.ConstantTimeCompare(got, h.want) == 1
}

// scryptHash is scrypt with N = 2^ln.
type scryptHash struct {
	n, r, p    int
	salt, want []byte
}

// parseScrypt reads what follows $scrypt$.
func parseScrypt(s string) (hash, error) {
	p, err := parsePHC(s)
	if err != nil {
		return nil, err
	}
	params := []phcParam{
		{name: "ln", value: 17, max: maxScryptLog},
		{name: "r", value: 8, max: maxScryptR},
		{name: "p", value: 1, max: maxScryptP},
	}
	if err := p.read(params); err != nil {
		return nil, err
	}
	h := &scryptHash{n: 1 << params[0].value, r: params[1].value, p: params[2].value, salt: p.salt, want: p.sum}
	if p.version != "" || h.n < 2 || h.r < 1 || h.p < 1 {
		return nil, ErrMalformed
	}
	if 128*h.n*h.r*h.p > maxScryptWork {
		return nil, ErrOverCap
	}
	return h, nil
}

func (h *scryptHash) cost() (int64, bool) { return 128 * int64(h.r) * int64(h.n+h.p), true }

func (h *scryptHash) verify(password []byte) bool {
	if hasNUL(password) { // HMAC pads its key with zeros
		return false
	}
	got, err := scrypt.Key(password, h.salt, h.n, h.r, h.p, len(h.want))
	return err == nil && subtle.ConstantTimeCompare(got, h.want) == 1
}
