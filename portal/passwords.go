package portal

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"appbind/history"
	"appbind/manage"
	"appbind/secrets"
)

// services are those that a new app password can be limited to.
var services = []string{"imap", "pop3", "smtp", "sieve"}

// passwordView is one app password as a page shows it.
type passwordView struct {
	ID, Label        string
	Created, Expires time.Time
	LastUsed         time.Time
	From             string // address of the last use; ""
	By               string // service of the last use; ""
	Services         []string
	Networks         []string
	Expired          bool
	Unusable         bool
}

// views are the app passwords of a set, the newest first.
func (p *Portal) views(r *http.Request, u *manage.User) []passwordView {
	known := p.lastUses(r, u.Key)
	var list []passwordView
	for _, v := range u.Set.Values {
		if v.Kind != secrets.App {
			continue
		}
		one := passwordView{ID: manage.Handle(v), Label: v.Label, Created: v.Created, Expires: v.Expires, Services: v.Services, Unusable: v.Err != nil}
		one.Expired = !v.Expires.IsZero() && !p.Now().Before(v.Expires)
		for _, n := range v.Networks {
			one.Networks = append(one.Networks, n.String())
		}
		if use, found := known[useKey(v.ID, v.Label)]; found {
			one.LastUsed, one.By = use.LastUsed, use.Service
			if use.Addr.IsValid() {
				one.From = use.Addr.String()
			}
		}
		list = append(list, one)
	}
	slices.SortStableFunc(list, func(a, b passwordView) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Label, b.Label)
	})
	return list
}

// useKey is what the history tells app passwords apart by.
func useKey(id, label string) string {
	if id != "" {
		return "i" + id
	}
	return "l" + label
}

// lastUses is what the history knows of a user's app passwords. The pages do without it where it cannot be read.
func (p *Portal) lastUses(r *http.Request, entry string) map[string]history.Password {
	known := map[string]history.Password{}
	s, err := p.History(r.Context())
	if err != nil {
		p.Log.Warn("portal: the history cannot be read", "err", err)
		return known
	}
	defer s.Close()
	list, err := s.Passwords(r.Context(), entry)
	if err != nil {
		p.Log.Warn("portal: the history cannot be read", "err", err)
	}
	for _, one := range list {
		if one.Kind == history.App {
			known[useKey(one.ID, one.Label)] = one
		}
	}
	return known
}

type listData struct {
	Passwords []passwordView
	Room      bool // for one more
	Max       int
	Recovery  int
}

func (v *visit) list() error {
	left, err := v.p.Store.countCodes(v.r.Context(), v.user.Key, codeRecovery)
	if err != nil {
		return err
	}
	most := v.p.Manager.Rules().MaxPerUser
	d := listData{Passwords: v.p.views(v.r, v.user), Room: v.user.Set.Live(v.p.Now()) < most, Max: most, Recovery: left}
	v.render(http.StatusOK, "passwords", v.l.T("passwords.title"), d)
	return nil
}

type newData struct {
	Services          []string
	Expires, Min, Max string
	MaxDays           int
	Label             string
	Error             string
}

const formDate = "2006-01-02"

// newData are the bounds of a form: an app password is good to the end of a day, of UTC.
func (v *visit) newData() newData {
	now, r := v.p.Now().UTC(), v.p.Manager.Rules()
	last := func(d time.Duration) string { return now.Add(d).Add(-24 * time.Hour).Format(formDate) }
	return newData{Services: services, Expires: last(max(r.DefaultLifetime, 48*time.Hour)), Min: now.Format(formDate),
		Max: now.Add(r.MaxLifetime).Format(formDate), MaxDays: int(r.MaxLifetime / (24 * time.Hour))}
}

func (v *visit) newPage() error {
	v.render(http.StatusOK, "new", v.l.T("new.title"), v.newData())
	return nil
}

// expiry reads the day of a form: its end, or the latest moment that is allowed. The zero time: none was given.
func (v *visit) expiry() (time.Time, error) {
	text := v.r.PostFormValue("expires")
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.ParseInLocation(formDate, text, time.UTC)
	if err != nil {
		return time.Time{}, &manage.Violation{Reason: v.l.T("new.date")}
	}
	end, latest := day.Add(24*time.Hour-time.Second), v.p.Now().Add(v.p.Manager.Rules().MaxLifetime)
	if end.After(latest) && !day.After(latest) {
		end = latest
	}
	return end, nil
}

// scope reads the services and networks of a form. kept are services that may stay though pages do not offer them.
func (v *visit) scope(kept ...string) (names []string, nets []netip.Prefix, err error) {
	for _, s := range v.r.PostForm["service"] {
		if !slices.Contains(services, s) && !slices.Contains(kept, s) {
			return nil, nil, &manage.Violation{Reason: v.l.T("new.service")}
		}
		names = append(names, s)
	}
	for _, text := range strings.FieldsFunc(v.r.PostFormValue("networks"), func(r rune) bool { return strings.ContainsRune(" ,;\r\n\t", r) }) {
		n, err := netip.ParsePrefix(text)
		if a, bad := netip.ParseAddr(text); bad == nil {
			n, err = netip.PrefixFrom(a.WithZone(""), a.BitLen()), nil
		}
		if err != nil {
			return nil, nil, &manage.Violation{Reason: v.l.T("new.network")}
		}
		nets = append(nets, n)
	}
	return names, nets, nil
}

