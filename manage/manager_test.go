package manage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/secrets"
	"appbind/wire"
)

const (
	aliceDN  = "uid=alice,ou=people,dc=example,dc=org"
	readerDN = "cn=appbind,dc=example,dc=org"
	writerDN = "cn=manage,dc=example,dc=org"
	patience = 20 * time.Second
)

// rig is a manager and the directory behind it.
type rig struct {
	*Manager
	t   *testing.T
	dir *fakeldap.Directory
	srv *fakeldap.Server
}

// newRig starts a directory; controls are what its root DSE offers.
func newRig(t *testing.T, controls string, change ...func(*config.Config)) *rig {
	t.Helper()
	r := &rig{t: t, dir: fakeldap.NewDirectory()}
	r.dir.Add("", "", "objectClass", "top", "supportedControl", controls)
	r.dir.Add("ou=people,dc=example,dc=org", "", "objectClass", "organizationalUnit")
	r.dir.Add(readerDN, "reader-password", "objectClass", "person")
	r.dir.Add(writerDN, "writer-password", "objectClass", "person")
	r.dir.Add(aliceDN, "", "objectClass", "inetOrgPerson", "uid", "alice", "mail", "alice@example.org", "entryCSN", "0")
	r.dir.Add("uid=carol,ou=people,dc=example,dc=org", "", "objectClass", "person", "uid", "carol")
	var err error
	if r.srv, err = fakeldap.Start(fakeldap.Options{Handler: r.handle}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.srv.Close)
	cfg := config.Default()
	cfg.Upstream.URLs = []config.URL{{Scheme: "ldap", Address: r.srv.Addr(), Host: "127.0.0.1"}}
	cfg.Upstream.BindDN, cfg.Upstream.BindPassword = readerDN, "reader-password"
	cfg.Upstream.ManageDN, cfg.Upstream.ManagePassword = writerDN, "writer-password"
	cfg.Users.Bases, cfg.Users.EnabledFilter, cfg.Users.NameFilter = []string{"ou=people,dc=example,dc=org"}, "none", "(|(uid=%s)(mail=%s))"
	for _, f := range change {
		f(cfg)
	}
	up, err := backend.New(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	up.Start(context.Background())
	t.Cleanup(up.Close)
	r.Manager = New(cfg, up, false, func() time.Time { return noon })
	return r
}

// handle lets the writing identity write, and nobody else.
func (r *rig) handle(c *fakeldap.Conn, m wire.Message) {
	switch {
	case m.Op != wire.OpModifyRequest:
		r.dir.Handle(c, m)
	case c.Bound() == writerDN:
		r.dir.Modify(c, m)
	default:
		c.Answer(m, wire.ResultInsufficientAccessRights)
	}
}

func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *rig) alice() *User {
	r.t.Helper()
	u, err := r.Find(r.ctx(), "alice@example.org")
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

func (r *rig) stored() *Set { return set(r.dir.Values(aliceDN, "appPassword")...) }

func TestLifeOfOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, controlAssertion)
	o := r.Managing()
	made, err := o.Create(r.ctx(), r.alice(), Request{Label: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.stored(); len(s.Values) != 1 || !s.Values[0].Verify([]byte(made.Password)) || s.Values[0].Raw != made.Value.Raw {
		t.Fatalf("stored: %v", s.Values)
	}
	if _, err := o.Create(r.ctx(), r.alice(), Request{Label: "Phone"}); !isViolation(t, err, "in use") {
		t.Errorf("the same label again: %v", err)
	}
	ref := Ref{ID: made.Value.ID}
	for name, err := range map[string]error{
		"relabel": o.Relabel(r.ctx(), aliceDN, Ref{Label: "phone"}, "new phone"),
		"renew":   o.Renew(r.ctx(), aliceDN, ref, noon.Add(day), false),
		"rescope": o.Rescope(r.ctx(), aliceDN, ref, []string{"imap"}, nil),
		"edit":    o.Edit(r.ctx(), aliceDN, ref, func(p *secrets.Params) error { p.Services = append(p.Services, "smtp"); return nil }),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := r.stored()
	if len(s.Values) != 1 || !s.Values[0].Verify([]byte(made.Password)) || s.Values[0].Label != "new phone" ||
		!s.Values[0].Expires.Equal(noon.Add(day)) || !strings.Contains(s.Values[0].Name, "svc=") {
		t.Errorf("after the edits: %v", s.Values)
	}
	gone, err := o.Revoke(r.ctx(), aliceDN, ref)
	if err != nil || gone.Label != "new phone" || len(r.stored().Values) != 0 {
		t.Errorf("revoke: %v %v", gone, err)
	}
	if _, err := o.Revoke(r.ctx(), aliceDN, ref); !errors.Is(err, ErrNoSuchPassword) {
		t.Errorf("revoke again: %v", err)
	}
	for _, m := range r.srv.Received(wire.OpModifyRequest) {
		if strings.Contains(string(m.Raw), made.Password) {
			t.Error("the password went to the directory in clear")
		}
	}
}

func TestFindWho(t *testing.T) {
	t.Parallel()
	r := newRig(t, controlAssertion)
	for name, want := range map[string]error{
		"alice": nil, "UID=Alice, OU=people,dc=example,dc=org": nil, "nobody": auth.ErrNotFound, "": auth.ErrNotFound, "*": auth.ErrNotFound,
		readerDN: ErrNotUser,
	} {
		u, err := r.Find(r.ctx(), name)
		if !errors.Is(err, want) || want == nil && (u.DN != aliceDN || !u.Eligible) {
			t.Errorf("%q: %+v, %v", name, u, err)
		}
	}
	carol, err := r.Find(r.ctx(), "carol")
	if err != nil || carol.Eligible {
		t.Fatalf("carol: %+v %v", carol, err)
	}
	if _, err := r.Managing().Create(r.ctx(), carol, Request{Label: "x"}); !errors.Is(err, ErrNotEligible) {
		t.Errorf("created for one who is no user: %v", err)
	}
	if _, err := r.Managing().Add(r.ctx(), aliceDN, [][]byte{[]byte("$app$a$" + aHash), []byte(aTOTP)}); err != nil {
		t.Fatal(err)
	}
	var seen []string
	if err := r.Each(r.ctx(), func(u *User) error { seen = append(seen, u.DN+" "+u.Set.Values[0].Label); return nil }); err != nil || len(seen) != 1 || seen[0] != aliceDN+" a" {
		t.Errorf("each: %q, %v", seen, err)
	}
}

// TestManyWriters: a hundred writers for ten labels; each label is given out
// once, and exactly those passwords that were returned are stored.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	for name, control := range map[string]string{"assertion control": controlAssertion, "read again": "1.2.3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, control)
			var wg sync.WaitGroup
			var mu sync.Mutex
			shown := map[string]string{}
			for i := range 100 {
				wg.Go(func() {
					u := &User{DN: aliceDN, Eligible: true}
					made, err := r.Managing().Create(r.ctx(), u, Request{Label: fmt.Sprintf("device %d", i%10)})
					if err == nil {
						mu.Lock()
						defer mu.Unlock()
						shown[made.Value.Raw] = made.Password
					} else if !isViolation(t, err, "in use") {
						t.Errorf("create: %v", err)
					}
				})
			}
			wg.Wait()
			s := r.stored()
			if len(s.Values) != len(shown) || len(shown) > 10 || control == controlAssertion && len(shown) != 10 {
				t.Fatalf("%d stored, %d shown", len(s.Values), len(shown))
			}
			for _, v := range s.Values {
				if s.conflict(v) != nil || !v.Verify([]byte(shown[v.Raw])) {
					t.Errorf("%v: shown %t", v, shown[v.Raw] != "")
				}
			}
		})
	}
}

