package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"appbind/history"
	"appbind/manage"
)

// The parts of a report.
const (
	partMain  = "main-password"
	partNone  = "no-app-password"
	partStale = "stale"
)

// exitFound is the exit status of report --exit-code that found something.
const exitFound = 6

// errFound ends it then.
var errFound = fmt.Errorf("found: %w", errReported)

// reportOptions are the flags of report.
type reportOptions struct {
	desk
	parts    []string
	since    string
	period   time.Duration
	exitCode bool
}

func reportCommand(s streams) *cobra.Command {
	o := &reportOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "report -c FILE [" + partMain + "] [" + partNone + "] [" + partStale + "]",
		Short: "Tell who has yet to move to app passwords, and which devices go on with an old one",
		Long: `Tell, from the directory and the history:

  ` + partMain + `    who logs in with the main password, on which service, from where
  ` + partNone + `  users without an app password that counts
  ` + partStale + `            devices that go on with a password that was revoked, has expired, or is
                   wrong, and from where

All of them, or those named.`,
		Example: `  appbind report -c /etc/appbind/appbind.yaml
  appbind report -c /etc/appbind/appbind.yaml stale --since 7d --json`,
		ValidArgs: []string{partMain, partNone, partStale},
		Args:      cobra.OnlyValidArgs,
	}
	o.flags(c)
	c.ValidArgsFunction = nil // ValidArgs
	c.Flags().StringVar(&o.since, "since", "30d", "logins of this last `TIME`, such as 30d")
	c.Flags().BoolVar(&o.exitCode, "exit-code", false, fmt.Sprintf("end with exit status %d if there is anything to tell", exitFound))
	also(c, func() (err error) {
		o.period, err = parsePeriod("since", o.since)
		return err
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.parts = args; len(args) == 0 {
			o.parts = c.ValidArgs
		}
		return o.run(c, o.report)
	}
	return c
}

// mainUse is the logins of a user with the main password, on one service.
type mainUse struct {
	User      string    `json:"user"`
	Service   string    `json:"service"` // "": not known
	Times     int64     `json:"times"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Addresses []string  `json:"addresses"` // the latest first; those that are known
	Peers     []string  `json:"peers"`     // likewise, of mail servers
}

// without is a user without an app password that counts.
type without struct {
	User     string     `json:"user"`
	Expired  int        `json:"expired,omitempty"`
	LastMain *time.Time `json:"last_main_password,omitempty"` // as far as the history knows
	Service  string     `json:"service,omitempty"`
}

// stale is a device that goes on with an old password.
type stale struct {
	User     string    `json:"user"`
	Password string    `json:"password"` // app or main
	Label    string    `json:"label,omitempty"`
	ID       string    `json:"id,omitempty"`
	Reason   string    `json:"reason"`
	Service  string    `json:"service"`
	Address  string    `json:"address"`
	Peer     string    `json:"peer"`
	Times    int64     `json:"times"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// findings is the whole report; parts that were not asked for are nil.
type findings struct {
	since time.Time
	main  []mainUse
	none  []without
	stale []stale
}

func (o *reportOptions) report(ctx context.Context) error {
	now := o.m.Now()
	f := &findings{since: now.Add(-o.period)}
	for _, part := range []struct {
		name string
		find func(ctx context.Context, f *findings) error
	}{{partMain, o.mainUses}, {partNone, o.without}, {partStale, o.stale}} {
		if !slices.Contains(o.parts, part.name) {
			continue
		}
		if err := part.find(ctx, f); err != nil {
			return err
		}
	}
	if err := o.write(f, now); err != nil {
		return err
	}
	if o.exitCode && len(f.main)+len(f.none)+len(f.stale) > 0 {
		return errFound
	}
	return nil
}

// mainUses finds who uses the main password: one for each user and service.
func (o *reportOptions) mainUses(ctx context.Context, f *findings) error {
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	store, err := o.pastStore(ctx)
	if err != nil {
		return err
	}
	uses, err := store.MainPasswords(ctx, f.since)
	f.main = mergeMain(uses)
	return err
}

// mergeMain puts uses together that differ in the address only. They come the latest first, and so leave.
func mergeMain(uses []history.Use) []mainUse {
	type key struct{ entry, service string }
	found := map[key]*mainUse{}
	var order []*mainUse
	for _, u := range uses {
		m := found[key{u.Entry, u.Service}]
		if m == nil {
			m = &mainUse{User: u.DN, Service: u.Service, First: u.First.UTC(), Last: u.Last.UTC(), Addresses: []string{}, Peers: []string{}}
			found[key{u.Entry, u.Service}] = m
			order = append(order, m)
		}
		m.Times += u.Times
		if u.First.Before(m.First) {
			m.First = u.First.UTC()
		}
		if u.Last.After(m.Last) {
			m.Last = u.Last.UTC()
		}
		if u.Addr.IsValid() && !slices.Contains(m.Addresses, u.Addr.String()) {
			m.Addresses = append(m.Addresses, u.Addr.String())
		}
		if u.Peer.IsValid() && !slices.Contains(m.Peers, u.Peer.String()) {
			m.Peers = append(m.Peers, u.Peer.String())
		}
	}
	list := []mainUse{}
	for _, m := range order {
		list = append(list, *m)
	}
	return list
}

// without finds the users without an app password that counts. Where there is a history, it tells who of them logs in.
func (o *reportOptions) without(ctx context.Context, f *findings) error {
	known := o.maybePast(ctx, "")
	f.none = []without{}
	p := newProgress(o.err, "read", 0)
	err := o.m.Everybody(ctx, func(u *manage.User) error {
		p.step()
		if w, is := withoutApp(u, known, o.m.Now()); is {
			f.none = append(f.none, w)
		}
		return nil
	})
	p.end()
	return err
}

// withoutApp reports whether a user who may log in has no app password that counts. What cannot be used is none.
func withoutApp(u *manage.User, known *past, now time.Time) (without, bool) {
	w := without{User: u.DN}
	if !u.Eligible || u.Set.Live(now) > 0 {
		return w, false
	}
	for _, r := range rowsOf(u, now) {
		if r.State == stateExpired {
			w.Expired++
		}
	}
	if known != nil {
		if k := known.known.Main(u.Key); k != nil && !k.LastUsed.IsZero() {
			at := k.LastUsed.UTC().Truncate(time.Second)
			w.LastMain, w.Service = &at, k.Service
		}
	}
	return w, true
}

// stale finds devices with an old password.
func (o *reportOptions) stale(ctx context.Context, f *findings) error {
	ctx, cancel := context.WithTimeout(ctx, pastTime)
	defer cancel()
	store, err := o.pastStore(ctx)
	if err != nil {
		return err
	}
	uses, err := store.Stale(ctx, f.since)
	f.stale = []stale{}
	for _, u := range uses {
		f.stale = append(f.stale, stale{
			User: u.DN, Password: u.Kind, Label: u.Label, ID: u.ID, Reason: u.Denied, Service: u.Service,
			Address: addrText(u.Addr), Peer: addrText(u.Peer), Times: u.Times, First: u.First.UTC(), Last: u.Last.UTC(),
		})
	}
	return err
}

// write writes the report, for scripts or for people.
func (o *reportOptions) write(f *findings, now time.Time) error {
	if o.json {
		return o.print(f.object())
	}
	first := true
	heading := func(text string, n int) {
		if !first {
			fmt.Fprintln(o.out)
		}
		first = false
		if n == 0 {
			text += ": none"
		}
		fmt.Fprintln(o.out, text)
	}
	t := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	period := " since " + f.since.UTC().Format(time.DateOnly)
	if f.main != nil {
		heading("Logins with the main password"+period, len(f.main))
		mainTable(t, f.main, now)
	}
	if f.none != nil {
		heading("Users without an app password", len(f.none))
		noneTable(t, f.none, now)
	}
	if f.stale != nil {
		heading("Devices with an old password"+period, len(f.stale))
		staleTable(t, f.stale, now)
	}
	return nil
}

// object is the report as JSON has it: parts that were asked for and are empty are empty lists.
func (f *findings) object() any {
	all := map[string]any{"since": f.since.UTC().Truncate(time.Second)}
	if f.main != nil {
		all["main_password"] = f.main
	}
	if f.none != nil {
		all["no_app_password"] = f.none
	}
	if f.stale != nil {
		all["stale"] = f.stale
	}
	return all
}

func mainTable(t *tabwriter.Writer, list []mainUse, now time.Time) {
	if len(list) > 0 {
		fmt.Fprintln(t, "USER\tSERVICE\tTIMES\tLAST\tFROM")
	}
	for _, m := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", printable(m.User), orDash(m.Service), m.Times, agoText(m.Last, now), placesText(m.Addresses, m.Peers))
	}
	t.Flush()
}

