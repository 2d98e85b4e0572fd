package main

import (
	"fmt"
	"sync/atomic"

	"appbind/secrets"
	"appbind/wire"
)

// work is one row of the table: what is sent, and to whom.
type work struct {
	name    string
	load    func(*site) *load
	peers   bool   // the peers do it too
	variant string // of appbind; empty: appbind does not
	// than is the work of the peers that the ratios are to; empty: this one.
	than  string
	fresh bool // appbind is started anew for each run
	deny  bool // at the listener that has no fallback
	tls   bool // at the listener for TLS
}

// baseline names the work of the peers that this one is compared with.
func (w *work) baseline() string {
	if w.than != "" {
		return w.than
	}
	return w.name
}

// How many connections, where a work does not say it.
const (
	conns      = 32
	manyConns  = 200
	slowConns  = 4    // for slow hashes: more would wait in appbind's queue until it says busy
	someUsers  = 1000 // users whose passwords were seen before
	coldDevice = 30000
)

// The works that others are compared with.
const (
	userBind    = "bind of a user, main password"
	refusedBind = "bind refused by the directory"
	oneBind     = "one connection: bind"
	mixedBind   = "mixed, as Dovecot: search, bind of the user, bind of the service"
)

// works is the whole table.
func works() []work {
	all := []work{
		{name: userBind, peers: true, variant: "live", load: func(s *site) *load { return binds(s.accounts[:someUsers], mainPassword, 0) }},
		{name: userBind + ", replica", variant: "replica", than: userBind, load: func(s *site) *load { return binds(s.accounts[:someUsers], mainPassword, 0) }},
		{name: "bind of the service account", peers: true, variant: "live", load: func(*site) *load { return repeat(serviceBind()) }},
		{name: "bind, app password seen before", variant: "live", than: userBind, load: appBinds},
		{name: "bind, app password seen before, log.level warn", variant: "quiet", than: userBind, load: appBinds},
		{name: "bind, app password seen before, replica", variant: "replica", than: userBind, load: appBinds},
		{name: "bind, app password seen before, replica, TLS", variant: "replica", than: userBind, tls: true, load: appBinds},
		{name: "first bind, sha256: 30,000 devices after a restart", variant: "live", than: userBind, fresh: true, load: coldStart},
		{name: "first bind, sha256: 30,000 devices after a restart, replica", variant: "replica", than: userBind, fresh: true, load: coldStart},
	}
	for _, algorithm := range []string{secrets.Bcrypt, secrets.Argon2i, secrets.Argon2id} {
		all = append(all, work{name: "first bind, " + algorithm, variant: "live", fresh: true, load: func(s *site) *load {
			l := binds(s.algo[algorithm], func(a *account, _ int) string { return a.apps[0] }, 0)
			l.conns, l.once = slowConns, true
			return l
		}})
	}
	all = append(all, refusedWorks()...)
	all = append(all, searchWorks()...)
	return append(all, profileWorks()...)
}

// refusedWorks are the ways in which a bind is refused.
func refusedWorks() []work {
	revoked := func(s *site) *load {
		return binds(s.accounts[:someUsers], revokedPassword, wire.ResultInvalidCredentials)
	}
	wrongMain := func(s *site) *load {
		return binds(s.accounts[:someUsers], func(a *account, _ int) string { return "stale password of " + a.uid }, wire.ResultInvalidCredentials)
	}
	return []work{
		{name: refusedBind, peers: true, variant: "live", load: neverRight},
		{name: "bind refused here, row 11: revoked app password", variant: "live", than: refusedBind, load: revoked},
		{name: "bind refused here, row 12: no fallback", variant: "live", deny: true, than: refusedBind, load: neverRight},
		{name: "bind refused here, row 14: known bad", variant: "live", than: refusedBind, load: wrongMain},
		{name: "bind refused here, row 11, replica", variant: "replica", than: refusedBind, load: revoked},
	}
}

