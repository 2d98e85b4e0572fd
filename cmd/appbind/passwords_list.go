package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"appbind/manage"
	"appbind/secrets"
)

// listOptions are the flags of list.
type listOptions struct {
	desk
	user     string
	expiring string
	unused   string
	expired  bool
	unusable bool
	noLabel  bool
	noExpiry bool
	within   time.Duration
	idle     time.Duration
	past     *past // nil: there is no history
}

func listCommand(s streams) *cobra.Command {
	o := &listOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "list -c FILE [--user NAME]",
		Short: "List the app passwords of a user, or of all",
		Long: `List the app passwords of a user, or of all users. The filters narrow the list; an
app password is shown that fits one of those given. Last uses are those that the
history knows of.`,
		Example: `  appbind passwords list -c /etc/appbind/appbind.yaml --user alice
  appbind passwords list -c /etc/appbind/appbind.yaml --expiring 30d --json`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, o.list) },
	}
	o.flags(c)
	f := c.Flags()
	f.StringVarP(&o.user, "user", "u", "", "of this user alone: a DN, or a `NAME` that users.name_filter finds")
	f.StringVar(&o.expiring, "expiring", "", "those that expire within this `TIME`, such as 30d")
	f.StringVar(&o.unused, "unused", "", "those not used for this `TIME`, such as 90d, as far as the history knows")
	f.BoolVar(&o.expired, "expired", false, "those that have expired")
	f.BoolVar(&o.unusable, "unusable", false, "those that can match no password, and why")
	f.BoolVar(&o.noLabel, "no-label", false, "those without a label")
	f.BoolVar(&o.noExpiry, "no-expiry", false, "those that never expire")
	also(c, func() (err error) {
		if o.expiring != "" {
			o.within, err = parsePeriod("expiring", o.expiring)
		}
		if err == nil && o.unused != "" {
			o.idle, err = parsePeriod("unused", o.unused)
		}
		return err
	})
	return c
}

// fits reports whether an app password is one of those asked for.
func (o *listOptions) fits(r row, u *manage.User, v *secrets.Value, now time.Time) bool {
	if o.within == 0 && o.idle == 0 && !o.expired && !o.unusable && !o.noLabel && !o.noExpiry {
		return true
	}
	if o.idle > 0 {
		if unused, _ := o.past.unused(u, v, now.Add(-o.idle)); unused {
			return true
		}
	}
	return o.within > 0 && r.State == stateLive && r.Expires != nil && r.Expires.Before(now.Add(o.within)) ||
		o.expired && r.State == stateExpired || o.unusable && r.State == stateUnusable ||
		o.noLabel && r.Label == "" || o.noExpiry && r.Expires == nil && r.State != stateUnusable
}

// ask asks the history; where it is no more than an addition, its absence is none of list's failures.
func (o *listOptions) ask(ctx context.Context, entry string, now time.Time) (err error) {
	if o.idle == 0 {
		o.past = o.maybePast(ctx, entry)
		return nil
	}
	o.past, err = o.pastOf(ctx, entry, now.Add(-o.idle))
	return err
}

func (o *listOptions) list(ctx context.Context) error {
	now := o.m.Now()
	rows := []row{}
	p := newProgress(o.err, "read", 0)
	collect := func(u *manage.User) error {
		p.step()
		for _, v := range chosen(u, all) {
			r := rowOf(u, v, now)
			if o.past.addTo(&r, u, v); o.fits(r, u, v, now) {
				rows = append(rows, r)
			}
		}
		return nil
	}
	var err error
	if o.user == "" {
		if err = o.ask(ctx, "", now); err == nil {
			err = o.m.Each(ctx, collect)
		}
	} else {
		var u *manage.User
		if u, err = o.find(ctx, o.user); err == nil {
			if err = o.ask(ctx, u.Key, now); err == nil {
				err = collect(u)
			}
		}
	}
	p.end()
	switch {
	case err != nil:
		return err
	case o.json:
		return o.print(rows)
	case len(rows) == 0:
		_, err := fmt.Fprintln(o.out, "no app passwords")
		return err
	}
	if err := table(o.out, rows, o.user == "", now); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Problem != "" {
			fmt.Fprintf(o.out, "%s of %s is unusable: %s\n", r.ID, printable(r.User), r.Problem)
		}
	}
	return nil
}

// each calls f for one user, or for all that have a value.
func (d *desk) each(ctx context.Context, user string, f func(u *manage.User) error) error {
	if user == "" {
		return d.m.Each(ctx, f)
	}
	u, err := d.find(ctx, user)
	if err != nil {
		return err
	}
	return f(u)
}

