package auth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"appbind/config"
	"appbind/secrets"
)

// What stands in for a configuration that was not filled with defaults.
const (
	defaultWindow     = 15 * time.Minute
	defaultHashMemory = 256 // MiB
)

var errUndecided = errors.New("appbind: internal error: no row decided")

// Values of fallback.mode, fallback.totp and their overrides.
const (
	allow    = "allow"
	deny     = "deny"
	inherit  = "inherit"
	required = "required"
	ignore   = "ignore"
)

// Verifier decides binds by one configuration. It keeps nothing itself: what is
// remembered stands in its Memory. All methods may be called at the same time.
type Verifier struct {
	dir Directory
	mem *Memory
	log *slog.Logger

	listed      listed
	mode        string
	byService   map[string]string // by canonical service
	denyFilter  bool
	totpMode    string
	window      time.Duration
	maxFailures int  // autoFailures: from the upstream's policy
	off         bool // no app password is accepted

	// Of the outage mode: maxStale 0, there is none.
	maxStale time.Duration
	outages  Outages
	services map[string]bool // the service accounts among listed, as configured
}

const autoFailures = -1

// New makes the verifier of a configuration that config.Load accepted. mem may be shared
// with the verifiers of earlier and later configurations. log gets unusable values; binds are
// logged by whoever asks for them, from the Decision.
func New(cfg *config.Config, dir Directory, mem *Memory, log *slog.Logger) *Verifier {
	v := &Verifier{
		dir:         dir,
		mem:         mem,
		log:         log,
		listed:      newListed(),
		mode:        cfg.Fallback.Mode,
		byService:   make(map[string]string),
		denyFilter:  cfg.Fallback.DenyFilter != "",
		totpMode:    cfg.Fallback.TOTP,
		window:      time.Duration(cfg.Fallback.Window),
		maxFailures: autoFailures,
		off:         !cfg.Accepts(),
	}
	for _, dn := range slices.Concat(cfg.ServiceAccounts, cfg.Passthrough) {
		if err := v.listed.add(dn); err != nil {
			log.Error("listed account is not a DN", "dn", dn, "reason", err)
		}
	}
	for service, mode := range cfg.Fallback.ByService {
		v.byService[secrets.CanonicalService(service)] = mode
	}
	if v.window <= 0 {
		v.window = defaultWindow
	}
	if o, ok := dir.(Outages); ok && cfg.AppPasswords.Lookup == "replica" {
		v.outages, v.maxStale = o, time.Duration(cfg.AppPasswords.MaxStale)
	}
	v.services = make(map[string]bool)
	for _, dn := range cfg.ServiceAccounts {
		v.services[dn] = true
	}
	if n, err := strconv.Atoi(cfg.Fallback.MaxFailures); err == nil && n >= 0 {
		v.maxFailures = n
	}
	memory := cfg.AppPasswords.HashMemory
	if memory <= 0 {
		memory = defaultHashMemory
	}
	mem.hashing.slots.setBudget(int64(memory) << 20)
	return v
}

// Off reports whether app passwords are switched off: none is accepted, and no session of one goes on.
func (v *Verifier) Off() bool { return v.off }

// rows is the decision table, in its order, which is part of the security. Each step
// decides the bind (true) or leaves it to the next (false).
var rows = [...]func(*attempt, context.Context) bool{
	(*attempt).sasl,             // 0
	(*attempt).emptyPassword,    // 1
	(*attempt).anonymous,        // 2
	(*attempt).clearText,        // 3
	(*attempt).unbelieved,       // 6: a context that is not believed is nobody's name
	(*attempt).tooLong,          // 9: never hashed, never forwarded
	(*attempt).listedAccount,    // 4
	(*attempt).lookup,           // 5, 6
	(*attempt).notUser,          // 7
	(*attempt).notEligible,      // 8
	(*attempt).storedSecret,     // 9
	(*attempt).appPassword,      // 10, 11
	(*attempt).stale,            // 15: nobody can verify it now
	(*attempt).fallbackDenied,   // 12
	(*attempt).oneTimeCode,      // 12, 13
	(*attempt).knownBadOrBudget, // 14
	(*attempt).forward,          // 15
}

// attempt is one bind on its way through the table.
type attempt struct {
	*Verifier
	bind Bind
	up   Binder
	d    Decision

	totp     string  // fallback.totp as it holds here
	password []byte  // the main password of rows 14 and 15: REST where a code was split off
	code     digest  // the one-time code to claim before forwarding; zero: none
	guesses  int     // taken from the limit on guesses by this bind
	ticket   *ticket // of row 14, for row 15
}

// Verify decides one bind by the decision table. It returns within the deadline of ctx, calls
// up at most once, and logs nothing about the bind. Kind is Accepted only where the
// upstream or a named value of the entry accepted the password, or Anonymous.
func (v *Verifier) Verify(ctx context.Context, b Bind, up Binder) Decision {
	a := attempt{Verifier: v, bind: b, up: up, totp: v.totpMode, password: b.Password}
	if b.Listener.TOTP != "" && b.Listener.TOTP != inherit {
		a.totp = b.Listener.TOTP
	}
	// The zero Kind is Accepted: whatever goes wrong from here must not be.
	a.fail(15, Unavailable, ReasonInternal, errUndecided)
	for _, row := range rows {
		if row(&a, ctx) {
			break
		}
	}
	a.notVerified()
	return a.d
}

// decide ends the bind with a result that needs no error.
func (a *attempt) decide(row int, kind Kind, reason string) bool {
	a.d.Row, a.d.Kind, a.d.Reason, a.d.Err = row, kind, reason, nil
	return true
}

// refuse is decide with "verified: does not fit".
func (a *attempt) refuse(row int, reason string) bool {
	return a.decide(row, InvalidCredentials, reason)
}

// fail ends the bind without a decision about the password.
func (a *attempt) fail(row int, kind Kind, reason string, err error) bool {
	a.d.Row, a.d.Kind, a.d.Reason, a.d.Err = row, kind, reason, err
	return true
}