func noneTable(t *tabwriter.Writer, list []without, now time.Time) {
	if len(list) > 0 {
		fmt.Fprintln(t, "USER\tEXPIRED\tMAIN PASSWORD")
	}
	for _, w := range list {
		last := "-"
		if w.LastMain != nil {
			last = strings.TrimSpace(agoText(*w.LastMain, now) + " " + printable(w.Service))
		}
		fmt.Fprintf(t, "%s\t%d\t%s\n", printable(w.User), w.Expired, last)
	}
	t.Flush()
}

func staleTable(t *tabwriter.Writer, list []stale, now time.Time) {
	if len(list) > 0 {
		fmt.Fprintln(t, "USER\tPASSWORD\tID\tREASON\tSERVICE\tFROM\tTIMES\tLAST")
	}
	for _, s := range list {
		var from, via []string
		if s.Address != "" {
			from = []string{s.Address}
		}
		if s.Peer != "" {
			via = []string{s.Peer}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", printable(s.User), passwordText(s.Password, s.Label), orDash(s.ID), printable(s.Reason),
			orDash(s.Service), placesText(from, via), s.Times, agoText(s.Last, now))
	}
	t.Flush()
}

// passwordText names a password for people.
func passwordText(kind, label string) string {
	switch {
	case kind == history.Main:
		return "main password"
	case kind == history.App && label != "":
		return printable(label)
	}
	return "-"
}

// placesText is where logins came from: the users' addresses, or where none is known the mail servers that asked.
func placesText(addresses, peers []string) string {
	prefix, list := "", addresses
	if len(list) == 0 {
		prefix, list = "via ", peers
	}
	switch {
	case len(list) == 0:
		return "-"
	case len(list) > 3:
		return prefix + strings.Join(list[:3], ", ") + fmt.Sprintf(" and %d more", len(list)-3)
	}
	return prefix + strings.Join(list, ", ")
}

// agoText is a moment in a table.
func agoText(at, now time.Time) string {
	return at.UTC().Format(time.DateOnly) + " (" + distance(at, now) + ")"
}

// orDash is a text, or that there is none.
func orDash(text string) string { return printable(cmp.Or(text, "-")) }
