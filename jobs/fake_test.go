package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"appbind/auth"
	"appbind/history"
	"appbind/mail"
	"appbind/manage"
	"appbind/secrets"
)

const (
	day = 24 * time.Hour
	// canary is the hash in every stored value: it is nowhere else.
	canary = "{SSHA256}Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"
)

var errDown = errors.New("the store is down")

// database is a fake of the store that instances share; the clock is that of the test.
type database struct {
	mu      sync.Mutex // guards all fields
	fault   error      // of every question
	fails   map[string]error
	leases  map[string]*lease
	notices map[history.Notice]*history.NoticeState
	revoked []history.Change
	purges  []time.Time
	opened  int
	ahead   time.Duration // of its clock
}

type lease struct {
	until, due, ok time.Time
	lease          history.Lease
}

func newDatabase() *database {
	return &database{leases: map[string]*lease{}, notices: map[history.Notice]*history.NoticeState{}, fails: map[string]error{}}
}

func (d *database) now() time.Time { return time.Now().Add(d.ahead) }

// order makes what a test did before it let time pass happen before what a runner does then: time alone does not.
var order sync.Mutex

func inOrder() {
	order.Lock()
	defer order.Unlock()
}

// ask locks, and says whether the question is answered.
func (d *database) ask(what string) (func(), error) {
	inOrder()
	d.mu.Lock()
	if d.fails[what] != nil {
		return d.mu.Unlock, d.fails[what]
	}
	return d.mu.Unlock, d.fault
}

func (d *database) set(what string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if what == "" {
		d.fault = err
		return
	}
	d.fails[what] = err
}

func (d *database) open(context.Context) (store, error) {
	done, err := d.ask("open")
	defer done()
	if err != nil {
		return nil, err
	}
	d.opened++
	return d, nil
}

func (d *database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened--
	return nil
}

func (d *database) Jobs(context.Context) (map[string]history.JobState, error) {
	done, err := d.ask("jobs")
	defer done()
	states := map[string]history.JobState{}
	for name, l := range d.leases {
		states[name] = history.JobState{Held: l.until.After(d.now()), Due: !l.due.After(d.now()), Succeeded: l.ok}
	}
	return states, err
}

func (d *database) Acquire(_ context.Context, job, owner string, lasts time.Duration, force bool) (history.Lease, error) {
	done, err := d.ask("acquire")
	defer done()
	l := d.leases[job]
	switch {
	case err != nil:
		return history.Lease{}, err
	case l == nil:
		l = &lease{}
		d.leases[job] = l
	case l.until.After(d.now()), l.due.After(d.now()) && !force:
		return history.Lease{}, history.ErrHeld
	}
	// The number of a lease is not to be seen from here; a name of its own does as well.
	l.lease = history.Lease{Job: job, Owner: fmt.Sprintf("%s %d", owner, time.Now().UnixNano()), Now: d.now()}
	l.until = d.now().Add(lasts)
	return l.lease, nil
}

// holds reports whether a lease holds.
func (d *database) holds(l history.Lease) bool {
	return d.leases[l.Job] != nil && d.leases[l.Job].lease == l && d.leases[l.Job].until.After(d.now())
}

func (d *database) Renew(_ context.Context, l history.Lease, lasts time.Duration) error {
	done, err := d.ask("renew")
	defer done()
	if err != nil {
		return err
	}
	if !d.holds(l) {
		return history.ErrLost
	}
	d.leases[l.Job].until = d.now().Add(lasts)
	return nil
}

func (d *database) End(_ context.Context, l history.Lease, pause time.Duration, succeeded bool) error {
	done, err := d.ask("end")
	defer done()
	row := d.leases[l.Job]
	switch {
	case err != nil:
		return err
	case row.lease != l:
		return history.ErrLost
	}
	row.until, row.due = time.Time{}, d.now().Add(pause)
	if succeeded {
		row.ok = d.now()
	}
	return nil
}

func (d *database) Notices(_ context.Context, since time.Time) (map[history.Notice]history.NoticeState, error) {
	done, err := d.ask("notices")
	defer done()
	list := map[history.Notice]history.NoticeState{}
	for n, st := range d.notices {
		if !n.Expires.Before(since) {
			list[n] = *st
		}
	}
	return list, err
}

