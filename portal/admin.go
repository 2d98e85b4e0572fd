package portal

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"appbind/auth"
	"appbind/manage"
	"appbind/secrets"
)

// auditRows is how many events a page shows.
const auditRows = 200

type adminData struct {
	Name  string
	Error string
}

// adminPage asks for a user.
func (v *visit) adminPage() error {
	v.render(http.StatusOK, "admin", v.l.T("admin.title"), adminData{})
	return nil
}

type adminUserData struct {
	DN        string
	Eligible  bool
	Passwords []passwordView
	TOTP      int
	Passkeys  int
	Recovery  int
	Linked    int // accounts at the provider
	Events    []Event
	Code      string // a new enrolment code, shown once
	Until     time.Time
}

// adminUser shows a user whom an admin names.
func (v *visit) adminUser() error {
	name := strings.TrimSpace(v.r.URL.Query().Get("name"))
	u, err := v.p.Manager.Find(v.r.Context(), name)
	switch {
	case errors.Is(err, auth.ErrNotFound), errors.Is(err, auth.ErrAmbiguous), errors.Is(err, manage.ErrNotUser):
		v.render(http.StatusNotFound, "admin", v.l.T("admin.title"), adminData{clip(name), v.l.T("error.nouser")})
		return nil
	case err != nil:
		return err
	}
	return v.showUser(u, "", time.Time{})
}

func (v *visit) showUser(u *manage.User, code string, until time.Time) error {
	ctx := v.r.Context()
	d := adminUserData{DN: u.DN, Eligible: u.Eligible, Passwords: v.p.views(v.r, u), Code: code, Until: until}
	for _, value := range u.Set.Values {
		if value.Kind == secrets.TOTP {
			d.TOTP++
		}
	}
	var err error
	if v.p.party != nil {
		keys, err := v.p.Store.passkeys(ctx, u.Key, v.p.party.Config.RPID)
		if err != nil {
			return err
		}
		d.Passkeys = len(keys)
	}
	if d.Recovery, err = v.p.Store.countCodes(ctx, u.Key, codeRecovery); err != nil {
		return err
	}
	if d.Linked, err = v.p.Store.pins(ctx, u.Key, u.DN); err != nil {
		return err
	}
	if d.Events, err = v.p.Store.events(ctx, u.Key, auditRows); err != nil {
		return err
	}
	v.render(http.StatusOK, "adminuser", u.DN, d)
	return nil
}

// named finds the user of an admin's form.
func (v *visit) named() (*manage.User, error) {
	dn := v.r.PostFormValue("user")
	if dn == "" {
		return nil, auth.ErrNotFound
	}
	return v.p.Manager.Find(v.r.Context(), dn)
}

// about is an event of a user that the session's user, an admin, did.
func (v *visit) adminEvent(u *manage.User, action, detail string) Event {
	e := v.event(action, detail)
	e.Entry, e.DN = u.Key, u.DN
	return e
}

// adminRevoke revokes one app password of a user, or all.
func (v *visit) adminRevoke() error {
	ctx := v.r.Context()
	u, err := v.named()
	if err != nil {
		return err
	}
	which := all
	if id := v.r.PostFormValue("id"); id != "" {
		value, err := u.Set.Find(manage.Ref{ID: id})
		if err != nil {
			return err
		}
		which = func(other *secrets.Value) bool { return other.Raw == value.Raw }
	} else if v.r.PostFormValue("all") != "yes" {
		return manage.ErrNoSuchPassword
	}
	gone, err := v.operator().RevokeAll(ctx, u.DN, which)
	if err != nil {
		return err
	}
	for _, value := range gone {
		v.p.audit(ctx, v.adminEvent(u, didRevoke, value.Label))
	}
	v.inform(u, len(gone), "mail.adminrevoked.subject", "mail.adminrevoked.text", labels(gone))
	if u, err = v.p.Manager.Find(ctx, u.DN); err != nil {
		return err
	}
	return v.showUser(u, "", time.Time{})
}

// adminEnrolCode issues a code with which a user enrols a second factor. It is shown once.
func (v *visit) adminEnrolCode() error {
	u, err := v.named()
	if err != nil {
		return err
	}
	if !u.Eligible {
		return manage.ErrNotEligible
	}
	shown, until, err := IssueEnrolCode(v.r.Context(), v.p.Store, v.p.cfg, u, v.p.Now())
	if err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.adminEvent(u, didIssue, ""))
	v.inform(u, 1, "mail.enrolcode.subject", "mail.enrolcode.text")
	return v.showUser(u, shown, until)
}

// labels names app passwords, one a line.
func labels(list []*secrets.Value) string {
	var b strings.Builder
	for _, v := range list {
		b.WriteString("\n- " + clip(v.Label))
	}
	return b.String()
}

// inform mails a user what an admin has done to n of his things, in his own language. It happened; that he cannot be told changes nothing.
func (v *visit) inform(u *manage.User, n int, subject, text string, args ...any) {
	if v.p.Mail == nil || n == 0 {
		return
	}
	to, l, err := v.p.address(v.r.Context(), u.DN)
	if err != nil || to == "" {
		v.p.Log.Warn("portal: a user was not told", "user", u.DN, "err", err)
		return
	}
	v.p.mail(to, l, subject, text, args...)
}

type auditData struct{ Events []Event }

// adminAudit shows what was done lately.
func (v *visit) adminAudit() error {
	list, err := v.p.Store.events(v.r.Context(), "", auditRows)
	if err != nil {
		return err
	}
	v.render(http.StatusOK, "audit", v.l.T("audit.title"), auditData{list})
	return nil
}

// adminUnlink unties a user from accounts at the provider: the next one whose claim names the user is taken for the user's.
func (v *visit) adminUnlink() error {
	ctx := v.r.Context()
	u, err := v.named()
	if err != nil {
		return err
	}
	if err := v.p.Store.unpin(ctx, u.Key, u.DN); err != nil {
		return err
	}
	v.p.audit(ctx, v.adminEvent(u, didUntie, ""))
	return v.showUser(u, "", time.Time{})
}
