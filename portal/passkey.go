package portal

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"appbind/config"
)

// A passkey (Web Authentication level 3, W3C) is proved in two requests of one session. The first takes a challenge, which the store
// keeps; the second is an ordinary form with the authenticator's answer, which uses the challenge up whatever becomes of it. What
// is demanded beside the signature: the origin and the host of portal.url, that the authenticator has verified its user in this
// very answer, and a counter that has gone up.

// challengeTime is how long a challenge is good; browsers give up then, too.
const challengeTime = 5 * time.Minute

// The uses of a challenge; one for the one is nothing for the other.
const (
	ceremonyEnrol = "enrol"
	ceremonyProve = "prove"
)

// maxPasskeyName bounds the name of a passkey, in characters.
const maxPasskeyName = 100

// newParty is what passkeys are bound to: the host of portal.url, and its origin. Errors: the host is an address, or no
// domain name: then browsers know no passkeys for it.
func newParty(p *config.Portal, site string) (*webauthn.WebAuthn, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return nil, err
	}
	timeouts := webauthn.TimeoutConfig{Timeout: challengeTime, TimeoutUVD: challengeTime} // the store enforces it
	return webauthn.New(&webauthn.Config{
		RPID:                  u.Hostname(),
		RPDisplayName:         site,
		RPOrigins:             []string{browserOrigin(u)},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:      protocol.ResidentKeyRequirementPreferred,
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{Login: timeouts, Registration: timeouts},
		// Password managers say more than they were asked; none of it is read.
		ExtensionsUnsolicitedOutputPolicy: protocol.UnsolicitedOutputPolicyIgnore,
	})
}

// browserOrigin is an address as browsers say it: without the port that its scheme has anyway.
func browserOrigin(u *url.URL) string {
	if u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		return u.Scheme + "://" + u.Host[:strings.LastIndexByte(u.Host, ':')]
	}
	return u.Scheme + "://" + u.Host
}

// holder is a user as the library sees one.
type holder struct {
	v    *visit
	keys []passkey
}

// WebAuthnID is a user handle: by the entry's identity, and nothing that says who it is (14.6.1).
func (h *holder) WebAuthnID() []byte {
	sum := sha256.Sum256([]byte("passkey\x00" + h.v.user.Key))
	return sum[:]
}

// WebAuthnName is what an authenticator shows.
func (h *holder) WebAuthnName() string {
	if h.v.person.login == "" {
		return h.v.person.name
	}
	return h.v.person.login
}

// WebAuthnDisplayName is the name for people.
func (h *holder) WebAuthnDisplayName() string { return h.v.person.name }

// WebAuthnCredentials are the passkeys.
func (h *holder) WebAuthnCredentials() (list []webauthn.Credential) {
	for _, k := range h.keys {
		list = append(list, k.credential)
	}
	return list
}

// holder reads the passkeys of the session's user. Where there can be none, none are read.
func (v *visit) holder(ctx context.Context) (*holder, error) {
	h := &holder{v: v}
	if v.p.party == nil {
		return h, nil
	}
	var err error
	h.keys, err = v.p.Store.passkeys(ctx, v.user.Key, v.p.party.Config.RPID)
	return h, err
}

// begin stores a challenge and answers the script with what the browser is to be asked.
func (v *visit) begin(ceremony string, options any, data *webauthn.SessionData) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := v.p.Store.challenge(v.r.Context(), v.session.id, ceremony, string(text), v.p.Now().Add(challengeTime)); err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(v.w).Encode(options)
}

// begun takes the challenge of a ceremony. Errors: errWrong where there is none.
func (v *visit) begun(ctx context.Context, ceremony string) (*webauthn.SessionData, error) {
	text, err := v.p.Store.takeChallenge(ctx, v.session.id, ceremony, v.p.Now())
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, v.refused(errors.New("there is no challenge that it answers"))
	}
	data := &webauthn.SessionData{}
	return data, json.Unmarshal([]byte(text), data)
}

// refused notes why a passkey was; the browser learns no more than that it was.
func (v *visit) refused(err error) error {
	var detail *protocol.Error
	text := err.Error()
	if errors.As(err, &detail) {
		text = detail.Details + " " + detail.DevInfo
	}
	v.p.Log.Info("portal: passkey refused", "user", v.user.DN, "reason", clip(strings.ReplaceAll(text, "\n", " ")), "address", addrOf(v.r).String())
	return errWrong
}

// passkeyOptions begins a proof.
func (v *visit) passkeyOptions() error {
	h, err := v.holder(v.r.Context())
	if err != nil {
		return err
	}
	if len(h.keys) == 0 {
		v.message(http.StatusNotFound, "factors.none")
		return nil
	}
	options, data, err := v.p.party.BeginLogin(h)
	if err != nil {
		return err
	}
	return v.begin(ceremonyProve, options, data)
}

