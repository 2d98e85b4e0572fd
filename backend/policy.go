package backend

import (
	"context"
	"strconv"
	"strings"
	"time"

	"appbind/auth"
	"appbind/wire"
)

// readLockout reads the lock-out policy, each kind of server keeping it elsewhere.
func (u *Upstream) readLockout(ctx context.Context, sv *survey) error {
	switch sv.kind {
	case Kind389:
		return u.readPolicies(ctx, sv, []string{"cn=config"}, wire.ScopeBase, "(objectClass=*)", policy389)
	case KindFreeIPA:
		return u.readPolicies(ctx, sv, sv.root.contexts(), wire.ScopeWhole, "(objectClass=krbPwdPolicy)", policyIPA)
	case KindActiveDirectory, KindSamba:
		return u.readPolicies(ctx, sv, sv.root.contexts(), wire.ScopeBase, "(objectClass=*)", policyAD)
	}
	if !sv.schema.has("pwdFailureTime") {
		return nil // no ppolicy overlay
	}
	return u.readPolicies(ctx, sv, sv.root.namingContexts, wire.ScopeWhole, "(objectClass=pwdPolicy)", policyBehera)
}

// contexts are where a policy of the domain stands.
func (d *rootDSE) contexts() []string {
	if d.defaultContext != "" {
		return []string{d.defaultContext}
	}
	return d.namingContexts
}

// policyKeys says how one kind of server spells a policy.
type policyKeys struct {
	enabled string // the attribute that must be TRUE or on; "": none
	most    string // failures that lock
	period  string // after how long they are forgotten
	unit    time.Duration
	lasts   string // how long a lock lasts; "": the entry says itself when it is over
}

var (
	policyBehera = policyKeys{"pwdlockout", "pwdmaxfailure", "pwdfailurecountinterval", time.Second, "pwdlockoutduration"}
	policy389    = policyKeys{"passwordlockout", "passwordmaxfailure", "passwordresetfailurecount", time.Second, ""}
	policyIPA    = policyKeys{"", "krbpwdmaxfailure", "krbpwdfailurecountinterval", time.Second, ""}
	// Active Directory counts in negative units of 100 ns.
	policyAD = policyKeys{"", "lockoutthreshold", "lockoutobservationwindow", -100 * time.Nanosecond, ""}
)

// names is the selection of a policy's attributes.
func (k policyKeys) names() []byte {
	sel := wire.AppendStrings(nil, k.most, k.period)
	for _, optional := range [...]string{k.enabled, k.lasts} {
		if optional != "" {
			sel = wire.AppendStrings(sel, optional)
		}
	}
	return sel
}

// policy is what an entry says: the lock-out, and how long a lock lasts, 0 being for good.
func (k policyKeys) policy(e wire.SearchEntry) (auth.Lockout, time.Duration) {
	values := map[string]string{}
	_ = wire.EachAttribute(e.Attributes, func(a wire.Attribute) bool { // checked by ValidateResponse
		values[strings.ToLower(string(a.Type))] = firstValue(a)
		return true
	})
	if on := values[k.enabled]; k.enabled != "" && !strings.EqualFold(on, "TRUE") && !strings.EqualFold(on, "on") {
		return auth.Lockout{}, 0
	}
	most, err := strconv.ParseInt(values[k.most], 10, 32)
	if err != nil || most <= 0 {
		return auth.Lockout{}, 0
	}
	period, err := strconv.ParseInt(values[k.period], 10, 64)
	interval := time.Duration(period) * k.unit
	if err != nil || interval < 0 || period != 0 && interval/time.Duration(period) != k.unit {
		interval = 0 // absent, or longer than a Duration can say: never forgotten
	}
	lasts, err := strconv.ParseInt(values[k.lasts], 10, 32)
	if err != nil || lasts < 0 {
		lasts = 0
	}
	return auth.Lockout{MaxFailures: int(most), Interval: interval}, time.Duration(lasts) * time.Second
}

// add joins a policy to those read before: the stricter lock-out, the longer lock.
func (sv *survey) add(l auth.Lockout, lasts time.Duration) {
	switch {
	case l.MaxFailures == 0:
		return
	case sv.lockout.MaxFailures == 0:
		sv.lockFor = lasts
	case sv.lockFor != 0 && lasts != 0:
		sv.lockFor = max(sv.lockFor, lasts)
	default:
		sv.lockFor = 0
	}
	sv.lockout = stricter(sv.lockout, l)
}

// assumedFailures is what most directories are set to.
const assumedFailures = 5

// readPolicies reads the policies that there are and keeps the strictest of
// each part. Which of them applies to whom (pwdPolicySubentry, collective attributes,
// precedence among groups) each server works out in its own way; the strictest locks nobody, whichever is his.
func (u *Upstream) readPolicies(ctx context.Context, sv *survey, bases []string, scope int, filter string, keys policyKeys) error {
	f, err := compileFilter("lock-out policy", filter)
	if err != nil {
		return err
	}
	seen := false
	for _, base := range bases {
		s := &wire.SearchRequest{Base: []byte(base), Scope: scope, Filter: f, Attributes: keys.names()}
		r, err := u.ServiceSearch(ctx, s, nil, func(e wire.SearchEntry, _ []byte) error {
			seen = seen || len(e.Attributes) > 0
			sv.add(keys.policy(e))
			return nil
		})
		if err != nil {
			return err
		}
		if r.Code != wire.ResultSuccess {
			sv.note("the lock-out policy below %q cannot be read (result %d)", base, r.Code)
		}
	}
	if !seen {
		// OpenLDAP has a policy when it has the overlay, and nobody says which: better too few
		// failures than a locked account. Elsewhere there may well be none.
		if keys == policyBehera {
			sv.lockout = auth.Lockout{MaxFailures: assumedFailures}
		}
		u.log.Warn("the directory's lock-out policy is not readable as upstream.bind_dn", "assumed_failures", sv.lockout.MaxFailures)
		sv.note("no lock-out policy is readable as upstream.bind_dn; set fallback.max_failures if the directory locks accounts")
	}
	return nil
}

// stricter joins two policies: the fewer failures, remembered for longer.
func stricter(a, b auth.Lockout) auth.Lockout {
	switch {
	case a.MaxFailures == 0:
		return b
	case b.MaxFailures == 0:
		return a
	}
	j := auth.Lockout{MaxFailures: min(a.MaxFailures, b.MaxFailures)}
	if a.Interval != 0 && b.Interval != 0 {
		j.Interval = max(a.Interval, b.Interval)
	}
	return j
}
