package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// request is one bind to send.
type request struct {
	user     int
	form     int
	share    string // what it is a part of, for the report: the checker does not look at it
	password string
}

// share is a part of the load: of every sum of weights, so many.
type share struct {
	name   string
	weight int
	// draw makes a request for one of the worker's users; ok is false where that user has nothing of the kind.
	draw func(d *dealer, u *user) (r request, ok bool)
	kind kind // of the user
}

// shares are the parts of the load.
var shares = []share{
	{"right app password", 300, (*dealer).rightApp, ordinary},
	{"right main password", 150, (*dealer).rightMain, ordinary},
	{"revoked app password", 100, (*dealer).revoked, ordinary},
	{"live selector, wrong secret", 80, (*dealer).wrongSecret, ordinary},
	{"another user's app password", 50, (*dealer).othersApp, ordinary},
	{"another user's main password", 40, (*dealer).othersMain, ordinary},
	{"stored value verbatim", 50, (*dealer).verbatim, ordinary},
	{"stale main password", 70, (*dealer).stale, ordinary},
	{"mistyped app password", 15, (*dealer).mistyped, ordinary},
	{"app password retyped", 25, (*dealer).retyped, ordinary},
	{"barred app password", 10, (*dealer).barred, ordinary},
	{"empty password", 5, (*dealer).empty, ordinary},
	{"unusual spelling", 50, (*dealer).spelled, ordinary},
	{"name of nobody", 15, (*dealer).nobody, ordinary},
	{"one-time code", 20, (*dealer).oneTimeCode, enrolled},
	{"disabled user", 20, (*dealer).any, disabled},
	{"several connections at once", 20, (*dealer).harmless, shared},
	{"guesses at a main password", 20, (*dealer).guess, attacked},
	{"changed during the run", 40, (*dealer).changed, changing},
}

// dealer draws the requests of one connection.
type dealer struct {
	*rand.Rand
	plan  *plan
	users map[kind][]int // those that this connection binds as; shared ones belong to all
	total int            // the sum of the weights
	now   func() time.Time
}

// newDealer gives a connection its users: a user's binds come in one order, except those of shared ones.
func newDealer(p *plan, conn, conns int, now func() time.Time) *dealer {
	d := &dealer{Rand: source(p.Seed, "requests", conn), plan: p, users: map[kind][]int{}, now: now}
	for i := range p.Users {
		if k := p.Users[i].Kind; k == shared || i%conns == conn {
			d.users[k] = append(d.users[k], i)
		}
	}
	for i := range shares {
		d.total += shares[i].weight
	}
	return d
}

// next draws a request.
func (d *dealer) next() request {
	for {
		n := d.IntN(d.total)
		i := 0
		for ; n >= shares[i].weight; i++ {
			n -= shares[i].weight
		}
		list := d.users[shares[i].kind]
		if len(list) == 0 {
			continue
		}
		u := &d.plan.Users[list[d.IntN(len(list))]]
		if r, ok := shares[i].draw(d, u); ok {
			r.user, r.share = u.Index, shares[i].name
			return r
		}
	}
}

// app draws one of the user's app passwords; nil: there is none of the kind.
func (d *dealer) app(u *user, fits func(a *app) bool) *app {
	if len(u.Apps) == 0 {
		return nil
	}
	from := d.IntN(len(u.Apps))
	for i := range u.Apps {
		if a := &u.Apps[(from+i)%len(u.Apps)]; fits(a) {
			return a
		}
	}
	return nil
}

func works(a *app) bool    { return !a.Barred }
func selected(a *app) bool { return a.Selected }
func isBarred(a *app) bool { return a.Barred }

func (d *dealer) rightApp(u *user) (request, bool) {
	a := d.app(u, works)
	if a == nil {
		return request{}, false
	}
	return request{password: a.Password}, true
}

func (d *dealer) rightMain(u *user) (request, bool) { return request{password: u.Main}, true }

func (d *dealer) revoked(u *user) (request, bool) {
	return request{password: u.Revoked[d.IntN(len(u.Revoked))]}, true
}

func (d *dealer) wrongSecret(u *user) (request, bool) {
	a := d.app(u, selected)
	if a == nil {
		return request{}, false
	}
	return request{password: withSelector(d.Rand, a.Password[:4])}, true
}

// other is the user whose passwords are tried: the same one each time, so that it is one failure.
func (d *dealer) other(u *user) *user { return &d.plan.Users[(u.Index+1)%len(d.plan.Users)] }

func (d *dealer) othersApp(u *user) (request, bool) {
	for _, a := range d.other(u).Apps { // the first: each one is a guess at values without a selector, and those are limited
		if a.Selected {
			return request{password: a.Password}, true
		}
	}
	return request{}, false
}

