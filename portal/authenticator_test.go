package portal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"
)

// Flags of authenticator data (Web Authentication 6.1).
const (
	flagPresent  = 1 << 0
	flagVerified = 1 << 2
	flagEligible = 1 << 3
	flagBackedUp = 1 << 4
	flagAttested = 1 << 6
)

// authenticator is a browser and a security key in one, with one passkey. What it says can be made wrong.
type authenticator struct {
	t      *testing.T
	key    *ecdsa.PrivateKey
	id     []byte
	handle string // of the user, as the options spelled it
	origin string
	rp     string
	flags  byte
	count  uint32 // of the next answer
	step   uint32 // what it goes up by
	say    func(client map[string]any)
}

func newAuthenticator(t *testing.T) *authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{t: t, key: key, id: []byte(rand.Text()), origin: origin, rp: "localhost", flags: flagPresent | flagVerified, count: 1, step: 1}
}

// options is what a page's script is given.
type options struct {
	PublicKey struct {
		Challenge        string
		RPID             string
		UserVerification string
		RP               struct{ ID, Name string }
		User             struct{ ID, Name, DisplayName string }
		Attestation      string
		AllowCredentials []struct{ ID string }
		Exclude          []struct{ ID string }                          `json:"excludeCredentials"`
		Selection        struct{ UserVerification, ResidentKey string } `json:"authenticatorSelection"`
	}
}

func readOptions(t *testing.T, p page) options {
	t.Helper()
	var o options
	if err := json.Unmarshal([]byte(p.body), &o); err != nil || p.code != 200 || o.PublicKey.Challenge == "" {
		t.Fatalf("no options: %d %v\n%s", p.code, err, clip(p.body))
	}
	return o
}

var b64 = base64.RawURLEncoding

// client is the client data of a ceremony.
func (a *authenticator) client(kind, challenge string) []byte {
	data := map[string]any{"type": kind, "challenge": challenge, "origin": a.origin, "crossOrigin": false}
	if a.say != nil {
		a.say(data)
	}
	text, err := json.Marshal(data)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

// data is authenticator data, with the counter going up.
func (a *authenticator) data(flags byte, attested []byte) []byte {
	rp := sha256.Sum256([]byte(a.rp))
	b := binary.BigEndian.AppendUint32(append(rp[:], flags), a.count)
	a.count += a.step
	return append(b, attested...)
}

// CBOR (RFC 8949), as much as a passkey needs: heads, texts and strings of bytes.
func head(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 256:
		return []byte{major<<5 | 24, byte(n)}
	}
	return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
}

func cborText(s string) []byte  { return append(head(3, len(s)), s...) }
func cborBytes(b []byte) []byte { return append(head(2, len(b)), b...) }

func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// create answers options with a new passkey; attestation "none".
func (a *authenticator) create(o options) string {
	point, err := a.key.PublicKey.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	a.handle = o.PublicKey.User.ID
	// An EC2 key (RFC 9053 7.1.1): kty 2, alg -7, crv 1, x, y.
	cose := join(head(5, 5), []byte{1, 2, 3, 0x26, 0x20, 1, 0x21}, cborBytes(point[1:33]), []byte{0x22}, cborBytes(point[33:]))
	attested := join(make([]byte, 16), binary.BigEndian.AppendUint16(nil, uint16(len(a.id))), a.id, cose)
	object := join(head(5, 3), cborText("fmt"), cborText("none"), cborText("attStmt"), head(5, 0), cborText("authData"), cborBytes(a.data(a.flags|flagAttested, attested)))
	return a.answer(map[string]any{"clientDataJSON": b64.EncodeToString(a.client("webauthn.create", o.PublicKey.Challenge)), "attestationObject": b64.EncodeToString(object)})
}

// get answers options with a proof.
func (a *authenticator) get(o options) string {
	client := a.client("webauthn.get", o.PublicKey.Challenge)
	data, hash := a.data(a.flags, nil), sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte(nil), data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.answer(map[string]any{"clientDataJSON": b64.EncodeToString(client), "authenticatorData": b64.EncodeToString(data),
		"signature": b64.EncodeToString(signature), "userHandle": a.handle})
}

func (a *authenticator) answer(response map[string]any) string {
	id := b64.EncodeToString(a.id)
	text, err := json.Marshal(map[string]any{"id": id, "rawId": id, "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

// enrol makes a passkey of a browser that may.
func (a *authenticator) enrol(b *browser, name string) page {
	a.t.Helper()
	return b.post("/factors/passkey", "name", name, "passkey", a.create(readOptions(a.t, b.post("/factors/passkey/options"))))
}

// prove proves it, to sign in or to confirm.
func (a *authenticator) prove(b *browser, path string) page {
	a.t.Helper()
	return b.post(path, "passkey", a.get(readOptions(a.t, b.post(path+"/options"))))
}