func (d *database) Claim(_ context.Context, l history.Lease, later time.Duration, list ...history.Notice) error {
	done, err := d.ask("claim")
	defer done()
	if err != nil {
		return err
	}
	if !d.holds(l) {
		return history.ErrLost
	}
	for _, n := range list {
		st := d.notices[n.Key()]
		if st == nil {
			st = &history.NoticeState{}
			d.notices[n.Key()] = st
		}
		st.Tries++
		st.Later = d.now().Add(later)
	}
	return nil
}

func (d *database) Settle(_ context.Context, outcome history.Outcome, later time.Duration, list ...history.Notice) error {
	done, err := d.ask("settle")
	defer done()
	if err != nil {
		return err
	}
	for _, n := range list {
		st := d.notices[n.Key()]
		if outcome != history.SentMaybe {
			st.Tries--
		}
		st.Later, st.Done = d.now().Add(later), st.Done || outcome == history.Sent || outcome == history.GivenUp
	}
	return nil
}

func (d *database) ForgetNotices(_ context.Context, before time.Time) error {
	done, err := d.ask("forget")
	defer done()
	for n := range d.notices {
		if err == nil && n.Expires.Before(before) {
			delete(d.notices, n)
		}
	}
	return err
}

func (d *database) Purge(_ context.Context, now time.Time, retention time.Duration) (int64, error) {
	done, err := d.ask("purge")
	defer done()
	if err != nil {
		return 0, err
	}
	d.purges = append(d.purges, now.Add(-retention))
	return 7, nil
}

func (d *database) Revoked(_ context.Context, c history.Change) error {
	done, err := d.ask("revoked")
	defer done()
	d.revoked = append(d.revoked, c)
	return err
}

// ldap is a fake directory.
type ldap struct {
	mu       sync.Mutex // guards all fields
	fault    error      // of every question
	refuses  map[string]error
	users    []*manage.User
	people   map[string]person
	onRemove func(dn string) // is called before
}

func (l *ldap) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = err
}

// add adds a user with app passwords, LABEL=EXPIRY or LABEL=EXPIRY=CREATED.
func (l *ldap) add(name string, values ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	dn := "uid=" + name
	l.users = append(l.users, &manage.User{Key: "entryuuid:" + name, DN: dn, Eligible: true, Set: &manage.Set{}})
	l.people[dn] = person{Address: name + "@example.org", Name: strings.ToUpper(name)}
	for _, v := range values {
		l.give(name, v)
	}
}

// selector replaces what Crockford's base32 lacks.
var selector = strings.NewReplacer("o", "0", "l", "1", "i", "1", "u", "v")

// give gives a user one more; the lock is held, or nobody else is there yet.
func (l *ldap) give(name, value string) {
	label, rest, _ := strings.Cut(value, "=")
	expires, created, _ := strings.Cut(rest, "=")
	raw := "$app$" + label + ";id=" + selector.Replace((label + "0000")[:4])
	if expires != "" {
		raw += ";exp=" + expires
	}
	if created != "" {
		raw += ";crt=" + created
	}
	for _, u := range l.users {
		if u.DN == "uid="+name {
			u.Set.Values = append(u.Set.Values, secrets.Parse([]byte(raw+"$"+canary)))
		}
	}
}

func (l *ldap) Each(_ context.Context, f func(u *manage.User) error) error {
	inOrder()
	l.mu.Lock()
	users, fault := slices.Clone(l.users), l.fault
	l.mu.Unlock()
	if fault != nil {
		return fault
	}
	for _, u := range users {
		l.mu.Lock()
		copied := *u
		copied.Set = &manage.Set{Values: slices.Clone(u.Set.Values)}
		l.mu.Unlock()
		if err := f(&copied); err != nil {
			return err
		}
	}
	return nil
}

func (l *ldap) Remove(_ context.Context, dn string, which func(v *secrets.Value) bool) (gone []*secrets.Value, err error) {
	inOrder()
	if l.onRemove != nil {
		l.onRemove(dn)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.fault, l.refuses[dn]); err != nil {
		return nil, err
	}
	for _, u := range l.users {
		if u.DN != dn {
			continue
		}
		u.Set.Values = slices.DeleteFunc(u.Set.Values, func(v *secrets.Value) bool {
			if which(v) {
				gone = append(gone, v)
			}
			return which(v)
		})
		return gone, nil
	}
	return nil, auth.ErrNotFound
}