type createdData struct {
	Password string
	QR       *qrCode
	Value    passwordView
	Login    string
	Servers  []mailServer
}

// create makes an app password. It stands in this one answer, or in the profile, and nowhere else.
func (v *visit) create() error {
	ctx := v.r.Context()
	if v.r.PostFormValue("password") != "" {
		// Nobody chooses one here, whatever a form says.
		return &manage.Violation{Reason: v.l.T("new.generated")}
	}
	asProfile := v.r.PostFormValue("as") == "profile"
	if _, _, ok := v.p.profileServers(); asProfile && !ok {
		// Asked before it is made: nobody would get to see it.
		return v.newAgain(&manage.Violation{Reason: v.l.T("new.noprofile")})
	}
	expires, err := v.expiry()
	if err != nil {
		return v.newAgain(err)
	}
	names, nets, err := v.scope()
	if err != nil {
		return v.newAgain(err)
	}
	q := manage.Request{Label: strings.TrimSpace(v.r.PostFormValue("label")), Expires: expires, Services: names, Networks: nets}
	made, err := v.operator().Create(ctx, v.user, q)
	if err != nil {
		return v.newAgain(err)
	}
	v.p.audit(ctx, v.event(didCreate, made.Value.Label))
	v.tell("mail.created.subject", "mail.created.text", made.Value.Label)
	if asProfile {
		return v.profile(made)
	}
	d := createdData{Password: made.Password, Login: v.person.login, Servers: v.p.servers(),
		Value: passwordView{Label: made.Value.Label, Expires: made.Value.Expires, Services: made.Value.Services}}
	if d.QR, err = newQR(made.Password); err != nil {
		return err
	}
	v.render(http.StatusCreated, "created", v.l.T("created.title"), d)
	return nil
}

// newAgain shows the form again where a rule is broken.
func (v *visit) newAgain(err error) error {
	var violation *manage.Violation
	if !errors.As(err, &violation) {
		return err
	}
	d := v.newData()
	d.Label, d.Error = clip(v.r.PostFormValue("label")), v.l.rule(violation)
	v.render(http.StatusUnprocessableEntity, "new", v.l.T("new.title"), d)
	return nil
}

// ref names an app password of the session's own user: an id of anybody else's is none.
func (v *visit) ref() manage.Ref { return manage.Ref{ID: v.r.PathValue("id")} }

type oneData struct {
	newData
	Password passwordView
	Uses     []history.Use
}

// one shows one app password and where it was used.
func (v *visit) one() error {
	value, err := v.user.Set.Find(v.ref())
	if err != nil {
		return err
	}
	d := oneData{newData: v.newData()}
	for _, one := range v.p.views(v.r, v.user) {
		if one.ID == manage.Handle(value) {
			d.Password = one
		}
	}
	s, err := v.p.History(v.r.Context())
	if err == nil {
		defer s.Close()
		f := history.Filter{Entry: v.user.Key, Kind: history.App, ID: value.ID, Limit: 100}
		if value.ID == "" {
			f.Label = value.Label
		}
		d.Uses, err = s.Uses(v.r.Context(), f)
	}
	if err != nil {
		v.p.Log.Warn("portal: the history cannot be read", "err", err)
	}
	v.render(http.StatusOK, "one", value.Label, d)
	return nil
}

func (v *visit) rename() error {
	label := strings.TrimSpace(v.r.PostFormValue("label"))
	if err := v.operator().Relabel(v.r.Context(), v.user.DN, v.ref(), label); err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didRename, label))
	return v.done("/passwords", "renamed")
}

func (v *visit) extend() error {
	expires, err := v.expiry()
	if err != nil {
		return err
	}
	if err := v.operator().Renew(v.r.Context(), v.user.DN, v.ref(), expires, false); err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didExtend, v.r.PathValue("id")))
	return v.done("/passwords", "extended")
}

func (v *visit) restrict() error {
	value, err := v.user.Set.Find(v.ref())
	if err != nil {
		return err
	}
	names, nets, err := v.scope(value.Services...)
	if err != nil {
		return err
	}
	if err := v.operator().Rescope(v.r.Context(), v.user.DN, v.ref(), names, nets); err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didRestrict, v.r.PathValue("id")))
	return v.done("/passwords", "restricted")
}

func (v *visit) revoke() error {
	gone, err := v.operator().Revoke(v.r.Context(), v.user.DN, v.ref())
	if err != nil {
		return err
	}
	v.p.audit(v.r.Context(), v.event(didRevoke, gone.Label))
	v.tell("mail.revoked.subject", "mail.revoked.text", gone.Label)
	return v.done("/passwords", "revoked")
}

// all is the choice of every app password.
func all(*secrets.Value) bool { return true }

func (v *visit) revokeAll() error {
	gone, err := v.operator().RevokeAll(v.r.Context(), v.user.DN, all)
	if err != nil {
		return err
	}
	for _, value := range gone {
		v.p.audit(v.r.Context(), v.event(didRevoke, value.Label))
	}
	if len(gone) > 0 {
		v.tell("mail.revokedall.subject", "mail.revokedall.text")
	}
	return v.done("/passwords", "revokedall")
}
