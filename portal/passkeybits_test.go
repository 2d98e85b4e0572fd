package portal

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/go-webauthn/webauthn/protocol"
)

// holderOf is a user with the passkeys, outside of any request.
func (r *rig) holderOf(name string) *holder {
	r.t.Helper()
	u, err := r.Manager.Find(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	h, err := (&visit{p: r.Portal, r: httptest.NewRequest("POST", "/", nil), user: u, person: person{login: name}}).holder(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// parts are the members of an answer's response.
func parts(t *testing.T, answer string) map[string]string {
	t.Helper()
	var parsed struct{ Response map[string]string }
	if err := json.Unmarshal([]byte(answer), &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed.Response
}

// with is a response with another member.
func with(response map[string]string, name string, raw []byte) map[string]any {
	changed := map[string]any{}
	for name, value := range response {
		changed[name] = value
	}
	changed[name] = b64.EncodeToString(raw)
	return changed
}

// TestPasskeyBits: of a proof that is right no bit can be another, and nothing can be missing.
func TestPasskeyBits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.passkeyOf("alice", "phone")
	h := r.holderOf("alice")
	asked, data, err := r.party.BeginLogin(h)
	if err != nil {
		t.Fatal(err)
	}
	var o options
	o.PublicKey.Challenge = asked.Response.Challenge.String()
	right := parts(t, a.get(o))
	accepted := func(name string, raw []byte) bool {
		parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(a.answer(with(right, name, raw))))
		if err != nil {
			return false
		}
		_, err = r.party.ValidateLogin(h, *data, parsed)
		return err == nil
	}
	for name, text := range right {
		raw, err := b64.DecodeString(text)
		if err != nil || len(raw) == 0 || !accepted(name, raw) {
			t.Fatalf("%s: as it should be: %v", name, err)
		}
		for bit := range len(raw) * 8 {
			raw[bit/8] ^= 1 << (bit % 8)
			if accepted(name, raw) {
				t.Errorf("%s: bit %d", name, bit)
			}
			raw[bit/8] ^= 1 << (bit % 8)
		}
		for n := range raw {
			if accepted(name, raw[:n]) && !(name == "userHandle" && n == 0) { // an authenticator may leave that out
				t.Errorf("%s: cut to %d", name, n)
			}
		}
	}
}

// TestPasskeyEnrolBits: whatever is made of an enrolment, nothing panics. Some of it is no matter, such as the maker's mark.
func TestPasskeyEnrolBits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, _ := r.passkeyOf("alice", "phone")
	h := r.holderOf("alice")
	asked, data, err := r.party.BeginRegistration(h)
	if err != nil {
		t.Fatal(err)
	}
	var o options
	o.PublicKey.Challenge = asked.Response.Challenge.String()
	right := parts(t, a.create(o))
	try := func(raw []byte) bool {
		parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(a.answer(with(right, "attestationObject", raw))))
		if err != nil {
			return false
		}
		_, err = r.party.CreateCredential(h, *data, parsed)
		return err == nil
	}
	raw, err := b64.DecodeString(right["attestationObject"])
	if err != nil || !try(raw) {
		t.Fatalf("as it should be: %v", err)
	}
	for i, was := range raw {
		for _, value := range []byte{0, 0x1b, 0x3b, 0x5b, 0x5f, 0x7f, 0x9b, 0x9f, 0xbb, 0xbf, 0xdb, 0xf6, 0xff, was + 1, was ^ 0x20, was ^ 0x80} {
			raw[i] = value
			try(raw)
		}
		raw[i] = was
		if try(raw[:i]) {
			t.Errorf("cut to %d", i)
		}
	}
}