// searchWorks are searches, and binds that go with them.
func searchWorks() []work {
	return []work{
		{name: "search, 1 entry", peers: true, variant: "live", load: func(s *site) *load { return searches(s, conns, 1) }},
		{name: "search, 1 entry, TLS", variant: "live", than: "search, 1 entry", tls: true, load: func(s *site) *load { return searches(s, conns, 1) }},
		{name: "search, 100 entries", peers: true, variant: "live", load: func(*site) *load {
			var steps []step
			for i := range usersWith1 / department {
				steps = append(steps, searchStep(people, "departmentNumber", fmt.Sprint(i), department))
			}
			return asService(steps, conns)
		}},
		{name: "search, 1 entry of 10 KB", peers: true, variant: "live", load: func(*site) *load {
			var steps []step
			for i := range largeUsers {
				steps = append(steps, searchStep(suffix, "uid", fmt.Sprintf("large%d", i), 1))
			}
			return asService(steps, conns)
		}},
		{name: "search, 1 entry, 8 under way per connection", peers: true, variant: "live", load: func(s *site) *load { return searches(s, conns, 8) }},
		{name: "search, 1 entry, 200 connections of one service account", peers: true, variant: "live", load: func(s *site) *load { return searches(s, manyConns, 1) }},
		{name: mixedBind, peers: true, variant: "live", load: func(s *site) *load { return mixed(s, mainPassword) }},
		{name: mixedBind + "; app passwords", variant: "live", than: mixedBind, load: func(s *site) *load { return mixed(s, appPassword) }},
		{name: mixedBind + "; app passwords, replica", variant: "replica", than: mixedBind, load: func(s *site) *load { return mixed(s, appPassword) }},
		{name: oneBind, peers: true, variant: "live", load: func(s *site) *load { return single(binds(s.accounts[:someUsers], mainPassword, 0)) }},
		{name: oneBind + ", app password", variant: "live", than: oneBind, load: func(s *site) *load { return single(appBinds(s)) }},
		{name: oneBind + ", app password, replica", variant: "replica", than: oneBind, load: func(s *site) *load { return single(appBinds(s)) }},
		{name: "one connection: search, 1 entry", peers: true, variant: "live", load: func(s *site) *load { return single(searches(s, conns, 1)) }},
	}
}

// profileWorks are users with 1, 10 and 50 app passwords.
func profileWorks() []work {
	var all []work
	for _, variant := range []string{"live", "replica"} {
		for _, p := range []struct{ n, first int }{{1, 0}, {10, usersWith1}, {50, usersWith1 + usersWith10}} {
			for _, k := range []struct {
				name     string
				password func(*account, int) string
				code     int32
			}{{"right", appPassword, 0}, {"wrong", wrongPassword, wire.ResultInvalidCredentials}, {"revoked", revokedPassword, wire.ResultInvalidCredentials}} {
				w := work{name: fmt.Sprintf("%d app passwords: %s", p.n, k.name), variant: variant, than: userBind,
					load: func(s *site) *load { return binds(s.accounts[p.first:p.first+500], k.password, k.code) }}
				if variant != "live" {
					w.name += ", " + variant
				}
				all = append(all, w)
			}
		}
	}
	return all
}

func mainPassword(a *account, _ int) string    { return a.main }
func appPassword(a *account, i int) string     { return a.apps[i%len(a.apps)] }
func wrongPassword(a *account, _ int) string   { return a.wrong }
func revokedPassword(a *account, _ int) string { return a.revoked }

// binds is one bind for each of the accounts.
func binds(accounts []account, password func(a *account, i int) string, code int32) *load {
	l := &load{conns: conns}
	for i := range accounts {
		l.steps = append(l.steps, bindStep(accounts[i].dn, password(&accounts[i], i), code))
	}
	return l
}

// appBinds is binds with app passwords that are seen before, of users that have one.
func appBinds(s *site) *load { return binds(s.accounts[:someUsers], appPassword, 0) }

// coldStart is every app password of the users that have ten, once.
func coldStart(s *site) *load {
	l := &load{conns: conns, once: true}
	list := s.accounts[usersWith1 : usersWith1+usersWith10]
	for device := range coldDevice / len(list) {
		for i := range list {
			l.steps = append(l.steps, bindStep(list[i].dn, list[i].apps[device], 0))
		}
	}
	return l
}

// attempts counts the passwords that were made up: none is sent twice.
var attempts atomic.Int64

// neverRight is binds with passwords that nobody has.
func neverRight(s *site) *load {
	return &load{conns: conns, fresh: func() step {
		n := attempts.Add(1)
		return bindStep(s.accounts[n%users].dn, fmt.Sprint("nobody has this ", n), wire.ResultInvalidCredentials)
	}}
}

// serviceBind is the bind of the mail servers.
func serviceBind() step { return bindStep(mailDN, mailPW, 0) }

// repeat sends one request again and again.
func repeat(s step) *load {
	l := &load{conns: conns}
	for range conns {
		l.steps = append(l.steps, s)
	}
	return l
}

// asService sends steps on connections of the service account.
func asService(steps []step, conns int) *load {
	login := serviceBind()
	return &load{conns: conns, login: &login, steps: steps}
}

// searches is a search for each of some users by uid, as mail servers do it.
func searches(s *site, conns, depth int) *load {
	var steps []step
	for i := range s.accounts[:someUsers] {
		steps = append(steps, searchStep(people, "uid", s.accounts[i].uid, 1))
	}
	l := asService(steps, conns)
	l.depth = depth
	return l
}

// mixed is what Dovecot does on its connection for a login: it searches the
// user, binds as that user, and binds as itself again.
func mixed(s *site, password func(*account, int) string) *load {
	var steps []step
	for i := range s.accounts[:someUsers] {
		a := &s.accounts[i]
		steps = append(steps, searchStep(people, "uid", a.uid, 1), bindStep(a.dn, password(a, i), 0), serviceBind())
	}
	l := asService(steps, conns)
	l.group = 3
	return l
}

// single is a load on one connection.
func single(l *load) *load {
	l.conns = 1
	return l
}
