package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"appbind/backend"
	"appbind/config"
	"appbind/manage"
	"appbind/secrets"
)

// outcome is what a writer knows of what it did.
type outcome int

const (
	no    outcome = iota // refused, or nothing was sent
	done                 // confirmed
	maybe                // sent, and not answered
)

// life is one app password in the model.
type life struct {
	uid, label       string
	created, revoked outcome
	password         string // what was shown; "" for the hashed values of ldapmodify
}

// writerKind is one of the three ways to make and revoke app passwords.
type writerKind interface {
	create(uid, label string) (password string, o outcome, err error)
	revoke(uid, label string) (outcome, error)
	close() // when it is done
}

// throughAppbind is a client of appbind that connects anew when appbind was killed.
type throughAppbind struct {
	uri    string
	dn, pw string // "": the helpdesk's
	conn   *ldap.Conn
}

// with runs an operation; a lost connection makes its outcome unknown, one that is not there did nothing.
func (p *throughAppbind) with(f func(c *ldap.Conn) error) (outcome, error) {
	if p.conn == nil {
		c, err := ldap.DialURL(p.uri)
		if err != nil {
			return no, nil
		}
		c.SetTimeout(patience)
		if p.dn == "" {
			p.dn, p.pw = helpdeskDN, helpdeskPW
		}
		if c.Bind(p.dn, p.pw) != nil {
			c.Close()
			return no, nil
		}
		p.conn = c
	}
	err := f(p.conn)
	switch code := codeOf(err); {
	case err == nil:
		return done, nil
	case code == -1 || code == ldap.LDAPResultUnavailable:
		p.conn.Close()
		p.conn = nil
		return maybe, nil
	case code == ldap.LDAPResultBusy:
		return no, nil
	}
	return no, err
}

// close ends the client.
func (p *throughAppbind) close() {
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

func (p *throughAppbind) revoke(uid, label string) (outcome, error) {
	return p.with(func(c *ldap.Conn) error {
		m := ldap.NewModifyRequest(userDN(uid), nil)
		m.Delete("appPassword", []string{"$app$" + label})
		return c.Modify(m)
	})
}

// byModify writes as ldapmodify does, byPassword as ldappasswd, byManager as the command line.
type (
	byModify   struct{ throughAppbind }
	byPassword struct{ throughAppbind }
	byManager  struct {
		m   *manage.Manager
		ctx context.Context
	}
)

func (b *byModify) create(uid, label string) (string, outcome, error) {
	g, err := secrets.Generate(nil)
	if err != nil {
		return "", no, err
	}
	o, err := b.with(func(c *ldap.Conn) error {
		m := ldap.NewModifyRequest(userDN(uid), nil)
		m.Add("appPassword", []string{"$app$" + label + "$" + g.Password})
		return c.Modify(m)
	})
	return g.Password, o, err
}

func (b *byPassword) create(uid, label string) (password string, o outcome, err error) {
	o, err = b.with(func(c *ldap.Conn) error {
		r, err := c.PasswordModify(ldap.NewPasswordModifyRequest("appPasswordLabel="+label+","+userDN(uid), "", ""))
		if err == nil {
			password = r.GeneratedPassword
		}
		return err
	})
	return password, o, err
}

func (b *byManager) create(uid, label string) (string, outcome, error) {
	made, err := b.m.Managing().Create(b.ctx, &manage.User{DN: userDN(uid), Eligible: true}, manage.Request{Label: label})
	o, err := managed(err)
	return made.Password, o, err
}

func (b *byManager) revoke(uid, label string) (outcome, error) {
	_, err := b.m.Managing().Revoke(b.ctx, userDN(uid), manage.Ref{Label: label})
	return managed(err)
}

// managed is the outcome of an operation of package manage.
func managed(err error) (outcome, error) {
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, manage.ErrUnconfirmed):
		return maybe, nil
	}
	return no, err
}

func (*byManager) close() {}

