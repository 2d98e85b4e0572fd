package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/history"
	"appbind/manage"
)

// historyOptions are the flags of history.
type historyOptions struct {
	desk
	user    string
	ref     manage.Ref
	main    bool
	span    span
	filter  history.Filter
	missing error // why the user is looked for by his DN alone
}

func historyCommand(s streams) *cobra.Command {
	o := &historyOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "history -c FILE [--user NAME [--label LABEL | --id ID]]",
		Short: "Show who used which app password when, from where",
		Long: `Show the logins and failures that the history knows of, the latest first: of all, of
a user, or of one app password. Of a user it shows the passwords first, those that
were revoked too. The history of a user who is no longer in the directory is
found by the DN.`,
		Example: `  appbind history -c /etc/appbind/appbind.yaml --user alice
  appbind history -c /etc/appbind/appbind.yaml --denied --since 1d --json`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, o.show) },
	}
	o.flags(c)
	f := c.Flags()
	f.StringVarP(&o.user, "user", "u", "", "of this user alone: a DN, or a `NAME` that users.name_filter finds")
	refFlags(c, &o.desk, &o.user, &o.ref, false)
	f.BoolVar(&o.main, "main", false, "of main passwords alone")
	o.span.flags(c)
	f.BoolVar(&o.filter.Denied, "denied", false, "failures alone")
	f.BoolVar(&o.filter.Accepted, "accepted", false, "successful logins alone")
	f.IntVar(&o.filter.Limit, "limit", 100, "at most `N` rows")
	also(c, func() error {
		switch {
		case o.ref != (manage.Ref{}) && o.user == "":
			return fmt.Errorf("--label and --id need --user (see '%s --help')", c.CommandPath())
		case o.ref != (manage.Ref{}) && o.main:
			return errors.New("--main and --label or --id exclude each other")
		case o.filter.Denied && o.filter.Accepted:
			return errors.New("--denied and --accepted exclude each other")
		case o.filter.Limit < 1:
			return fmt.Errorf("--limit %d: must be 1 or more", o.filter.Limit)
		}
		return nil
	})
	return c
}

// span is the options --since and --until.
type span struct{ since, until string }

// flags adds them.
func (s *span) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.since, "since", "", "from `TIME` on: 7d ago, a day such as 2026-01-31, or a moment (RFC 3339)")
	c.Flags().StringVar(&s.until, "until", "", "until `TIME`, likewise")
}

// times reads them; zero is no bound.
func (s *span) times(now time.Time) (from, to time.Time, err error) {
	for _, t := range []struct {
		option, text string
		to           *time.Time
	}{{"since", s.since, &from}, {"until", s.until, &to}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = parsePast(t.text, now); err != nil {
			return from, to, &usageError{fmt.Errorf("--%s %s: not a time such as 7d, 2026-01-31, or 2026-01-31T12:00:00Z", t.option, t.text)}
		}
	}
	return from, to, nil
}

// parsePast reads a time ago (7d), a day (its begin in UTC) or a moment (RFC 3339).
func parsePast(text string, now time.Time) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	ago, err := config.ParseDuration(text)
	return now.Add(-time.Duration(ago)), err
}

// knownPassword is a password of a user, as history shows it.
type knownPassword struct {
	Password string     `json:"password"` // app or main
	Label    string     `json:"label,omitempty"`
	ID       string     `json:"id,omitempty"`
	State    string     `json:"state,omitempty"` // as list has it, or gone; of the main password none
	Revoked  *time.Time `json:"revoked,omitempty"`
	First    *time.Time `json:"first_used,omitempty"`
	Last     *time.Time `json:"last_used,omitempty"`
	Service  string     `json:"last_service,omitempty"`
	Address  string     `json:"last_address,omitempty"`
	Uses     int64      `json:"uses"`
}

// stateGone is the state of an app password that is not in the directory (any more).
const stateGone = "gone"

