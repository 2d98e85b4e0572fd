package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"appbind/auth"
)

// Wrong codes of one user, at all instances together. The second bound is for who has a main password and all the time there
// is: five in five minutes are 1440 a day, of which one in 250 days would be right.
const (
	maxTries    = 5
	tryWindow   = 5 * time.Minute
	maxTriesDay = 50
	tryDay      = 24 * time.Hour
)

// How a second factor was proved.
const (
	methodTOTP     = "totp"
	methodPasskey  = "passkey"
	methodRecovery = "recovery code"
	methodEnrol    = "enrolment code"
)

type factorData struct {
	Confirm  bool // a signed-in user proves it again
	Next     string
	Passkeys bool   // there are
	TOTP     bool   // there is an authenticator app
	OpenID   string // the provider's name; "": it cannot help here
	There    string // the way to it
	Error    string
}

// Action is where the forms go.
func (d factorData) Action() string {
	if d.Confirm {
		return "/confirm"
	}
	return "/second-factor"
}

func (v *visit) factorData(key string) (factorData, error) {
	h, err := v.holder(v.r.Context())
	if err != nil {
		return factorData{}, err
	}
	d := factorData{Confirm: v.is(stageFull), Next: local(v.r.FormValue("next"), "/passwords"), Passkeys: len(h.keys) > 0, TOTP: len(v.totp()) > 0}
	if key != "" {
		d.Error = v.l.T(key)
	}
	if o := &v.p.cfg.OpenID; o.Factors() && (d.Confirm || v.session.subject != "") {
		d.OpenID, d.There = o.Name(), "/openid/start?again=yes"
		if d.Confirm {
			d.There = "/openid/confirm?next=" + url.QueryEscape(d.Next)
		}
	}
	return d, nil
}

func (v *visit) factorPage() error { return v.factorAgain(http.StatusOK, "") }

func (v *visit) factorAgain(code int, key string) error {
	d, err := v.factorData(key)
	if err != nil {
		return err
	}
	title := "factor.title"
	if d.Confirm {
		title = "confirm.title"
	}
	v.render(code, "factor", v.l.T(title), d)
	return nil
}

// Errors of proving a factor.
var (
	errWrong   = errors.New("wrong code")
	errTooMany = errors.New("too many wrong codes")
)

// factor takes the answer of a passkey, or a code: of an authenticator app, a recovery code, or while signing in an enrolment code.
func (v *visit) factor() error {
	wrong := "factor.wrong"
	proof := func(ctx context.Context) (string, error) {
		return v.proveCode(ctx, bareCode(v.r.PostFormValue("code")))
	}
	if answer := v.r.PostFormValue("passkey"); answer != "" {
		wrong = "passkey.wrong"
		proof = func(ctx context.Context) (string, error) { return v.provePasskey(ctx, answer) }
	}
	method, err := v.prove(v.r.Context(), proof)
	switch {
	case errors.Is(err, errCopied):
		return v.factorAgain(http.StatusUnauthorized, "passkey.copied")
	case errors.Is(err, errTooMany):
		return v.factorAgain(http.StatusTooManyRequests, "factor.toomany")
	case errors.Is(err, errWrong):
		return v.factorAgain(http.StatusUnauthorized, wrong)
	case err != nil:
		return err
	}
	return v.passed(method)
}

// passed goes on after a factor was proved.
func (v *visit) passed(method string) error {
	ctx := v.r.Context()
	v.p.audit(ctx, v.event(didProve, method))
	switch {
	case method == methodEnrol:
		if err := v.enter(stageEnrol, method, v.user.Key, v.user.DN); err != nil {
			return err
		}
		v.redirect("/factors/add")
		return nil
	case v.is(stageFull):
		if err := v.p.Store.proved(ctx, v.session.id, method, v.p.Now()); err != nil {
			return err
		}
	default:
		if err := v.enter(stageFull, method, v.user.Key, v.user.DN); err != nil {
			return err
		}
	}
	if method == methodRecovery {
		v.tell("mail.recovery.subject", "mail.recovery.text")
	}
	v.redirect(local(v.r.PostFormValue("next"), "/passwords"))
	return nil
}

// prove has a factor of the session's user proved. Each try is counted before the proof is looked at, so that a hundred at
// one time are not a hundred guesses; what was right is not counted. Errors: errWrong, errTooMany, others.
func (v *visit) prove(ctx context.Context, proof func(context.Context) (string, error)) (method string, err error) {
	tries, day := "factor:"+v.user.Key, "factor-day:"+v.user.Key
	allowed, err := v.p.Store.try(ctx, tries, maxTries, tryWindow, v.p.Now())
	if err == nil && allowed {
		allowed, err = v.p.Store.try(ctx, day, maxTriesDay, tryDay, v.p.Now())
	}
	if err != nil {
		return "", err
	}
	if !allowed {
		return "", errTooMany
	}
	method, err = proof(ctx)
	if err == nil || errors.Is(err, auth.ErrCodeUsed) {
		if back := errors.Join(v.p.Store.giveBack(ctx, tries), v.p.Store.giveBack(ctx, day)); back != nil {
			return "", back
		}
	}
	if errors.Is(err, auth.ErrCodeUsed) {
		err = errWrong
	}
	return method, err
}

// proveCode uses up a code, of an app or from paper.
func (v *visit) proveCode(ctx context.Context, bare string) (string, error) {
	if isTOTP(bare) {
		return v.proveTOTP(ctx, bare)
	}
	return v.provePaper(ctx, bare)
}

// proveTOTP uses up a code of an authenticator app: in this process, where binds ask too, and in the store, for all instances.
func (v *visit) proveTOTP(ctx context.Context, code string) (string, error) {
	value, step, err := v.p.Verifier.SpendCode(v.user.Key, v.totp(), code)
	switch {
	case errors.Is(err, auth.ErrCodeThrottled):
		return "", errTooMany
	case errors.Is(err, auth.ErrCodeWrong):
		return "", errWrong
	case err != nil:
		return "", err
	}
	first, err := v.p.Store.spend(ctx, digest("totp\x00"+v.user.Key+"\x00"+value.Raw, strconv.FormatInt(step, 10)), v.p.Now())
	if err == nil && !first {
		err = auth.ErrCodeUsed
	}
	return methodTOTP, err
}

// provePaper uses up a recovery code or, while signing in, an enrolment code.
func (v *visit) provePaper(ctx context.Context, bare string) (string, error) {
	if len(bare) != codeLength {
		return "", errWrong
	}
	kinds := []string{codeRecovery}
	if v.is(stagePassword) {
		kinds = append(kinds, codeEnrol)
	}
	for _, kind := range kinds {
		fits, err := v.p.Store.useCode(ctx, v.user.Key, kind, bare, v.p.Now())
		switch {
		case err != nil:
			return "", err
		case fits && kind == codeEnrol:
			return methodEnrol, nil
		case fits:
			return methodRecovery, nil
		}
	}
	return "", errWrong
}

// tell sends the user a mail about what happened to the account.
func (v *visit) tell(subject, text string, args ...any) {
	if v.person.mail != "" {
		v.p.mail(v.person.mail, v.l, subject, text, args...)
	}
}

// mail hands a mail over.
func (p *Portal) mail(to string, l *locale, subject, text string, args ...any) {
	if p.Mail != nil {
		p.Mail(to, l.tag, l.T(subject, p.site), l.T(text, args...)+"\n\n"+l.T("mail.footer", p.cfg.URL))
	}
}
