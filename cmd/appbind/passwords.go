package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"appbind/auth"
	"appbind/backend"
	"appbind/config"
	"appbind/events"
	"appbind/history"
	"appbind/manage"
	"appbind/proxy"
)

// passwordsCommand is app passwords from the command line, for administrators:
// it reads as upstream.bind_dn and writes as upstream.manage_dn.
func passwordsCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "passwords COMMAND -c FILE",
		Short: "Create, list, change and revoke app passwords",
		Long: `Create, list, change and revoke the app passwords of users, in the directory
itself. Users are found as serve finds them: by DN, or by users.name_filter. What
is written is written as upstream.manage_dn, one exact value in one modify, and a
password is shown only when the directory has stored it. With --json the output
is for scripts. Exit status: 3 no such user or app password; 4 a rule refuses it
(a label in use, too many, too long); 5 the directory is not available.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("unknown command %q (see '%s --help')", args[0], c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(createCommand(s), listCommand(s), showCommand(s), renewCommand(s), renameCommand(s), scopeCommand(s),
		revokeCommand(s), purgeCommand(s), importCommand(s), exportCommand(s), statsCommand(s))
	for _, sub := range c.Commands() {
		sub.Args = usageArgs(sub.Args)
	}
	return c
}

// The exit statuses of passwords, history and report, beside those of every command; see exitFound too.
const (
	exitNotFound    = 3
	exitRefused     = 4
	exitUnavailable = 5
)

// exitStatus is the exit status of an error.
func exitStatus(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitMistake
	}
	if _, ok := errors.AsType[*manage.Violation](err); ok {
		return exitRefused
	}
	for _, is := range []struct {
		err  error
		code int
	}{
		{auth.ErrNotFound, exitNotFound}, {auth.ErrAmbiguous, exitNotFound}, {manage.ErrNoSuchPassword, exitNotFound},
		{manage.ErrSeveral, exitNotFound}, {manage.ErrNotUser, exitNotFound},
		{manage.ErrNotEligible, exitRefused}, {backend.ErrUnavailable, exitUnavailable}, {errFound, exitFound},
	} {
		if errors.Is(err, is.err) {
			return is.code
		}
	}
	return exitFailure
}

// desk is what the commands of passwords work with.
type desk struct {
	streams
	file  string
	json  bool
	cfg   *config.Config
	house *house
	up    *backend.Upstream
	m     *manage.Manager
	store *history.Store // nil: not asked for yet
	mute  bool           // the history is told no more

	journal *events.Journal // nil: not asked for yet, or there is none
	untold  bool            // there is none
	counts  events.Counts
}

// flags adds those that every command of passwords has.
func (d *desk) flags(c *cobra.Command) {
	configFlag(c, &d.file)
	c.Flags().BoolVar(&d.json, "json", false, "write JSON to standard output")
	c.ValidArgsFunction = cobra.NoFileCompletions
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
}

// open reads the configuration and connects. The caller closes.
func (d *desk) open(ctx context.Context) error {
	cfg, err := config.Load(d.file)
	if err != nil {
		return err
	}
	cfg.AppPasswords.Lookup = "live" // nothing here asks a copy
	d.house = guestHouse(cfg.Log)
	core, err := d.house.build(ctx, cfg)
	if err != nil {
		d.house.close()
		return err
	}
	d.cfg, d.up = cfg, core.Upstream
	d.m = manage.New(cfg, d.up, proxy.SharedAttribute(cfg.AppPasswords.Attribute), time.Now).WithJournal(d)
	return nil
}

func (d *desk) close() {
	d.tellRest()
	if d.store != nil {
		d.store.Close()
	}
	d.up.Close()
	d.house.close()
}

// noteOff says, of what was made or renewed, that it does not work now.
func (d *desk) noteOff() {
	if d.cfg.AppPasswords.Enabled && !d.cfg.AppPasswords.Accept {
		fmt.Fprintln(d.err, "appbind: done, and it does not work now: app passwords are switched off at binds (app_passwords.accept)")
	}
}

// run opens the desk for f.
func (d *desk) run(c *cobra.Command, f func(ctx context.Context) error) error {
	if err := d.open(c.Context()); err != nil {
		return err
	}
	defer d.close()
	return f(c.Context())
}

// find finds a user; the error names him.
func (d *desk) find(ctx context.Context, name string) (*manage.User, error) {
	u, err := d.m.Find(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(name), err)
	}
	return u, nil
}

// print writes v as JSON.
func (d *desk) print(v any) error {
	e := json.NewEncoder(d.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// userFlag adds --user, which is required.
func userFlag(c *cobra.Command, user *string) {
	c.Flags().StringVarP(user, "user", "u", "", "the user: a DN, or a `NAME` that users.name_filter finds (required)")
	also(c, func() error {
		if *user == "" {
			return fmt.Errorf("--user is required (see '%s --help')", c.CommandPath())
		}
		return nil
	})
}

// also adds a check of the flags to those that run before the command.
func also(c *cobra.Command, check func() error) {
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if before != nil {
			if err := before(c, args); err != nil {
				return err
			}
		}
		if err := check(); err != nil {
			return &usageError{err}
		}
		return nil
	}
}

// refFlags adds --label and --id, one of which names an app password.
func refFlags(c *cobra.Command, d *desk, user *string, ref *manage.Ref, required bool) {
	c.Flags().StringVarP(&ref.Label, "label", "l", "", "the app password with this `LABEL`")
	c.Flags().StringVar(&ref.ID, "id", "", "the app password with this `ID`, as list shows it")
	if required {
		also(c, func() error {
			if *ref == (manage.Ref{}) {
				return fmt.Errorf("--label or --id is required (see '%s --help')", c.CommandPath())
			}
			return nil
		})
	}
	for flag, of := range map[string]func(row) string{
		"label": func(r row) string { return r.Label },
		"id":    func(r row) string { return r.ID + "\t" + r.Label },
	} {
		_ = c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return d.complete(c.Context(), *user, of), cobra.ShellCompDirectiveNoFileComp
		})
	}
}

// complete lists the user's app passwords for the shell; nothing where they cannot be read.
func (d *desk) complete(ctx context.Context, user string, of func(row) string) []string {
	if d.file == "" || user == "" || d.open(ctx) != nil {
		return nil
	}
	defer d.close()
	u, err := d.m.Find(ctx, user)
	if err != nil {
		return nil
	}
	var list []string
	for _, r := range rowsOf(u, time.Now()) {
		list = append(list, of(r))
	}
	return list
}

// parseNetworks reads networks and single addresses.
func parseNetworks(list []string) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	for _, n := range list {
		prefix, err := netip.ParsePrefix(n)
		if addr, e := netip.ParseAddr(n); e == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("--net %s: not a network such as 192.0.2.0/24, nor an address", n)
		}
		networks = append(networks, prefix.Masked())
	}
	return networks, nil
}

// parseExpiry reads a lifetime (90d), a day (2027-01-31, to its end in UTC), a moment (RFC 3339), never, or nothing (the zero time).
func parseExpiry(text string, now time.Time) (at time.Time, never bool, err error) {
	switch text {
	case "":
		return time.Time{}, false, nil
	case "never":
		return time.Time{}, true, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.Add(24 * time.Hour), false, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, false, nil
	}
	lifetime, err := config.ParseDuration(text)
	if err != nil || lifetime <= 0 {
		return time.Time{}, false, fmt.Errorf("--expires %s: not a lifetime such as 90d, a day such as 2027-01-31, or never", text)
	}
	return now.Add(time.Duration(lifetime)), false, nil
}