// errCopied says that an authenticator's counter went back: there are two of it, it seems (7.2, step 22).
var errCopied = fmt.Errorf("%w: its counter went back", errWrong)

// provePasskey holds an authenticator's answer against the session's challenge. Errors: errWrong, and with it errCopied; others.
func (v *visit) provePasskey(ctx context.Context, answer string) (string, error) {
	data, err := v.begun(ctx, ceremonyProve)
	if err != nil {
		return "", err
	}
	h, err := v.holder(ctx)
	if err != nil {
		return "", err
	}
	if v.p.party == nil {
		return "", errWrong
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return "", v.refused(err)
	}
	credential, err := v.p.party.ValidateLogin(h, *data, parsed)
	if err != nil {
		return "", v.refused(err)
	}
	// Of this answer: the credential's own flag is that of its enrolment.
	if !parsed.Response.AuthenticatorData.Flags.HasUserVerified() {
		return "", v.refused(errors.New("the authenticator did not verify its user"))
	}
	if credential.Authenticator.CloneWarning {
		v.p.audit(ctx, v.event(didRefuse, "passkey: its counter went back"))
		return "", errCopied
	}
	return methodPasskey, v.countPasskey(ctx, credential)
}

// countPasskey notes the use of a passkey, with the count of this answer. Errors: errWrong where another request has removed
// it meanwhile, or noted that count; others.
func (v *visit) countPasskey(ctx context.Context, credential *webauthn.Credential) error {
	used, err := v.p.Store.usedPasskey(ctx, v.user.Key, &passkey{credential: *credential}, v.p.Now())
	if err == nil && !used {
		err = v.refused(errors.New("it was removed or used meanwhile"))
	}
	return err
}

type passkeyData struct {
	Name  string // as it was typed
	Error string
}

// passkeyPage asks for the name of a new passkey.
func (v *visit) passkeyPage() error { return v.passkeyForm(http.StatusOK, "") }

func (v *visit) passkeyForm(code int, key string) error {
	if v.p.party == nil {
		v.message(http.StatusNotFound, "passkey.none")
		return nil
	}
	d := passkeyData{Name: clip(v.r.PostFormValue("name"))}
	if key != "" {
		d.Error = v.l.T(key)
	}
	v.render(code, "passkey", v.l.T("passkey.title"), d)
	return nil
}

// newPasskeyOptions begins an enrolment. An authenticator that has a passkey of the user makes no second one.
func (v *visit) newPasskeyOptions() error {
	h, err := v.holder(v.r.Context())
	if err != nil {
		return err
	}
	if v.p.party == nil {
		v.message(http.StatusNotFound, "passkey.none")
		return nil
	}
	options, data, err := v.p.party.BeginRegistration(h, webauthn.WithExclusions(webauthn.Credentials(h.WebAuthnCredentials()).CredentialDescriptors()))
	if err != nil {
		return err
	}
	return v.begin(ceremonyEnrol, options, data)
}

// enrolPasskey stores a new passkey.
func (v *visit) enrolPasskey() error {
	ctx := v.r.Context()
	name := strings.TrimSpace(clip(v.r.PostFormValue("name")))
	if name == "" || utf8.RuneCountInString(name) > maxPasskeyName {
		return v.passkeyForm(http.StatusUnprocessableEntity, "passkey.noname")
	}
	k, err := v.newPasskey(ctx, v.r.PostFormValue("passkey"))
	switch {
	case errors.Is(err, errWrong):
		return v.passkeyForm(http.StatusUnprocessableEntity, "passkey.failed")
	case errors.Is(err, errTooMany):
		v.message(http.StatusUnprocessableEntity, "factors.toomany")
		return nil
	case err != nil:
		return err
	}
	k.name, k.created = name, v.p.Now()
	stored, err := v.p.Store.addPasskey(ctx, v.user.Key, v.p.party.Config.RPID, k)
	switch {
	case err != nil:
		return err
	case !stored: // by 7.1, step 27, whoever's it is
		return v.passkeyForm(http.StatusUnprocessableEntity, "passkey.known")
	}
	return v.enrolled(methodPasskey)
}

// newPasskey holds an authenticator's answer against the session's challenge. Errors: errWrong, errTooMany, others.
func (v *visit) newPasskey(ctx context.Context, answer string) (*passkey, error) {
	data, err := v.begun(ctx, ceremonyEnrol)
	if err != nil {
		return nil, err
	}
	h, err := v.holder(ctx)
	switch {
	case err != nil:
		return nil, err
	case v.p.party == nil:
		return nil, errWrong
	case len(h.keys) >= maxFactors:
		return nil, errTooMany
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return nil, v.refused(err)
	}
	credential, err := v.p.party.CreateCredential(h, *data, parsed)
	if err != nil {
		return nil, v.refused(err)
	}
	if !credential.Flags.UserVerified {
		return nil, v.refused(errors.New("the authenticator did not verify its user"))
	}
	return &passkey{credential: *credential}, nil
}
