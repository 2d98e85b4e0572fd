package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"appbind/config"
	"appbind/manage"
	"appbind/secrets"
)

// revokeOptions are the flags of revoke and purge.
type revokeOptions struct {
	desk
	user        string
	ref         manage.Ref
	all         bool
	expired     bool
	unused      string
	idle        time.Duration
	yes, dryRun bool
	grace       string
	past        *past // nil: nobody has asked the history
}

func revokeCommand(s streams) *cobra.Command {
	o := &revokeOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "revoke -c FILE {--user NAME {--label LABEL | --id ID | --all | --expired} | [--user NAME] --unused TIME}",
		Short: "Revoke app passwords",
		Long: `Delete app passwords: logins with them fail from then on. It asks first, unless
--yes is given.

With --unused, those that nobody has logged in with for a time, of one user or of
all. The history tells; what it cannot know is left alone: an app password of
which no use is known is revoked only where it was made before that time, and the
history goes back as far. Several appbinds must share one history for this.`,
		Example: `  appbind passwords revoke -c /etc/appbind/appbind.yaml --user alice --label phone
  appbind passwords revoke -c /etc/appbind/appbind.yaml --user alice --all --yes
  appbind passwords revoke -c /etc/appbind/appbind.yaml --unused 180d --dry-run`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, o.revoke) },
	}
	o.flags(c)
	f := c.Flags()
	f.StringVarP(&o.user, "user", "u", "", "the user: a DN, or a `NAME` that users.name_filter finds (required but for --unused)")
	refFlags(c, &o.desk, &o.user, &o.ref, false)
	f.BoolVar(&o.all, "all", false, "all app passwords of the user")
	f.BoolVar(&o.expired, "expired", false, "those that have expired")
	f.StringVar(&o.unused, "unused", "", "those not used for this `TIME`, such as 180d")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be revoked, and do nothing")
	also(c, func() (err error) {
		n := 0
		for _, given := range []bool{o.ref != manage.Ref{}, o.all, o.expired, o.unused != ""} {
			if given {
				n++
			}
		}
		switch {
		case n != 1:
			return fmt.Errorf("one of --label or --id, --all, --expired, --unused is required (see '%s --help')", c.CommandPath())
		case o.user == "" && o.unused == "":
			return fmt.Errorf("--user is required (see '%s --help')", c.CommandPath())
		case o.unused != "":
			o.idle, err = parsePeriod("unused", o.unused)
		}
		return err
	})
	return c
}

// sweep is app passwords that are to go.
type sweep struct {
	done   string // what is done to them
	users  []*manage.User
	which  func(u *manage.User, v *secrets.Value) bool
	handle string       // of the only one; "": those of which
	sure   func() error // called when the administrator has agreed; nil: nothing is to be looked at again
	now    time.Time
}

// add adds a user, if any of his app passwords is to go.
func (s *sweep) add(u *manage.User) {
	if len(s.of(u)) > 0 {
		s.users = append(s.users, u)
	}
}

// of are the app passwords of a user that are to go.
func (s *sweep) of(u *manage.User) []*secrets.Value {
	return chosen(u, func(v *secrets.Value) bool { return s.which(u, v) })
}

func (o *revokeOptions) revoke(ctx context.Context) error {
	s := &sweep{done: "revoked", now: o.m.Now()}
	if o.idle > 0 {
		return o.revokeUnused(ctx, s)
	}
	u, err := o.find(ctx, o.user)
	if err != nil {
		return err
	}
	s.users = []*manage.User{u}
	s.which = func(_ *manage.User, v *secrets.Value) bool { return o.all || expiredFor(v, 0, s.now) }
	if o.ref != (manage.Ref{}) {
		one, err := u.Set.Find(o.ref)
		if err != nil {
			return err
		}
		// By name and not by value: one that was renewed meanwhile is the same app password.
		s.handle = manage.Handle(one)
		s.which = func(_ *manage.User, v *secrets.Value) bool { return v == one }
	}
	return o.sweep(ctx, s)
}

// revokeUnused revokes what the history knows to be unused. It is asked once more after the administrator was: who has
// logged in meanwhile keeps his.
func (o *revokeOptions) revokeUnused(ctx context.Context, s *sweep) (err error) {
	since := s.now.Add(-o.idle)
	if o.past, err = o.pastOf(ctx, "", since); err != nil {
		return err
	}
	s.which = func(u *manage.User, v *secrets.Value) bool {
		unused, ageless := o.past.unused(u, v, since)
		return unused && !ageless
	}
	s.sure = func() (err error) {
		o.past, err = o.pastOf(ctx, "", since)
		return err
	}
	left := 0
	err = o.each(ctx, o.user, func(u *manage.User) error {
		for _, v := range chosen(u, all) {
			if unused, ageless := o.past.unused(u, v, since); unused && ageless {
				left++
			}
		}
		s.add(u)
		return nil
	})
	if err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(o.err, "left alone, since neither a use nor the age is known: %s (list --unused shows them)\n", count(left, "app password"))
	}
	return o.sweep(ctx, s)
}