// TestMaxUnderConcurrency: of many at once no more than max_per_user get one.
func TestMaxUnderConcurrency(t *testing.T) {
	t.Parallel()
	r := newRig(t, controlAssertion, func(c *config.Config) { c.AppPasswords.MaxPerUser = 5 })
	var wg sync.WaitGroup
	var made atomic.Int32
	for i := range 30 {
		wg.Go(func() {
			_, err := r.Managing().Create(r.ctx(), &User{DN: aliceDN, Eligible: true}, Request{Label: fmt.Sprint("d", i)})
			if err == nil {
				made.Add(1)
			} else if !isViolation(t, err, "already") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 5 || len(r.stored().Values) != 5 {
		t.Errorf("%d made, %d stored", made.Load(), len(r.stored().Values))
	}
}

// script answers the next modifies as the steps say, and those after them as usual.
func (r *rig) script(steps ...func(c *fakeldap.Conn, m wire.Message)) {
	var n atomic.Int32
	r.srv.SetHandler(func(c *fakeldap.Conn, m wire.Message) {
		if m.Op == wire.OpModifyRequest {
			if i := int(n.Add(1)) - 1; i < len(steps) && steps[i] != nil {
				steps[i](c, m)
				return
			}
		}
		r.handle(c, m)
	})
}

func code(n int32) func(c *fakeldap.Conn, m wire.Message) {
	return func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, n) }
}

// TestUnanswered: the connection ends after the modify was sent.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, controlAssertion)
	r.script(func(c *fakeldap.Conn, m wire.Message) { r.dir.Apply(m); c.Close() })
	made, err := r.Managing().Create(r.ctx(), r.alice(), Request{Label: "stored"})
	if err != nil || r.stored().find(made.Value.Raw) == nil {
		t.Errorf("it was stored: %v", err)
	}
	r.script(func(c *fakeldap.Conn, _ wire.Message) { c.Close() })
	made, err = r.Managing().Create(r.ctx(), r.alice(), Request{Label: "not stored"})
	if !errors.Is(err, ErrUnconfirmed) || made.Password != "" || len(r.stored().Values) != 1 {
		t.Errorf("shown and not stored: %v %v", made, err)
	}
	if strings.Contains(err.Error(), "$app$") {
		t.Error(err)
	}
	r.script(func(c *fakeldap.Conn, m wire.Message) { r.dir.Apply(m); c.Close() })
	if _, err := r.Managing().Revoke(r.ctx(), aliceDN, Ref{Label: "stored"}); err != nil || len(r.stored().Values) != 0 {
		t.Errorf("revoke: %v", err)
	}
}

