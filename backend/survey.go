package backend

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"appbind/auth"
	"appbind/config"
	"appbind/wire"
)

// Pauses between two surveys: nothing of this changes often.
const (
	surveyPause      = time.Minute
	firstSurveyPause = time.Second // while none has succeeded
)

// surveyTime bounds one survey.
const surveyTime = 10 * time.Second

// survey is what the upstream says of itself. It is made anew, never changed.
type survey struct {
	read     bool // false: these are the defaults, nothing was read yet
	at       time.Time
	root     rootDSE
	kind     Kind
	schema   *Schema
	enabled  []byte // the enabled filter in use; nil: none
	text     string // its text
	eligible []byte // users.filter and the enabled filter
	useCSN   bool   // entryCSN tells about the password, see decideCSN
	lockout  auth.Lockout
	lockFor  time.Duration // how long a lock lasts, the longest of all policies; 0: for good, or not known
	bases    []wire.DN     // users.bases, as configured and as the upstream spells them
	notes    []string
}

// unsurveyed is what is assumed before anything could be read.
func unsurveyed(cfg *config.Config) *survey {
	sv := &survey{kind: KindUnknown, schema: newSchema(cfg.AppPasswords.Attribute, nil), text: cfg.Users.EnabledFilter}
	for _, b := range cfg.Users.Bases {
		if dn, err := wire.ParseDN(b); err == nil { // New has refused others
			sv.bases = append(sv.bases, dn)
		}
	}
	l, err := newLookup(cfg)
	if err == nil { // New has refused others
		sv.enabled = l.enabled
		sv.eligible = wire.AppendAnd(nil, l.filter, l.enabled)
	}
	return sv
}

// Schema is what the subschema says of the secrets attribute; never nil.
func (u *Upstream) Schema() *Schema { return u.survey.Load().schema }

// Subschema is the DN of the entry that has the upstream's schema; "" where it names none.
func (u *Upstream) Subschema() string { return u.survey.Load().root.subschema }

// surveyed is the survey of the moment. Before the first one nobody can be judged:
// neither the names of the secrets attribute nor the lock-out policy is known,
// nor with auto who is enabled. Then it is read first, or an error.
func (u *Upstream) surveyed(ctx context.Context) (*survey, error) {
	sv := u.survey.Load()
	if sv.read {
		return sv, nil
	}
	if err := u.readSurvey(ctx); err != nil {
		return nil, err
	}
	return u.survey.Load(), nil
}

// askSurvey has the surveyor look again soon.
func (u *Upstream) askSurvey() {
	select {
	case u.resurvey <- struct{}{}:
	default: // it was asked already
	}
}

// runSurveyor reads the survey again when it is asked to, at most once a
// minute, until Close.
func (u *Upstream) runSurveyor() {
	defer u.workers.Done()
	for {
		select {
		case <-u.stop.Done():
			return
		case <-u.resurvey:
		}
		if sv := u.survey.Load(); sv.read {
			if !u.pause(surveyPause - u.clock.now().Sub(sv.at)) {
				return
			}
		}
		_ = u.readSurvey(u.stop) // it has said so in the log
		if !u.survey.Load().read {
			u.askSurvey()
			if !u.pause(firstSurveyPause) {
				return
			}
		}
	}
}

// pause waits; false: Close has begun.
func (u *Upstream) pause(d time.Duration) bool {
	if d <= 0 {
		return !u.closing()
	}
	c, stop := u.clock.timer(d)
	defer stop()
	select {
	case <-c:
		return true
	case <-u.stop.Done():
		return false
	}
}