// sweep shows what is to go, asks where it must, and deletes it.
func (o *revokeOptions) sweep(ctx context.Context, s *sweep) error {
	rows := []row{}
	for _, u := range s.users {
		rows = append(rows, o.describe(u, s.of(u), s.now)...)
	}
	if o.dryRun || len(rows) == 0 {
		return o.report("would be "+s.done, rows, s.now)
	}
	if !o.yes {
		if err := o.ask(s.users, rows, s.now); err != nil {
			return err
		}
		if s.sure != nil {
			if err := s.sure(); err != nil {
				return err
			}
		}
	}
	rows, failed := []row{}, 0
	p := newProgress(o.err, s.done, len(s.users))
	for _, u := range s.users {
		gone, err := o.remove(ctx, u, s)
		switch {
		case err != nil && (len(s.users) == 1 || ctx.Err() != nil):
			p.end()
			return err
		case err != nil:
			failed++
			fmt.Fprintf(o.err, "%s: %v\n", printable(u.DN), err)
		default:
			rows = append(rows, o.describe(u, gone, s.now)...)
		}
		p.step()
	}
	p.end()
	if err := o.report(s.done, rows, s.now); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("the app passwords of %s could not be %s", count(failed, "user"), s.done)
	}
	return nil
}

// remove deletes what is to go of one user, in one modify.
func (o *revokeOptions) remove(ctx context.Context, u *manage.User, s *sweep) ([]*secrets.Value, error) {
	if s.handle == "" {
		return o.managing().RevokeAll(ctx, u.DN, func(v *secrets.Value) bool { return s.which(u, v) })
	}
	v, err := o.managing().Revoke(ctx, u.DN, manage.Ref{ID: s.handle})
	return []*secrets.Value{v}, err
}

// chosen are the app passwords of a user for which which holds.
func chosen(u *manage.User, which func(v *secrets.Value) bool) (list []*secrets.Value) {
	for _, v := range u.Set.Values {
		if v.Kind == secrets.App && which(v) {
			list = append(list, v)
		}
	}
	return list
}

// all is every app password.
func all(*secrets.Value) bool { return true }

// expiredFor reports whether a value expired longer ago than grace.
func expiredFor(v *secrets.Value, grace time.Duration, now time.Time) bool {
	return !v.Expires.IsZero() && !now.Before(v.Expires.Add(grace))
}

// describe makes rows of values.
func (o *revokeOptions) describe(u *manage.User, values []*secrets.Value, now time.Time) []row {
	rows := []row{}
	for _, v := range values {
		r := rowOf(u, v, now)
		o.past.addTo(&r, u, v)
		rows = append(rows, r)
	}
	return rows
}

// errDeclined ends a command that was not confirmed.
var errDeclined = errors.New("not confirmed: nothing was revoked (--yes does not ask)")

// ask asks on standard error and reads the answer; anything but yes is no.
func (o *revokeOptions) ask(users []*manage.User, rows []row, now time.Time) error {
	if err := table(o.err, rows, len(users) > 1, now); err != nil {
		return err
	}
	whose := count(len(users), "user")
	if len(users) == 1 {
		whose = printable(users[0].DN)
	}
	fmt.Fprintf(o.err, "Revoke %s of %s? [y/N] ", count(len(rows), "app password"), whose)
	answer, _ := bufio.NewReader(o.in).ReadString('\n') // an error is no answer, which is no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errDeclined
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// report shows what was done to rows.
func (o *revokeOptions) report(done string, rows []row, now time.Time) error {
	switch {
	case o.json:
		return o.print(rows)
	case len(rows) == 0:
		_, err := fmt.Fprintln(o.out, "no app password to revoke")
		return err
	}
	fmt.Fprintf(o.out, "%s: %s\n", done, count(len(rows), "app password"))
	return table(o.out, rows, true, now)
}

// defaultGrace is how long an expired value is kept, to be seen as such.
const defaultGrace = "28d"

func purgeCommand(s streams) *cobra.Command {
	o := &revokeOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "purge -c FILE",
		Short: "Delete app passwords that expired long ago",
		Long: `Delete app passwords that expired longer ago than --grace, of all users. Until then
they are listed as expired, and can be renewed.`,
		Example: "  appbind passwords purge -c /etc/appbind/appbind.yaml --dry-run",
		RunE:    func(c *cobra.Command, _ []string) error { return o.run(c, o.purge) },
	}
	o.flags(c)
	c.Flags().StringVarP(&o.user, "user", "u", "", "of this user alone: a DN, or a `NAME` that users.name_filter finds")
	c.Flags().StringVar(&o.grace, "grace", defaultGrace, "`TIME` after the expiry")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be deleted, and do nothing")
	return c
}

func (o *revokeOptions) purge(ctx context.Context) error {
	grace, err := config.ParseDuration(o.grace) // 0 too
	if err != nil {
		return &usageError{fmt.Errorf("--grace %s: not a time such as 28d", o.grace)}
	}
	now := o.m.Now()
	s := &sweep{done: "purged", now: now, which: func(_ *manage.User, v *secrets.Value) bool { return expiredFor(v, time.Duration(grace), now) }}
	// All are listed first: a search that is read while its entries are changed may show some twice or not at all.
	if err := o.each(ctx, o.user, func(u *manage.User) error { s.add(u); return nil }); err != nil {
		return err
	}
	o.yes = true // these can log nobody in
	return o.sweep(ctx, s)
}
