package portal

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"appbind/manage"
	"appbind/secrets"
)

// recoveryCodes is how many a user gets.
const recoveryCodes = 10

// maxFactors bounds the second factors of one kind.
const maxFactors = 5

type factorsData struct {
	Passkeys []passkeyView
	TOTP     []totpView
	Recovery int  // left
	Last     bool // there is no other
	LastTOTP bool // there is one authenticator app, which is what mail programs are asked a code of
}

type passkeyView struct {
	ID, Name      string
	Created, Used time.Time
}

type totpView struct {
	ID, Label string
}

// factors lists the user's second factors.
func (v *visit) factors() error {
	left, err := v.p.Store.countCodes(v.r.Context(), v.user.Key, codeRecovery)
	if err != nil {
		return err
	}
	h, err := v.holder(v.r.Context())
	if err != nil {
		return err
	}
	d := factorsData{Recovery: left}
	for _, k := range h.keys {
		d.Passkeys = append(d.Passkeys, passkeyView{v.derived("passkey\x00" + k.id()), k.name, k.created, k.used})
	}
	for _, value := range v.totp() {
		d.TOTP = append(d.TOTP, totpView{v.derived("totp\x00" + value.Raw), otpLabel(value)})
	}
	d.Last, d.LastTOTP = len(d.TOTP)+len(d.Passkeys) == 1, len(d.TOTP) == 1
	v.render(http.StatusOK, "factors", v.l.T("factors.title"), d)
	return nil
}

// otpLabel is the account of a second factor, which is what authenticator apps show.
func otpLabel(value *secrets.Value) string {
	u, err := url.Parse(value.Raw)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(u.Path, "/")
}

type addFactorData struct{ Passkeys bool }

func (v *visit) addFactorPage() error {
	v.render(http.StatusOK, "addfactor", v.l.T("add.title"), addFactorData{v.p.party != nil})
	return nil
}

type totpData struct {
	Secret, Proof string
	URL           string
	QR            *qrCode
	First         bool // the first factor: mail programs will need app passwords
	Error         string
}

// totpPage shows a new secret. It is stored nowhere until a code has shown that the app has it; the form carries it, with
// a proof that it is ours.
func (v *visit) totpPage() error {
	var random [20]byte         // 160 bits, RFC 4226 4 R6
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	return v.totpForm(http.StatusOK, base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(random[:]), "")
}

func (v *visit) totpForm(code int, secret, key string) error {
	d := totpData{Secret: secret, Proof: v.derived("secret\x00" + secret), URL: v.otpURL(secret), First: len(v.totp()) == 0}
	if key != "" {
		d.Error = v.l.T(key)
	}
	var err error
	if d.QR, err = newQR(d.URL); err != nil {
		return err
	}
	v.render(code, "totp", v.l.T("totp.title"), d)
	return nil
}

// otpURL is the value that is stored, and what the app reads. Neither issuer nor account may have a colon.
func (v *visit) otpURL(secret string) string {
	issuer := strings.ReplaceAll(v.p.site, ":", " ")
	account := strings.ReplaceAll(v.person.login, ":", " ")
	// Apps take a plus for a plus, servers for a space: it stands for neither.
	escaped := strings.ReplaceAll(url.QueryEscape(issuer), "+", "%20")
	return "otpauth://totp/" + url.PathEscape(issuer+":"+account) + "?secret=" + secret + "&issuer=" + escaped
}

// enrolTOTP stores a second factor in the user's entry after a code of it was right.
func (v *visit) enrolTOTP() error {
	ctx := v.r.Context()
	secret := v.r.PostFormValue("secret")
	if !equal(v.r.PostFormValue("proof"), v.derived("secret\x00"+secret)) {
		v.message(http.StatusForbidden, "error.token")
		return nil
	}
	if len(v.totp()) >= maxFactors {
		v.message(http.StatusUnprocessableEntity, "factors.toomany")
		return nil
	}
	value := secrets.Parse([]byte(v.otpURL(secret)))
	if value.Err != nil {
		return value.Err
	}
	if _, ok := value.VerifyTOTP(bareCode(v.r.PostFormValue("code")), v.p.Now()); !ok {
		return v.totpForm(http.StatusUnprocessableEntity, secret, "totp.wrong")
	}
	if _, err := v.operator().Add(ctx, v.user.DN, [][]byte{[]byte(value.Raw)}); err != nil {
		return err
	}
	v.user.Set.Values = append(v.user.Set.Values, value)
	// The code that showed it is used up.
	if _, err := v.proveTOTP(ctx, bareCode(v.r.PostFormValue("code"))); err != nil && !errors.Is(err, errWrong) && !errors.Is(err, errTooMany) {
		v.p.Log.Warn("portal: the first code of a new factor was not used up", "user", v.user.DN, "err", err)
	}
	return v.enrolled(methodTOTP)
}

