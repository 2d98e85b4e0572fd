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
	yes, dryRun bool
	grace       string
}

func revokeCommand(s streams) *cobra.Command {
	o := &revokeOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "revoke -c FILE --user NAME {--label LABEL | --id ID | --all | --expired}",
		Short: "Revoke app passwords of a user",
		Long: `Delete app passwords of a user: logins with them fail from then on. It asks first,
unless --yes is given.`,
		Example: `  appbind passwords revoke -c /etc/appbind/appbind.yaml --user alice --label phone
  appbind passwords revoke -c /etc/appbind/appbind.yaml --user alice --all --yes`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, o.revoke) },
	}
	o.flags(c)
	userFlag(c, &o.user)
	refFlags(c, &o.desk, &o.user, &o.ref, false)
	f := c.Flags()
	f.BoolVar(&o.all, "all", false, "all app passwords of the user")
	f.BoolVar(&o.expired, "expired", false, "those that have expired")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be revoked, and do nothing")
	also(c, func() error {
		n := 0
		for _, given := range []bool{o.ref != manage.Ref{}, o.all, o.expired} {
			if given {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("one of --label or --id, --all, --expired is required (see '%s --help')", c.CommandPath())
		}
		return nil
	})
	return c
}

func (o *revokeOptions) revoke(ctx context.Context) error {
	u, err := o.find(ctx, o.user)
	if err != nil {
		return err
	}
	now := o.m.Now()
	which := func(v *secrets.Value) bool { return o.all || expiredFor(v, 0, now) }
	one, err := u.Set.Find(o.ref)
	doomed := []*secrets.Value{one}
	switch {
	case o.ref == manage.Ref{}:
		doomed = chosen(u, which)
	case err != nil:
		return err
	}
	rows := describe(u, doomed, now)
	if o.dryRun || len(rows) == 0 {
		return o.report("would be revoked", rows, now)
	}
	if !o.yes {
		if err := o.ask(u, rows, now); err != nil {
			return err
		}
	}
	// By name and not by value: one that was renewed meanwhile is the same app password.
	if o.ref != (manage.Ref{}) {
		doomed[0], err = o.m.Managing().Revoke(ctx, u.DN, manage.Ref{ID: manage.Handle(one)})
	} else {
		doomed, err = o.m.Managing().RevokeAll(ctx, u.DN, which)
	}
	if err != nil {
		return err
	}
	return o.report("revoked", describe(u, doomed, now), now)
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

// expiredFor reports whether a value expired longer ago than grace.
func expiredFor(v *secrets.Value, grace time.Duration, now time.Time) bool {
	return !v.Expires.IsZero() && !now.Before(v.Expires.Add(grace))
}

// describe makes rows of values.
func describe(u *manage.User, values []*secrets.Value, now time.Time) []row {
	rows := []row{}
	for _, v := range values {
		rows = append(rows, rowOf(u, v, now))
	}
	return rows
}

// errDeclined ends a command that was not confirmed.
var errDeclined = errors.New("not confirmed: nothing was revoked (--yes does not ask)")

// ask asks on standard error and reads the answer; anything but yes is no.
func (o *revokeOptions) ask(u *manage.User, rows []row, now time.Time) error {
	if err := table(o.err, rows, false, now); err != nil {
		return err
	}
	fmt.Fprintf(o.err, "Revoke %s of %s? [y/N] ", count(len(rows), "app password"), printable(u.DN))
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
	grace, err := config.ParseDuration(o.grace)
	if err != nil || grace < 0 {
		return &usageError{fmt.Errorf("--grace %s: not a time such as 28d", o.grace)}
	}
	now := o.m.Now()
	old := func(v *secrets.Value) bool { return expiredFor(v, time.Duration(grace), now) }
	// All are listed first: a search that is read while its entries are changed may show some twice or not at all.
	var users []*manage.User
	if err := o.each(ctx, o.user, func(u *manage.User) error {
		if len(chosen(u, old)) > 0 {
			users = append(users, u)
		}
		return nil
	}); err != nil {
		return err
	}
	rows, failed := []row{}, 0
	p := newProgress(o.err, "purged", len(users))
	for _, u := range users {
		gone := chosen(u, old)
		if !o.dryRun {
			if gone, err = o.m.Managing().RevokeAll(ctx, u.DN, old); err != nil {
				if ctx.Err() != nil {
					return err
				}
				failed++
				fmt.Fprintf(o.err, "%s: %v\n", printable(u.DN), err)
			}
		}
		rows = append(rows, describe(u, gone, now)...)
		p.step()
	}
	p.end()
	done := "purged"
	if o.dryRun {
		done = "would be purged"
	}
	if err := o.report(done, rows, now); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("the app passwords of %s could not be purged", count(failed, "user"))
	}
	return nil
}