func showCommand(s streams) *cobra.Command {
	d, user, ref := &desk{streams: s}, "", manage.Ref{}
	c := &cobra.Command{
		Use:     "show -c FILE --user NAME {--label LABEL | --id ID}",
		Short:   "Show what is known of one app password",
		Example: "  appbind passwords show -c /etc/appbind/appbind.yaml --user alice --label phone",
	}
	d.flags(c)
	userFlag(c, &user)
	refFlags(c, d, &user, &ref, true)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return d.run(c, func(ctx context.Context) error {
			u, err := d.find(ctx, user)
			if err != nil {
				return err
			}
			v, err := u.Set.Find(ref)
			if err != nil {
				return err
			}
			r := rowOf(u, v, d.m.Now())
			d.maybePast(ctx, u.Key).addTo(&r, u, v)
			if d.json {
				return d.print(r)
			}
			return details(d.out, r, d.m.Now())
		})
	}
	return c
}

// stats are numbers over all users.
type stats struct {
	Users       int `json:"users"`          // that match the filters
	WithApp     int `json:"users_with_app"` // of those, with a live app password
	Live        int `json:"live"`
	Expired     int `json:"expired"`
	Unusable    int `json:"unusable"`
	Disabled    int `json:"user_disabled"`
	NoExpiry    int `json:"no_expiry"` // of the live
	Expiring    int `json:"expiring_30d"`
	Limited     int `json:"limited"` // to services or networks, of the live
	Most        int `json:"most_per_user"`
	SecondLogin int `json:"users_with_totp"`
}

func statsCommand(s streams) *cobra.Command {
	d := &desk{streams: s}
	c := &cobra.Command{
		Use:   "stats -c FILE",
		Short: "Count users and app passwords",
		RunE: func(c *cobra.Command, _ []string) error {
			return d.run(c, d.stats)
		},
	}
	d.flags(c)
	return c
}

func (d *desk) stats(ctx context.Context) error {
	now := d.m.Now()
	counts, err := d.up.Count(ctx)
	if err = cmp.Or(err, counts.Limit); err != nil {
		return err
	}
	n := stats{Users: counts.Eligible}
	if err := d.m.Each(ctx, func(u *manage.User) error { n.take(u, now); return nil }); err != nil {
		return err
	}
	if d.json {
		return d.print(n)
	}
	_, err = fmt.Fprintf(d.out, `users                 %d
  with app passwords  %d, %d at most
  with one-time codes %d
app passwords
  live                %d
    expire in 30 days %d
    never expire      %d
    limited           %d
  expired             %d
  unusable            %d
  of disabled users   %d
`, n.Users, n.WithApp, n.Most, n.SecondLogin, n.Live, n.Expiring, n.NoExpiry, n.Limited, n.Expired, n.Unusable, n.Disabled)
	return err
}

// take adds a user.
func (n *stats) take(u *manage.User, now time.Time) {
	live := 0
	for _, r := range rowsOf(u, now) {
		switch r.State {
		case stateExpired:
			n.Expired++
		case stateUnusable:
			n.Unusable++
		case stateDisabled:
			n.Disabled++
		default:
			live++
			switch {
			case r.Expires == nil:
				n.NoExpiry++
			case r.Expires.Before(now.Add(30 * 24 * time.Hour)):
				n.Expiring++
			}
			if len(r.Services)+len(r.Networks) > 0 {
				n.Limited++
			}
		}
	}
	n.Live += live
	n.Most = max(n.Most, live)
	if live > 0 {
		n.WithApp++
	}
	for _, v := range u.Set.Values {
		if v.Kind == secrets.TOTP {
			n.SecondLogin++
			return
		}
	}
}

// progress tells on a terminal how far long work is; nothing elsewhere.
type progress struct {
	w         io.Writer
	what      string
	of, n     int
	next      time.Time
	shown, on bool
}

// progressPause is between two lines, and before the first.
const progressPause = 500 * time.Millisecond

// newProgress makes one; of: how many there are, 0 if nobody knows.
func newProgress(w io.Writer, what string, of int) *progress {
	f, ok := w.(*os.File)
	if ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		ok = err == nil
	}
	return &progress{w: w, what: what, of: of, on: ok, next: time.Now().Add(progressPause)}
}

// step counts one user.
func (p *progress) step() {
	p.n++
	if !p.on || time.Now().Before(p.next) {
		return
	}
	p.next, p.shown = time.Now().Add(progressPause), true
	if p.of > 0 {
		fmt.Fprintf(p.w, "\r%s %d of %d users", p.what, p.n, p.of)
		return
	}
	fmt.Fprintf(p.w, "\r%s %d users", p.what, p.n)
}

// end clears the line.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
