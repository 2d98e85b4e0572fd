package auth

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/bcrypt"

	"appbind/config"
	"appbind/secrets"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex // guards t
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// upstream is a directory and the place to bind, with what is asked of it counted.
type upstream struct {
	mu        sync.Mutex // guards all below
	entries   map[string]*Entry
	passwords map[string]string // DN: password
	lockout   Lockout
	denied    map[string]bool // DN: matches the deny filter

	findErr, stateErr, denyErr, bindErr error
	state                               func(e *Entry) State // nil: that of the entry
	copied                              func(e *Entry)       // makes a copy of what is found, with a state of its own; nil: it is none
	answer                              func(dn, password string) *Answer
	absent                              string

	finds, states, denies int
	binds                 []string // "DN password"
}

const absentDN = "uid=absent,dc=example"

func newUpstream() *upstream {
	return &upstream{
		entries: map[string]*Entry{}, passwords: map[string]string{}, denied: map[string]bool{}, absent: absentDN,
	}
}

// user adds alice, with the values as her secrets attribute.
func (u *upstream) user(name, password string, values ...string) *Entry {
	e := &Entry{
		Key: "entryUUID:" + name, DN: "uid=" + name + ",ou=people,dc=example", User: true, Eligible: true,
		State: State{Fingerprint: "pwdChangedTime:1", Server: "a"},
	}
	for _, v := range values {
		e.Values = append(e.Values, []byte(v))
	}
	u.entries[name], u.entries[e.DN] = e, e
	u.passwords[e.DN] = password
	return e
}

func (u *upstream) Find(ctx context.Context, name string) (*Entry, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finds++
	if u.findErr != nil {
		return nil, u.findErr
	}
	if name == "twins" {
		return nil, ErrAmbiguous
	}
	e := u.entries[name]
	if e == nil {
		return nil, fmt.Errorf("%w: searched", ErrNotFound)
	}
	found := *e
	if u.copied != nil {
		found.Copied, found.Index = true, new(Index)
		u.copied(&found)
	}
	return &found, ctx.Err()
}

func (u *upstream) State(ctx context.Context, e *Entry) (State, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.states++
	if u.stateErr != nil {
		return State{}, u.stateErr
	}
	if u.state != nil {
		return u.state(e), nil
	}
	return u.entries[e.DN].State, nil
}

func (u *upstream) FallbackDenied(ctx context.Context, e *Entry) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.denies++
	return u.denied[e.DN], u.denyErr
}

func (u *upstream) Lockout() Lockout { return u.lockout }

func (u *upstream) AbsentDN() string { return u.absent }

func (u *upstream) Bind(ctx context.Context, dn string, password Password) (*Answer, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.binds = append(u.binds, dn+" "+string(password))
	switch {
	case u.bindErr != nil:
		return nil, u.bindErr
	case u.answer != nil:
		return u.answer(dn, string(password)), nil
	case dn == "" || len(password) == 0:
		return &Answer{}, nil // as servers do
	case u.passwords[dn] == string(password) && u.passwords[dn] != "":
		return &Answer{Server: "a"}, nil
	default:
		return &Answer{Code: 49, Server: "a"}, nil
	}
}

// sent are the binds that went upstream since the last call, the one to the absent DN as "absent".
func (u *upstream) sent() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := u.binds
	u.binds = nil
	for i, b := range list {
		if strings.HasPrefix(b, absentDN+" ") {
			list[i] = "absent"
		}
	}
	return list
}

// site is a verifier with all that is around it.
type site struct {
	*upstream
	clock *clock
	mem   *Memory
	cfg   *config.Config
	v     *Verifier
	log   strings.Builder
}

func newSite(t testing.TB, change func(*config.Config)) *site {
	t.Helper()
	cfg := &config.Config{
		ServiceAccounts: []string{"cn=dovecot,dc=example"},
		Passthrough:     []string{"cn=Admin,dc=Example"},
		Fallback:        config.Fallback{Mode: "allow", TOTP: "when_enrolled", Window: config.Duration(15 * time.Minute), MaxFailures: "auto"},
		AppPasswords:    config.AppPasswords{Enabled: true, Accept: true, HashMemory: 64},
	}
	if change != nil {
		change(cfg)
	}
	s := &site{upstream: newUpstream(), clock: newClock(), cfg: cfg}
	s.passwords["cn=dovecot,dc=example"] = "dovecot secret"
	s.passwords["cn=Admin,dc=Example"] = "admin secret"
	s.mem = NewMemory(s.clock.now)
	s.v = New(cfg, s.upstream, s.mem, slog.New(slog.NewTextHandler(&s.log, nil)))
	return s
}

// request is an ordinary bind.
func request(name, password string) Bind {
	return Bind{
		Name: name, Password: Password(password), Secure: true,
		Listener: Listener{Anonymous: true, Fallback: "inherit", TOTP: "inherit"},
		Client:   Client{Service: "imap", Addr: netip.MustParseAddr("192.0.2.7")},
	}
}

func (s *site) bind(name, password string) Decision {
	return s.v.Verify(context.Background(), request(name, password), s.upstream)
}

// expect checks one decision and what it sent upstream.
func (s *site) expect(t *testing.T, what string, d Decision, row int, kind Kind, reason string, sent ...string) {
	t.Helper()
	if d.Row != row || d.Kind != kind || d.Reason != reason {
		t.Errorf("%s: row %d, kind %d, %q (%v); want row %d, kind %d, %q", what, d.Row, d.Kind, d.Reason, d.Err, row, kind, reason)
	}
	if got := s.upstream.sent(); fmt.Sprint(got) != fmt.Sprint(sent) {
		t.Errorf("%s: sent %q; want %q", what, got, sent)
	}
	if (d.Kind == Busy || d.Kind == Unavailable) != (d.Err != nil) {
		t.Errorf("%s: kind %d with error %v", what, d.Kind, d.Err)
	}
	if d.Kind != Accepted && (d.DN != "" || d.App != nil) {
		t.Errorf("%s: not accepted, and yet DN %q, app %v", what, d.DN, d.App)
	}
}

// ssha is a fast salted hash.
func ssha(password string) string {
	sum := sha1.Sum([]byte(password + "salt"))
	return "{SSHA}" + base64.StdEncoding.EncodeToString(append(sum[:], "salt"...))
}

// slowHash is a slow hash, as cheap as bcrypt gets.
func slowHash(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// generated is a fresh app password and its value, with the parameters added.
func generated(t testing.TB, change func(*secrets.Params)) (password, value string) {
	t.Helper()
	g, err := secrets.Generate(nil)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := secrets.Hash(secrets.SHA256, []byte(g.Password), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := secrets.Params{Label: "phone", ID: g.ID, Hash: hash}
	if change != nil {
		change(&p)
	}
	value, err = secrets.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return g.Password, value
}

const (
	totpSecret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	totpValue  = "otpauth://totp/site:alice?secret=" + totpSecret + "&issuer=site"
)

// code is the current code of totpValue.
func (s *site) code(t testing.TB) string {
	t.Helper()
	c, err := totp.GenerateCode(totpSecret, s.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wrongCode is a code of none of the steps around now.
func (s *site) wrongCode(t testing.TB) string {
	t.Helper()
	v := secrets.Parse([]byte(totpValue))
	for i := range 10 {
		c := strings.Repeat(fmt.Sprint(i), 6)
		if _, ok := v.VerifyTOTP(c, s.clock.now()); !ok {
			return c
		}
	}
	t.Fatal("every code is right")
	return ""
}

var errTest = errors.New("made up trouble")

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