func (l *ldap) Person(_ context.Context, dn string) (person, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.people[dn]
	if !ok && l.fault == nil {
		return p, auth.ErrNotFound
	}
	return p, l.fault
}

// left are the labels that a user still has.
func (l *ldap) left(name string) (labels []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range l.users {
		if u.DN == "uid="+name {
			for _, v := range u.Set.Values {
				labels = append(labels, v.Label)
			}
		}
	}
	return labels
}

// postman is a fake mail server.
type postman struct {
	mu     sync.Mutex // guards the fields
	answer func(m *mail.Message) error
	mails  []*mail.Message // taken
}

func (p *postman) Send(_ context.Context, m *mail.Message) error {
	inOrder()
	p.mu.Lock()
	answer := p.answer
	p.mu.Unlock()
	err := error(nil)
	if answer != nil {
		err = answer(m)
	}
	if err == nil || errors.Is(err, mail.ErrUncertain) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mails = append(p.mails, m)
	}
	return err
}

func (p *postman) set(answer func(m *mail.Message) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *postman) Try(context.Context) error { return nil }

// to are the addresses that mails went to.
func (p *postman) to() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.mails {
		list = append(list, m.To)
	}
	return list
}

// world is all that jobs work with.
type world struct {
	t      *testing.T
	db     *database
	ldap   *ldap
	post   *postman
	log    *bytes.Buffer
	counts *Counts
	events diary
	off    map[string]bool
}

// inWorld runs a test in a time of its own, which begins at midnight of 1 January 2000.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, db: newDatabase(), ldap: &ldap{people: map[string]person{}, refuses: map[string]error{}}, post: &postman{},
			log: &bytes.Buffer{}, counts: &Counts{}, off: map[string]bool{}}
		test(t, w)
		synctest.Wait()
		if w.db.opened != 0 {
			t.Errorf("%d stores are open", w.db.opened)
		}
		said := w.log.String() + fmt.Sprint(w.events, w.db.notices, w.db.revoked)
		for _, m := range w.post.mails {
			said += fmt.Sprint(*m)
		}
		if strings.Contains(said, canary) || strings.Contains(said, "Y2FuYXJ5") || strings.Contains(said, "$app$") {
			t.Errorf("a stored value leaks:\n%s", said)
		}
	})
}

// runner makes a runner of an instance.
func (w *world) runner(change func(o *options)) *Runner {
	w.t.Helper()
	texts, err := mail.LoadTexts("", "en", time.UTC)
	if err != nil {
		w.t.Fatal(err)
	}
	o := options{
		on: func(job string) bool { return !w.off[job] }, interval: time.Hour, removeAfter: 28 * day, notifyBefore: 14 * day, retention: 90 * day,
		open: w.db.open, dir: w.ldap, mail: w.post, texts: texts, events: &w.events,
		counts: w.counts, now: time.Now, log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	if change != nil {
		change(&o)
	}
	return newRunner(o)
}

// started is a runner that runs until the test ends it.
func (w *world) started(change func(o *options)) (r *Runner, end func()) {
	w.t.Helper()
	r = w.runner(change)
	r.Start()
	return r, func() { r.Close(context.Background()) }
}

// pass lets time pass.
func pass(d time.Duration) {
	inOrder()
	<-time.After(d)
	synctest.Wait()
}

// in is the time that is so far away, as values are written.
func in(d time.Duration) string { return time.Now().Add(d).UTC().Format("20060102150405Z") }

// diary is what the jobs told.
type diary []string

func (d *diary) note(what string, u *manage.User, v *secrets.Value) {
	*d = append(*d, what+" "+u.DN+" "+v.Label)
}

func (d *diary) Expired(_ time.Time, u *manage.User, v *secrets.Value)  { d.note("expired", u, v) }
func (d *diary) Expiring(_ time.Time, u *manage.User, v *secrets.Value) { d.note("expiring", u, v) }
func (d *diary) Purged(_ time.Time, rows int64)                         { *d = append(*d, fmt.Sprint("purged ", rows)) }

// of are the entries of a kind.
func (d diary) of(what string) (list []string) {
	for _, e := range d {
		if strings.HasPrefix(e, what+" ") {
			list = append(list, strings.TrimPrefix(e, what+" "))
		}
	}
	return list
}