// knownUse is a login or failure, or several that are alike.
type knownUse struct {
	User     string    `json:"user"`
	Password string    `json:"password"` // app, main or none
	Label    string    `json:"label,omitempty"`
	ID       string    `json:"id,omitempty"`
	Accepted bool      `json:"accepted"`
	Reason   string    `json:"reason,omitempty"`
	Service  string    `json:"service"`
	Address  string    `json:"address"`
	Peer     string    `json:"peer"`
	Listener string    `json:"listener"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Times    int64     `json:"times"`
}

func (o *historyOptions) show(ctx context.Context) error {
	now := o.m.Now()
	var err error
	if o.filter.Since, o.filter.Until, err = o.span.times(now); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	store, err := o.pastStore(ctx)
	if err != nil {
		return err
	}
	var passwords []knownPassword
	if o.user != "" {
		u, err := o.subject(ctx)
		if err != nil {
			return err
		}
		if passwords, err = o.passwords(ctx, store, u, now); err != nil {
			return err
		}
	}
	if o.main {
		o.filter.Kind = history.Main
	}
	limit := o.filter.Limit
	o.filter.Limit++ // one more than is shown tells that there are more
	list, err := store.Uses(ctx, o.filter)
	if err != nil {
		return fmt.Errorf("the history cannot be read: %w", err)
	}
	if len(list) == 0 && o.missing != nil {
		return o.missing
	}
	more := len(list) > limit
	uses := usesOf(list[:min(len(list), limit)])
	if o.json {
		return o.print(object(passwords, uses, more))
	}
	if passwords != nil {
		if err := passwordTable(o, passwords, now); err != nil {
			return err
		}
	}
	if err := useTable(o, uses); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(o.err, "there are more; --limit shows more than the latest %d\n", limit)
	}
	return nil
}

// object is the history as JSON has it.
func object(passwords []knownPassword, uses []knownUse, more bool) map[string]any {
	all := map[string]any{"uses": uses, "more": more}
	if passwords != nil {
		all["passwords"] = passwords
	}
	return all
}

// subject finds whose history is asked for, and sets the filter. nil: one who is not in the directory, or cannot be
// looked up, and is known by the DN.
func (o *historyOptions) subject(ctx context.Context) (*manage.User, error) {
	u, err := o.find(ctx, o.user)
	switch {
	case err == nil:
		o.filter.Entry = u.Key
	case strings.Contains(o.user, "=") && (errors.Is(err, auth.ErrNotFound) || errors.Is(err, manage.ErrNotUser) || errors.Is(err, backend.ErrUnavailable)):
		o.filter.DN, o.missing = o.user, err
	default:
		return nil, err
	}
	o.filter.ID, o.filter.Label = o.ref.ID, o.ref.Label
	if o.ref != (manage.Ref{}) {
		o.filter.Kind = history.App
	}
	return u, nil
}

// passwords are those of a user that the history or the directory knows. It narrows the filter to the one that the
// options name, by what the history tells it by: the id that list shows may be made of the label.
func (o *historyOptions) passwords(ctx context.Context, store *history.Store, u *manage.User, now time.Time) ([]knownPassword, error) {
	if u == nil {
		return nil, nil
	}
	list, err := store.Passwords(ctx, u.Key)
	if err != nil {
		return nil, fmt.Errorf("the history cannot be read: %w", err)
	}
	if o.ref != (manage.Ref{}) {
		if o.filter.ID, o.filter.Label, err = identOf(u, list, o.ref); err != nil {
			return nil, err
		}
	}
	return knownPasswords(u, list, now), nil
}

// identOf is what the history tells an app password by: one of the directory, or else one that is gone.
func identOf(u *manage.User, list []history.Password, ref manage.Ref) (id, label string, err error) {
	v, err := u.Set.Find(ref)
	switch {
	case err == nil:
		return v.ID, v.Label, nil
	case !errors.Is(err, manage.ErrNoSuchPassword):
		return "", "", err
	}
	for _, k := range list {
		if k.Kind != history.App || ref.Label != "" && !manage.SameLabel(k.Label, ref.Label) || ref.ID != "" && !strings.EqualFold(k.ID, ref.ID) {
			continue
		}
		if err == nil {
			return "", "", manage.ErrSeveral
		}
		id, label, err = k.ID, k.Label, nil
	}
	return id, label, err
}

// knownPasswords puts together what the directory has and what the history knows of a user's passwords: those of
// the directory first.
func knownPasswords(u *manage.User, list []history.Password, now time.Time) []knownPassword {
	known := history.NewKnown(list)
	rows := []knownPassword{}
	present := map[*history.Password]bool{}
	for _, v := range chosen(u, all) {
		k := known.App(u.Key, v.ID, v.Label)
		row := knownPassword{Password: history.App, Label: v.Label, ID: manage.Handle(v), State: rowOf(u, v, now).State}
		if k != nil {
			present[k] = true
			row.used(k)
			row.Revoked = nil // it is back, or was never gone
		}
		rows = append(rows, row)
	}
	for i := range list {
		k := &list[i] // as known has it
		if present[k] {
			continue
		}
		row := knownPassword{Password: k.Kind, Label: k.Label, ID: k.ID}
		if k.Kind == history.App {
			row.State = stateGone
		}
		row.used(k)
		rows = append(rows, row)
	}
	return rows
}

// used adds what the history knows.
func (r *knownPassword) used(k *history.Password) {
	r.Revoked, r.First, r.Last = momentOf(k.Revoked), momentOf(k.FirstUsed), momentOf(k.LastUsed)
	r.Service, r.Address, r.Uses = k.Service, addrText(k.Addr), k.Uses
}

// momentOf is a time for JSON; nil for none.
func momentOf(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC().Truncate(time.Second)
	return &at
}

// usesOf makes rows.
func usesOf(list []history.Use) []knownUse {
	rows := []knownUse{}
	for _, u := range list {
		rows = append(rows, knownUse{
			User: u.DN, Password: u.Kind, Label: u.Label, ID: u.ID, Accepted: u.Denied == "", Reason: u.Denied, Service: u.Service,
			Address: addrText(u.Addr), Peer: addrText(u.Peer), Listener: u.Listener, First: u.First.UTC(), Last: u.Last.UTC(), Times: u.Times,
		})
	}
	return rows
}

// addrText is an address, "" for none.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func passwordTable(o *historyOptions, rows []knownPassword, now time.Time) error {
	t := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PASSWORD\tID\tSTATE\tFIRST USED\tLAST USED\tUSES\tFROM")
	date := func(at *time.Time) string {
		if at == nil {
			return "-"
		}
		return agoText(*at, now)
	}
	for _, r := range rows {
		state := orDash(r.State)
		if r.Revoked != nil {
			state += ", revoked by " + r.Revoked.Format(time.DateOnly)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", passwordText(r.Password, r.Label), orDash(r.ID), state, date(r.First), date(r.Last), r.Uses, placeText(r.Service, r.Address))
	}
	fmt.Fprintln(t)
	return t.Flush()
}

func useTable(o *historyOptions, rows []knownUse) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(o.out, "no logins")
		return err
	}
	t := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	head := "TIME\tTIMES\tPASSWORD\tID\tRESULT\tSERVICE\tFROM\tVIA\tLISTENER"
	if o.user == "" {
		head += "\tUSER"
	}
	fmt.Fprintln(t, head)
	for _, r := range rows {
		result := "accepted"
		if !r.Accepted {
			result = printable(r.Reason)
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s", r.Last.Format(time.RFC3339), r.Times, passwordText(r.Password, r.Label), orDash(r.ID), result,
			orDash(r.Service), orDash(r.Address), orDash(r.Peer), printable(r.Listener))
		if o.user == "" {
			fmt.Fprintf(t, "\t%s", printable(r.User))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
