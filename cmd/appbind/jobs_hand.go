package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"appbind/history"
	"appbind/jobs"
	"appbind/manage"
)

// byHand is a job that is done from the command line. It takes the job's lease, as serve does.
type byHand struct {
	desk
	yes, dryRun bool
	only        string // of purge
	sample      string // of notify: the address
	language    string

	runner    *jobs.Runner
	jobCounts jobs.Counts
}

func (o *byHand) flags(c *cobra.Command) {
	o.desk.flags(c)
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be done, and do nothing")
}

func purgeJobsCommand(s streams) *cobra.Command {
	o := &byHand{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "purge -c FILE",
		Short: "Delete what is old: expired app passwords, and history",
		Long: `Do now what serve does once an hour: remove the app passwords of all users that expired
longer ago than jobs.remove_after, and delete the history that is older than
history.retention. Also where jobs are turned off. It asks first, unless --yes is given.`,
		Example: `  appbind purge -c /etc/appbind/appbind.yaml --dry-run
  appbind purge -c /etc/appbind/appbind.yaml --only history --yes`,
		RunE: func(c *cobra.Command, _ []string) error { return o.do(c, o.purge) },
	}
	o.flags(c)
	c.Flags().StringVar(&o.only, "only", "", "only `PART`: passwords or history")
	also(c, func() error {
		if o.only != "" && o.only != "passwords" && o.only != "history" {
			return fmt.Errorf("--only %s: not passwords or history (see '%s --help')", o.only, c.CommandPath())
		}
		return nil
	})
	return c
}

func notifyCommand(s streams) *cobra.Command {
	o := &byHand{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "notify -c FILE",
		Short: "Mail users whose app passwords expire soon",
		Long: `Do now what serve does once an hour: mail each user whose app passwords expire within
jobs.notify_before. Each app password is mailed about once, whoever does it. Also where
the job is turned off. It asks first, unless --yes is given. With --sample one mail with
invented app passwords goes to an address, to try the mail server and the texts.`,
		Example: `  appbind notify -c /etc/appbind/appbind.yaml --sample postmaster@example.org
  appbind notify -c /etc/appbind/appbind.yaml --dry-run`,
		RunE: func(c *cobra.Command, _ []string) error { return o.do(c, o.notify) },
	}
	o.flags(c)
	c.Flags().StringVar(&o.sample, "sample", "", "send a sample to this `ADDRESS`, and nothing else")
	c.Flags().StringVar(&o.language, "language", "", "of the sample: as in preferredLanguage, such as `de`")
	also(c, func() error {
		if o.language != "" && o.sample == "" {
			return errors.New("--language goes with --sample")
		}
		return nil
	})
	return c
}