// enrolled is what follows a new factor: the session counts as proved by it, other sessions end, and there are recovery codes.
func (v *visit) enrolled(method string) error {
	ctx := v.r.Context()
	v.p.audit(ctx, v.event(didEnrol, method))
	v.tell("mail.enrolled.subject", "mail.enrolled.text")
	if err := v.p.Store.dropCodes(ctx, v.user.Key, codeEnrol); err != nil {
		return err
	}
	if err := v.enter(stageFull, method, v.user.Key, v.user.DN); err != nil {
		return err
	}
	if err := v.p.Store.endOthers(ctx, v.user.Key, v.session.id); err != nil {
		return err
	}
	left, err := v.p.Store.countCodes(ctx, v.user.Key, codeRecovery)
	if err != nil {
		return err
	}
	if left > 0 {
		return v.done("/factors", "enrolled")
	}
	return v.recovery()
}

type recoveryData struct{ Codes []string }

// recovery makes new recovery codes and shows them once.
func (v *visit) recovery() error {
	var shown, bare []string
	for range recoveryCodes {
		s, b := NewCode()
		shown, bare = append(shown, s), append(bare, b)
	}
	if err := v.p.Store.addCodes(v.r.Context(), v.user.Key, codeRecovery, bare, time.Time{}); err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didRenew, ""))
	v.render(http.StatusOK, "recovery", v.l.T("recovery.title"), recoveryData{shown})
	return nil
}

// newRecovery replaces the recovery codes.
func (v *visit) newRecovery() error {
	v.tell("mail.newrecovery.subject", "mail.newrecovery.text")
	return v.recovery()
}

// removeFactor takes a second factor away, but not the last one.
func (v *visit) removeFactor() error {
	ctx := v.r.Context()
	method, err := v.takeAway(ctx, v.r.PostFormValue("id"))
	switch {
	case errors.Is(err, manage.ErrLastFactor):
		v.message(http.StatusUnprocessableEntity, "factors.last")
		return nil
	case errors.Is(err, errNoFactor):
		v.message(http.StatusNotFound, "factors.none")
		return nil
	case err != nil:
		return err
	}
	v.p.audit(ctx, v.event(didRemove, method))
	v.tell("mail.removed.subject", "mail.removed.text")
	if err := v.p.Store.endOthers(ctx, v.user.Key, v.session.id); err != nil {
		return err
	}
	return v.done("/factors", "removed")
}

// errNoFactor says that there is no such one.
var errNoFactor = errors.New("no such second factor")

// takeAway removes the factor that a page has called by an ID, and is of which kind it was. What another request takes away at the
// same time, in the directory or in the store, shows afterwards: where nothing is left, the factor is put back.
// Errors: errNoFactor, manage.ErrLastFactor, others.
func (v *visit) takeAway(ctx context.Context, id string) (string, error) {
	h, err := v.holder(ctx)
	if err != nil {
		return "", err
	}
	for i, k := range h.keys {
		if equal(v.derived("passkey\x00"+k.id()), id) {
			return methodPasskey, v.dropPasskey(ctx, h, i)
		}
	}
	raw := ""
	n, err := v.operator().RemoveTOTP(ctx, v.user.DN, len(h.keys) > 0, func(value *secrets.Value) bool {
		fits := equal(v.derived("totp\x00"+value.Raw), id)
		if fits {
			raw = value.Raw
		}
		return fits
	})
	switch {
	case err != nil:
		return "", err
	case n == 0:
		return "", errNoFactor
	case v.factorsLeft(ctx):
		return methodTOTP, nil
	}
	if _, err := v.operator().Add(ctx, v.user.DN, [][]byte{[]byte(raw)}); err != nil {
		return "", err
	}
	return "", manage.ErrLastFactor
}

// dropPasskey removes one of a user's.
func (v *visit) dropPasskey(ctx context.Context, h *holder, i int) error {
	if len(v.totp())+len(h.keys) < 2 {
		return manage.ErrLastFactor
	}
	gone, err := v.p.Store.dropPasskey(ctx, v.user.Key, h.keys[i].id())
	switch {
	case err != nil:
		return err
	case !gone:
		return errNoFactor
	case v.factorsLeft(ctx):
		return nil
	}
	if _, err := v.p.Store.addPasskey(ctx, v.user.Key, v.p.party.Config.RPID, &h.keys[i]); err != nil {
		return err
	}
	return manage.ErrLastFactor
}

// factorsLeft reports whether the user has a second factor now; also where that cannot be found out.
func (v *visit) factorsLeft(ctx context.Context) bool {
	u, about, err := v.p.who(ctx, v.user.DN)
	if err != nil {
		return true
	}
	now := *v
	now.user, now.person = u, about
	h, err := now.holder(ctx)
	return err != nil || len(now.totp())+len(h.keys) > 0
}