func (d *dealer) othersMain(u *user) (request, bool) { return request{password: d.other(u).Main}, true }

func (d *dealer) stale(u *user) (request, bool) { return request{password: u.Stale}, true }

func (d *dealer) verbatim(u *user) (request, bool) {
	a := d.app(u, func(*app) bool { return true })
	if a == nil {
		return request{}, false
	}
	return request{password: a.Value}, true
}

// mistyped changes one character of the check.
func (d *dealer) mistyped(u *user) (request, bool) {
	a := d.app(u, selected)
	if a == nil {
		return request{}, false
	}
	last := a.Password[len(a.Password)-1]
	wrong := alphabet[(strings.IndexByte(alphabet, last)+1+d.IntN(31))%32]
	return request{password: a.Password[:len(a.Password)-1] + string(wrong)}, true
}

// retyped writes an app password as people do.
func (d *dealer) retyped(u *user) (request, bool) {
	a := d.app(u, func(a *app) bool { return a.Selected && !a.Barred })
	if a == nil {
		return request{}, false
	}
	text := a.Password
	switch d.IntN(4) {
	case 0:
		text = strings.ToUpper(text)
	case 1:
		text = strings.ReplaceAll(text, "-", "")
	case 2:
		text = strings.ReplaceAll(text, "-", " ")
	case 3:
		text = strings.NewReplacer("0", "o", "1", "l").Replace(text)
	}
	return request{password: text}, true
}

func (d *dealer) barred(u *user) (request, bool) {
	a := d.app(u, isBarred)
	if a == nil {
		return request{}, false
	}
	return request{password: a.Password}, true
}

func (d *dealer) empty(*user) (request, bool) { return request{}, true }

// spelled is a right password under another spelling.
func (d *dealer) spelled(u *user) (request, bool) { return d.named(u, true) }

// nobody is a right password under a name that is no user's.
func (d *dealer) nobody(u *user) (request, bool) { return d.named(u, false) }

func (d *dealer) named(u *user, same bool) (request, bool) {
	r, ok := d.harmless(u)
	for r.form == plainForm || forms[r.form].same != same {
		r.form = d.IntN(len(forms))
	}
	return r, ok
}

// any is whatever the user has.
func (d *dealer) any(u *user) (request, bool) {
	switch d.IntN(4) {
	case 0:
		return d.verbatim(u)
	case 1:
		return d.rightApp(u)
	case 2:
		return d.named(u, true)
	}
	return d.rightMain(u)
}

// harmless never fails upstream.
func (d *dealer) harmless(u *user) (request, bool) {
	switch d.IntN(8) {
	case 0, 1, 2:
		return d.rightMain(u)
	case 3:
		return d.revoked(u)
	case 4:
		return d.wrongSecret(u)
	}
	return d.rightApp(u)
}

// guess is mostly a main password that was never tried before.
func (d *dealer) guess(u *user) (request, bool) {
	switch d.IntN(8) {
	case 0:
		return d.rightMain(u)
	case 1:
		return d.rightApp(u)
	}
	return request{password: fmt.Sprintf("guess %d", d.Uint64())}, true
}

// changed is a password that counts before the change, or after it.
func (d *dealer) changed(u *user) (request, bool) {
	switch u.Change {
	case reset:
		if d.IntN(2) == 0 {
			return request{password: u.NewMain}, true
		}
		return d.rightMain(u)
	case issue:
		return request{password: u.Issued.Password}, true
	case revoke:
		return request{password: u.Apps[0].Password}, true
	}
	return d.any(u)
}

// codeStep is how long a one-time code is the current one.
const codeStep = 30 * time.Second

// oneTimeCode is the main password with a code: the current ones, used or not, a wrong one, or none.
func (d *dealer) oneTimeCode(u *user) (request, bool) {
	step := d.now().UnixNano() / int64(codeStep)
	switch d.IntN(12) {
	case 0:
		return d.rightMain(u)
	case 1:
		return d.rightApp(u)
	case 2:
		a := d.app(u, works)
		if a == nil {
			return request{}, false
		}
		return request{password: a.Password + "$" + code(u.TOTP, step)}, true
	case 3: // of an hour ago
		return request{password: u.Main + "$" + code(u.TOTP, step-120)}, true
	}
	return request{password: u.Main + "$" + code(u.TOTP, step+int64(d.IntN(3))-1)}, true
}

// code is the one-time code of a step (RFC 6238: SHA-1, six digits).
func code(secret string, step int64) string {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		panic("soak: internal error: a one-time code secret of our own does not decode")
	}
	mac := hmac.New(sha1.New, key)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1000000)
}