// TestRefusals: what the directory says against a change, and what it leads to.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		steps  []func(c *fakeldap.Conn, m wire.Message)
		code   int32 // of *Refused; 0: it works
		stored int
		class  bool
	}{
		"no rights":              {steps: []func(*fakeldap.Conn, wire.Message){code(50)}, code: 50},
		"class needed":           {steps: []func(*fakeldap.Conn, wire.Message){code(65)}, stored: 1, class: true},
		"class needed by itself": {steps: []func(*fakeldap.Conn, wire.Message){code(65), code(65)}, stored: 1, class: true},
		"class refused":          {steps: []func(*fakeldap.Conn, wire.Message){code(65), code(65), code(50)}, code: 65},
		"class there already":    {steps: []func(*fakeldap.Conn, wire.Message){code(65), code(20)}, stored: 1},
		"exists, for no reason":  {steps: []func(*fakeldap.Conn, wire.Message){code(20)}, code: 20},
		"may not assert":         {steps: []func(*fakeldap.Conn, wire.Message){code(122)}, stored: 1},
		"read-only copy":         {steps: []func(*fakeldap.Conn, wire.Message){code(10)}, code: 10},
		"schema not loaded":      {steps: []func(*fakeldap.Conn, wire.Message){code(17)}, code: 17},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, controlAssertion)
			r.script(c.steps...)
			_, err := r.Managing().Create(r.ctx(), r.alice(), Request{Label: "phone"})
			var refused *Refused
			if c.code == 0 && err != nil || c.code != 0 && (!errors.As(err, &refused) || refused.Code != c.code) {
				t.Errorf("%v", err)
			}
			class := strings.Contains(strings.Join(r.dir.Values(aliceDN, "objectClass"), " "), accountClass)
			if len(r.stored().Values) != c.stored || class != c.class {
				t.Errorf("%d stored, class %t", len(r.stored().Values), class)
			}
		})
	}
}