// newManager makes what the command line works with.
func newManager(t *testing.T, yaml string) *manage.Manager {
	t.Helper()
	file := shortDir(t) + "/appbind.yaml"
	write(t, file, yaml)
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	up, err := backend.New(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	up.Start(context.Background())
	t.Cleanup(up.Close)
	return manage.New(cfg, up, false, time.Now)
}

// TestThreeWriters: three sorts of writers make a thousand app passwords of the
// same users at one time and revoke most, some by their entries, while appbind is killed twenty times. Then the
// directory is held against what the writers were told: nothing that was
// confirmed is lost, nothing that was revoked is back, and every password that
// was shown and not revoked is stored.
func TestThreeWriters(t *testing.T) {
	t.Parallel()
	const operations, kills = 1000, 20
	s := startSlapd(t, slapdOptions{})
	listener := fmt.Sprintf("  - url: ldap://127.0.0.1:%d\n", freePort(t))
	yaml := managing(t, s, listener, "max_per_user: 1000") + fmt.Sprintf("managers: [%q]\n", helpdeskDN)
	a := startAppbind(t, yaml)
	uri := a.uri()
	manager := newManager(t, yaml)
	users := []string{"alice", "bob", "dave"}

	var next, made atomic.Int32
	var mu sync.Mutex
	var model []*life
	var writers sync.WaitGroup
	for w := range 6 {
		kind := []writerKind{&byModify{throughAppbind{uri: uri}}, &byPassword{throughAppbind{uri: uri}}, &byManager{m: manager, ctx: t.Context()}}[w%3]
		if w == 4 {
			kind = &byPasswordAndEntry{byPassword{throughAppbind{uri: uri}}}
		}
		writers.Go(func() {
			defer kind.close()
			retry := time.NewTicker(10 * time.Millisecond)
			defer retry.Stop()
			for int(made.Load()) < operations && !t.Failed() {
				n := int(next.Add(1))
				e := &life{uid: users[n%len(users)], label: fmt.Sprintf("d%d", n)}
				e.live(t, kind, n)
				mu.Lock()
				model = append(model, e)
				mu.Unlock()
				if e.created == no {
					<-retry.C // appbind is not there
					continue
				}
				made.Add(1)
			}
		})
	}
	for k := range kills {
		eventually(t, "the writers get on", func() bool { return t.Failed() || int(made.Load()) >= (k+1)*operations/(kills+1) })
		a.stop(syscall.SIGKILL)
		a = startAppbind(t, yaml)
	}
	writers.Wait()
	checkModel(t, s.stored, users, model)
	for _, e := range model {
		if e.created == done && e.revoked == no && e.password != "" {
			expectBind(t, uri, userDN(e.uid), e.password, 0)
			break
		}
	}
}

// TestOneLabel: all writers want the same labels; each is given out once.
func TestOneLabel(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	yaml := managing(t, s, "", "max_per_user: 1000")
	a, b := startAppbind(t, yaml), startAppbind(t, yaml)
	manager := newManager(t, yaml)
	const labels = 20
	var given [labels]atomic.Int32
	var writers sync.WaitGroup
	for w := range 6 {
		uri := []string{a.uri(), b.uri()}[w%2]
		kind := []writerKind{&byModify{throughAppbind{uri: uri}}, &byPassword{throughAppbind{uri: uri}}, &byManager{m: manager, ctx: t.Context()}}[w%3]
		writers.Go(func() {
			defer kind.close()
			for n := range labels {
				_, o, err := kind.create("alice", fmt.Sprintf("d%d", n))
				var v *manage.Violation
				if err != nil && codeOf(err) != ldap.LDAPResultConstraintViolation && !errors.As(err, &v) || o == maybe {
					t.Errorf("%T: %v", kind, err)
				}
				if o == done {
					given[n].Add(1)
				}
			}
		})
	}
	writers.Wait()
	for n := range given {
		if got := given[n].Load(); got != 1 {
			t.Errorf("label d%d was given out %d times", n, got)
		}
	}
	if got := s.stored("alice"); len(got) != labels {
		t.Errorf("%d values for %d labels", len(got), labels)
	}
}

// live is the life of one app password: it is made, and two in three are revoked.
func (e *life) live(t *testing.T, kind writerKind, n int) {
	var err error
	if e.password, e.created, err = kind.create(e.uid, e.label); err != nil {
		t.Errorf("create %s of %s with %T: %v", e.label, e.uid, kind, err)
	}
	if e.created != done || n%3 == 0 {
		return
	}
	if e.revoked, err = kind.revoke(e.uid, e.label); err != nil {
		t.Errorf("revoke %s of %s with %T: %v", e.label, e.uid, kind, err)
	}
}

// checkModel holds the directory against what the writers know.
func checkModel(t *testing.T, values func(uid string) []string, users []string, model []*life) {
	t.Helper()
	stored := map[string]*secrets.Value{}
	for _, uid := range users {
		for _, raw := range values(uid) {
			v := secrets.Parse([]byte(raw))
			if stored[uid+" "+v.Label] != nil {
				t.Errorf("%s: two of the label %s", uid, v.Label)
			}
			stored[uid+" "+v.Label] = v
		}
	}
	var counts [3]int
	for _, e := range model {
		counts[e.created]++
		v := stored[e.uid+" "+e.label]
		delete(stored, e.uid+" "+e.label)
		switch {
		case e.created == done && e.revoked == no && v == nil:
			t.Errorf("%s of %s is lost", e.label, e.uid)
		case e.revoked == done && v != nil:
			t.Errorf("%s of %s was revoked and is there", e.label, e.uid)
		case e.created == no && v != nil:
			t.Errorf("%s of %s was refused and is there", e.label, e.uid)
		case e.created == done && v != nil && !v.Verify([]byte(e.password)):
			t.Errorf("%s of %s: the password that was shown is not the one that is stored", e.label, e.uid)
		}
	}
	if len(stored) > 0 {
		t.Errorf("%d values that nobody made", len(stored))
	}
	t.Logf("made %d, unconfirmed %d, not sent %d; left %s", counts[done], counts[maybe], counts[no], strings.Join(users, " "))
}