// do opens the desk and makes the jobs for f.
func (o *byHand) do(c *cobra.Command, f func(ctx context.Context) error) error {
	return o.run(c, func(ctx context.Context) (err error) {
		// The jobs tell the history and the journal themselves; a manager with a journal would do so once more.
		m := manage.New(o.cfg, o.up, false, time.Now)
		options := jobs.Options{Upstream: o.up, Manager: m, Counts: &o.jobCounts, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		if told(o.cfg) {
			options.Events = done{o.tell, systemUser()}
		}
		o.runner, err = jobs.New(o.cfg, options)
		if err != nil {
			return err
		}
		return f(ctx)
	})
}

// item is what was done with an app password, for scripts.
type item struct {
	User    string    `json:"user"`
	Label   string    `json:"label"`
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Address string    `json:"address,omitempty"`
	Outcome string    `json:"outcome"`
	Error   string    `json:"error,omitempty"`
}

// itemOf is an Item as it is shown.
func itemOf(i jobs.Item) item {
	shown := item{User: i.User, Label: i.Label, ID: i.ID, Expires: i.Expires.UTC(), Address: i.Address, Outcome: i.Outcome}
	if i.Err != nil {
		shown.Error = i.Err.Error()
	}
	return shown
}

// failures is how many items failed.
func failures(list []item) (n int) {
	for _, i := range list {
		if i.Error != "" {
			n++
		}
	}
	return n
}

// showItems writes items for people.
func showItems(w io.Writer, list []item) error {
	if len(list) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LABEL\tID\tEXPIRES\tOUTCOME\tADDRESS\tUSER")
	for _, i := range list {
		outcome, expires := i.Outcome, ""
		if i.Error != "" {
			outcome += ": " + i.Error
		}
		if !i.Expires.IsZero() {
			expires = i.Expires.Format(time.DateOnly)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(i.Label), i.ID, expires, printable(outcome), printable(i.Address), printable(i.User))
	}
	return t.Flush()
}

// confirm shows what would be done on standard error, and asks; anything but yes is no.
func (o *byHand) confirm(list []item, question string) error {
	if o.yes {
		return nil
	}
	if err := showItems(o.err, list); err != nil {
		return err
	}
	fmt.Fprintf(o.err, "%s? [y/N] ", question)
	answer, _ := bufio.NewReader(o.in).ReadString('\n') // an error is no answer, which is no
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not confirmed: nothing was done (--yes does not ask)")
}

// purged is what purge did, for scripts.
type purged struct {
	DryRun    bool   `json:"dry_run"`
	Passwords []item `json:"passwords"`
	Rows      int64  `json:"history_rows"`
}

func (o *byHand) purge(ctx context.Context) error {
	result := purged{DryRun: o.dryRun, Passwords: []item{}}
	note := func(i jobs.Item) { result.Passwords = append(result.Passwords, itemOf(i)) }
	if o.only != "history" {
		if err := o.runner.Look(ctx, jobs.RemoveExpired, note); err != nil {
			return err
		}
	}
	if err := o.oldRows(ctx, &result); err != nil {
		return err
	}
	if o.dryRun || len(result.Passwords) == 0 && result.Rows == 0 {
		return o.reportPurge(result)
	}
	question := fmt.Sprintf("Remove %s, and %s of the history", count(len(result.Passwords), "app password"), count(int(result.Rows), "row"))
	if err := o.confirm(result.Passwords, question); err != nil {
		return err
	}
	rows := result.Rows
	result.Passwords, result.Rows = []item{}, 0
	var err error
	if o.only != "history" {
		err = o.runner.Do(ctx, jobs.RemoveExpired, note)
	}
	if rows > 0 {
		err = errors.Join(err, o.runner.Do(ctx, jobs.PurgeHistory, note))
		result.Rows = int64(o.jobCounts.Stats().Deleted)
	}
	return errors.Join(o.reportPurge(result), err)
}

// oldRows counts what is older than the retention, where there is a history.
func (o *byHand) oldRows(ctx context.Context, result *purged) error {
	if o.only == "passwords" {
		return nil
	}
	store, err := history.Open(ctx, o.cfg)
	if errors.Is(err, history.ErrNone) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer store.Close()
	result.Rows, err = store.Old(ctx, time.Now(), time.Duration(o.cfg.History.Retention))
	return err
}

func (o *byHand) reportPurge(r purged) error {
	if o.json {
		return o.print(r)
	}
	words := "removed: %s\n"
	if r.DryRun {
		words = "would be removed: %s\n"
	}
	fmt.Fprintf(o.out, words, count(len(r.Passwords)-failures(r.Passwords), "app password"))
	if err := showItems(o.out, r.Passwords); err != nil {
		return err
	}
	_, err := fmt.Fprintf(o.out, "history older than %v: %s\n", o.cfg.History.Retention, count(int(r.Rows), "row"))
	return err
}

func (o *byHand) notify(ctx context.Context) error {
	if o.sample == "" && !o.cfg.AppPasswords.Enabled {
		return errors.New("app passwords are switched off (app_passwords.enabled): nobody is to be told that one expires")
	}
	if o.sample != "" {
		if err := o.runner.Sample(ctx, o.sample, o.language); err != nil {
			return err
		}
		if o.json {
			return o.print(map[string]string{"sample": o.sample})
		}
		_, err := fmt.Fprintf(o.out, "a sample was sent to %s\n", printable(o.sample))
		return err
	}
	list := []item{}
	note := func(i jobs.Item) { list = append(list, itemOf(i)) }
	if err := o.runner.Look(ctx, jobs.Notify, note); err != nil {
		return err
	}
	if o.dryRun {
		return o.reportMails("expire soon, and their users were not told", list)
	}
	if len(list) > 0 {
		if err := o.confirm(list, fmt.Sprintf("Send mails about %s", count(len(list), "app password"))); err != nil {
			return err
		}
		list = []item{}
		if err := o.runner.Do(ctx, jobs.Notify, note); err != nil {
			return errors.Join(o.reportMails("mailed about", list), err)
		}
	}
	if err := o.reportMails("mailed about", list); err != nil {
		return err
	}
	if n := failures(list); n > 0 {
		return fmt.Errorf("mails about %s were not sent", count(n, "app password"))
	}
	return nil
}

// reportMails shows what became of mails.
func (o *byHand) reportMails(what string, list []item) error {
	if o.json {
		return o.print(list)
	}
	fmt.Fprintf(o.out, "%s: %s\n", what, count(len(list)-failures(list), "app password"))
	return showItems(o.out, list)
}