// TestBetween: somebody else takes the label between the look and the write.
func TestBetween(t *testing.T) {
	t.Parallel()
	for name, control := range map[string]string{"assertion control": controlAssertion, "read again": "1.2.3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, control)
			other := "$app$phone;id=0000$" + aHash
			r.script(func(c *fakeldap.Conn, m wire.Message) {
				body := modifyBody(aliceDN, modification{modAdd, "appPassword", []string{other}})
				if n := r.dir.Apply(wire.Message{Body: body}); n != 0 {
					t.Errorf("the other one: %d", n)
				}
				r.dir.Modify(c, m)
			})
			made, err := r.Managing().Create(r.ctx(), r.alice(), Request{Label: "phone"})
			if !isViolation(t, err, "in use") || made.Password != "" {
				t.Errorf("%v", err)
			}
			if s := r.stored(); len(s.Values) != 1 || s.Values[0].Raw != other {
				t.Errorf("stored: %v", s.Values)
			}
		})
	}
}

// TestThrough: over a client's own link the client's rights count.
func TestThrough(t *testing.T) {
	t.Parallel()
	r := newRig(t, controlAssertion)
	for dn, c := range map[string]struct {
		password string
		code     int32
	}{writerDN: {"writer-password", 0}, readerDN: {"reader-password", 50}} {
		a, link, err := r.up.Bind(r.ctx(), dn, auth.Password(c.password), nil)
		if err != nil || a.Code != 0 {
			t.Fatal(err)
		}
		_, err = r.Through(link).Create(r.ctx(), r.alice(), Request{Label: "phone"})
		var refused *Refused
		if c.code == 0 && err != nil || c.code != 0 && (!errors.As(err, &refused) || refused.Code != c.code) {
			t.Errorf("%s: %v", dn, err)
		}
		if _, err := r.Managing().RevokeAll(r.ctx(), aliceDN, func(*secrets.Value) bool { return true }); err != nil {
			t.Error(err)
		}
		r.up.Release(link)
	}
}

// TestNoIdentity: a refused or missing identity for writes is said so, and its password is not.
func TestNoIdentity(t *testing.T) {
	t.Parallel()
	r := newRig(t, controlAssertion, func(c *config.Config) { c.Upstream.ManagePassword = "wrong-canary" })
	_, err := r.Managing().Create(r.ctx(), r.alice(), Request{Label: "phone"})
	if !errors.Is(err, backend.ErrUnavailable) || !strings.Contains(err.Error(), "manage_dn") || strings.Contains(err.Error(), "wrong-canary") {
		t.Error(err)
	}
}

// TestRemoveTOTP: only second factors go, and only those that are named.
func TestRemoveTOTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, controlAssertion)
	other := strings.Replace(aTOTP, "GEZDGNBVGY3TQOJQGEZDGNBV", "MFRGGZDFMZTWQ2LKNNWG23TP", 1)
	if _, err := r.Managing().Add(r.ctx(), aliceDN, [][]byte{[]byte("$app$a$" + aHash), []byte(aTOTP), []byte(other)}); err != nil {
		t.Fatal(err)
	}
	n, err := r.Managing().RemoveTOTP(r.ctx(), aliceDN, false, func(v *secrets.Value) bool { return v.Raw == aTOTP })
	if s := r.stored(); err != nil || n != 1 || len(s.Values) != 2 || s.has(aTOTP) || !s.has(other) {
		t.Errorf("%d removed, %v: %v", n, err, r.stored().Values)
	}
	if n, err = r.Managing().RemoveTOTP(r.ctx(), aliceDN, false, func(*secrets.Value) bool { return true }); err != ErrLastFactor {
		t.Errorf("the last one: %d, %v", n, err)
	}
	n, err = r.Managing().RemoveTOTP(r.ctx(), aliceDN, true, func(*secrets.Value) bool { return true })
	if s := r.stored(); err != nil || n != 1 || len(s.Values) != 1 || s.Values[0].Kind != secrets.App {
		t.Errorf("%d removed, %v", n, err)
	}
}