// readSurvey makes a survey, one at a time. What cannot be read is noted and
// left at its default; an error says that the upstream could not be asked at all.
func (u *Upstream) readSurvey(ctx context.Context) error {
	before := u.survey.Load()
	select {
	case u.surveying <- struct{}{}:
		defer func() { <-u.surveying }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	if now := u.survey.Load(); now != before && now.read {
		return nil // someone else has just made it
	}
	// Whoever waits behind us, waits no longer than this: one server that hangs must not keep all from looking again.
	ctx, cancel := context.WithTimeout(ctx, surveyTime)
	defer cancel()
	sv := unsurveyed(u.cfg)
	for _, step := range []func(context.Context, *survey) error{
		u.readRoot, u.readSchema, u.readBases, u.readLockout,
	} {
		if err := step(ctx, sv); err != nil {
			u.log.Debug("upstream could not be examined", "error", err)
			return err
		}
	}
	u.decide(sv)
	sv.read, sv.at = true, u.clock.now()
	u.survey.Store(sv)
	level := slog.LevelInfo
	if before.read && before.describes(sv) {
		level = slog.LevelDebug // nothing new
	}
	u.log.Log(ctx, level, "upstream examined", "kind", sv.kind.String(), "enabled_filter", sv.text,
		"lockout_failures", sv.lockout.MaxFailures, "secrets_names", strings.Join(sv.schema.Names(), ","))
	return nil
}

// describes reports whether other says the same.
func (sv *survey) describes(other *survey) bool {
	return sv.kind == other.kind && sv.text == other.text && sv.lockout == other.lockout &&
		slices.Equal(sv.schema.Names(), other.schema.Names())
}

// decide derives what follows from kind and schema.
func (u *Upstream) decide(sv *survey) {
	if u.lookup.auto {
		sv.text = autoEnabled(sv.kind, sv.schema)
		sv.enabled = nil
		if sv.text != "none" {
			f, err := compileFilter("users.enabled_filter", sv.text)
			if err != nil {
				panic("appbind: internal error: " + err.Error())
			}
			sv.enabled = f
		}
		sv.eligible = wire.AppendAnd(nil, u.lookup.filter, sv.enabled)
	}
	sv.useCSN = decideCSN(sv.kind, sv.schema)
}

// decideCSN reports whether entryCSN stands still over failed binds: with
// OpenLDAP, and without the ppolicy overlay, whose attributes are in the schema
// when it is loaded.
func decideCSN(k Kind, s *Schema) bool {
	return k == KindOpenLDAP && s.read && !s.has("pwdFailureTime")
}

// autoEnabled is users.enabled_filter: auto. Each filter is true of an entry
// that lacks the attribute. One that names an attribute which the server does
// not know would be true of none (RFC 4511 4.5.1.7: the negation of Undefined
// is Undefined), so the schema is asked first.
func autoEnabled(k Kind, s *Schema) string {
	switch {
	case k == KindActiveDirectory || k == KindSamba:
		return "(!(userAccountControl:1.2.840.113556.1.4.803:=2))"
	case k == Kind389 || k == KindFreeIPA || s.has("nsAccountLock"):
		return "(!(nsAccountLock=TRUE))"
	case s.has("pwdAccountLockedTime"):
		// draft-behera-ldap-password-policy: this value is a lock by an administrator, for good.
		return "(!(pwdAccountLockedTime=000001010000Z))"
	}
	return "none"
}

// readBases learns how the upstream spells users.bases.
func (u *Upstream) readBases(ctx context.Context, sv *survey) error {
	for _, base := range u.cfg.Users.Bases {
		var spelled string
		s := u.lookup.search(base, wire.ScopeBase, presentObjectClass, wire.AppendStrings(nil, "1.1"))
		r, err := u.ServiceSearch(ctx, s, nil, func(e wire.SearchEntry, _ []byte) error {
			spelled = string(e.DN)
			return nil
		})
		if err != nil {
			return err
		}
		if r.Code != wire.ResultSuccess || spelled == "" {
			sv.note("users.bases: %q cannot be read as upstream.bind_dn (result %d)", base, r.Code)
			continue
		}
		dn, err := wire.ParseDN(spelled)
		if err == nil && !slices.ContainsFunc(sv.bases, func(b wire.DN) bool { return b.Key() == dn.Key() }) {
			sv.bases = append(sv.bases, dn)
		}
	}
	return nil
}

// note adds a line for check.
func (sv *survey) note(format string, args ...any) {
	sv.notes = append(sv.notes, fmt.Sprintf(format, args...))
}

// Info is what check prints about the upstream.
type Info struct {
	// Servers are the configured servers and how they fare.
	Servers []ServerInfo
	// Read says that the rest was read from a server; else it is what is assumed meanwhile.
	Read bool
	// Kind is the kind of server, Vendor what it calls itself.
	Kind   Kind
	Vendor string
	// Lockout is the lock-out policy, as far as it could be read.
	Lockout auth.Lockout
	// EnabledFilter is the filter in use; "none": there is none.
	EnabledFilter string
	// SecretsNames are the names and the OID by which the secrets attribute is hidden.
	SecretsNames []string
	// SecretsKnown says that the server's schema has the secrets attribute.
	SecretsKnown bool
	// Fingerprint names what tells that a password was changed: "attributes", or
	// "entryCSN and attributes" where no password policy is about.
	Fingerprint string
	// Notes are lines about what could not be read.
	Notes []string
}

// ServerInfo is one server's health.
type ServerInfo struct {
	Name string
	Up   bool
	Err  error // why it is not up
}

// Info tells what is known of the upstream.
func (u *Upstream) Info() Info {
	sv := u.survey.Load()
	i := Info{Read: sv.read, Kind: sv.kind, Vendor: sv.root.vendor, Lockout: sv.lockout, EnabledFilter: sv.text,
		SecretsNames: sv.schema.Names(), SecretsKnown: sv.schema.found, Fingerprint: "attributes", Notes: sv.notes}
	if sv.useCSN {
		i.Fingerprint = "entryCSN and attributes"
	}
	u.healthMu.Lock()
	defer u.healthMu.Unlock()
	for _, s := range u.servers {
		i.Servers = append(i.Servers, ServerInfo{Name: s.name, Up: s.health == up, Err: s.cause})
	}
	return i
}
