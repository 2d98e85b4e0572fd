package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/spf13/cobra"

	"appbind/config"
	"appbind/events"
)

// auditOptions are the flags of audit.
type auditOptions struct {
	streams
	config             string
	user, entry, actor string
	events             []string
	span               span
	json, csv          bool
}

func auditCommand(s streams) *cobra.Command {
	o := &auditOptions{streams: s}
	c := &cobra.Command{
		Use:   "audit {-c FILE | LOG...}",
		Short: "Show what was done to app passwords, by whom",
		Long: `Show what the audit log tells: the file of audit.file, or the files that are named,
in their order (rotated ones, compressed by gzip or not; - is standard input).
All of it, or the events that match all options.

As a table; with --json the lines as they stand in the log, with --csv for
spreadsheets. Neither the directory nor a running appbind is asked.`,
		Example: `  appbind audit -c /etc/appbind/appbind.yaml --user alice --since 30d
  appbind audit --event issued,revoked --since 2026-01-01 --until 2026-04-01 --csv /var/log/appbind/audit.log*`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return o.audit(args, time.Now()) },
	}
	f := c.Flags()
	f.StringVarP(&o.config, "config", "c", "", "configuration `FILE`, which names the audit log")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	f.StringVarP(&o.user, "user", "u", "", "of this user alone: the `DN`, or the value that it begins with (alice)")
	f.StringVar(&o.entry, "entry", "", "of the user with this `IDENTITY`, which stays when the entry is renamed")
	f.StringVar(&o.actor, "actor", "", "done by whoever has this `TEXT` in the name")
	f.StringSliceVar(&o.events, "event", nil, "these `EVENTS` alone, such as issued,revoked")
	o.span.flags(c)
	f.BoolVar(&o.json, "json", false, "write the lines of the log")
	f.BoolVar(&o.csv, "csv", false, "write CSV")
	_ = c.RegisterFlagCompletionFunc("event", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return kindNames(), cobra.ShellCompDirectiveNoFileComp
	})
	c.PreRunE = func(_ *cobra.Command, args []string) error {
		if (o.config == "") == (len(args) == 0) {
			return &usageError{fmt.Errorf("either -c FILE or the audit logs are required (see '%s --help')", c.CommandPath())}
		}
		if o.json && o.csv {
			return &usageError{errors.New("--json and --csv exclude each other")}
		}
		for _, name := range o.events {
			if !slices.Contains(kindNames(), name) {
				return &usageError{fmt.Errorf("--event %s: not one of %s", name, strings.Join(kindNames(), ", "))}
			}
		}
		return nil
	}
	return c
}

// kindNames are the events that there are.
func kindNames() (names []string) {
	for _, k := range events.Kinds {
		names = append(names, string(k))
	}
	return names
}

// audit writes the events that are wanted of the logs.
func (o *auditOptions) audit(logs []string, now time.Time) error {
	wanted, err := o.filter(now)
	if err != nil {
		return err
	}
	if o.config != "" {
		if logs, err = auditFile(o.config); err != nil {
			return err
		}
	}
	write, end := o.table()
	switch {
	case o.json:
		write, end = o.lines()
	case o.csv:
		write, end = o.records()
	}
	for _, name := range logs {
		odd, err := o.read(name, func(l *events.Line, raw []byte) error {
			if wanted(l) {
				return write(l, raw)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if odd > 0 {
			fmt.Fprintf(o.err, "appbind: %s: left out what is no event: %s\n", name, count(odd, "line"))
		}
	}
	return end()
}

// auditFile is the audit log that a configuration names.
func auditFile(name string) ([]string, error) {
	cfg, err := config.Load(name)
	switch {
	case err != nil:
		return nil, err
	case cfg.Audit.File == "":
		return nil, fmt.Errorf("there is no audit log: %s has no audit.file", name)
	case cfg.Audit.File == "stdout":
		return nil, errors.New("the audit log goes to the standard output of serve: name the files that it is kept in, or - for standard input")
	}
	return []string{cfg.Audit.File}, nil
}

// read reads one log.
func (o *auditOptions) read(name string, f func(*events.Line, []byte) error) (odd int, err error) {
	if name == "-" {
		return events.Read(o.in, f)
	}
	file, err := os.Open(name)
	if err != nil {
		return 0, err.(*os.PathError).Err // the caller tells the name
	}
	defer file.Close()
	return events.Read(file, f)
}

// filter is what an event must fulfil.
func (o *auditOptions) filter(now time.Time) (func(*events.Line) bool, error) {
	from, to, err := o.span.times(now)
	if err != nil {
		return nil, err
	}
	actor := strings.ToLower(o.actor)
	isUser := ofUser(o.user)
	return func(l *events.Line) bool {
		return (from.IsZero() || !l.Time.Before(from)) && (to.IsZero() || l.Time.Before(to)) &&
			(len(o.events) == 0 || slices.Contains(o.events, string(l.Event))) &&
			(o.entry == "" || strings.EqualFold(l.Entry, o.entry)) &&
			strings.Contains(strings.ToLower(l.Actor), actor) && isUser(l.User)
	}, nil
}

// ofUser tells whether a DN is that of a user, who is named by his DN or by the value that it begins with.
func ofUser(name string) func(dn string) bool {
	if name == "" {
		return func(string) bool { return true }
	}
	want, err := ldap.ParseDN(name)
	whole := err == nil && len(want.RDNs) > 0
	return func(text string) bool {
		dn, err := ldap.ParseDN(text)
		switch {
		case err != nil || len(dn.RDNs) == 0: // cut, or refused for what it is
			return strings.EqualFold(text, name)
		case whole:
			return dn.EqualFold(want)
		}
		return slices.ContainsFunc(dn.RDNs[0].Attributes, func(a *ldap.AttributeTypeAndValue) bool { return strings.EqualFold(a.Value, name) })
	}
}

// lines writes the lines of the log as they stand there.
func (o *auditOptions) lines() (write func(*events.Line, []byte) error, end func() error) {
	return func(_ *events.Line, raw []byte) error {
		_, err := fmt.Fprintf(o.out, "%s\n", raw)
		return err
	}, func() error { return nil }
}

// table writes a table for people.
func (o *auditOptions) table() (write func(*events.Line, []byte) error, end func() error) {
	t := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	none := true
	return func(l *events.Line, _ []byte) error {
			if none {
				fmt.Fprintln(t, "TIME\tEVENT\tLABEL\tID\tACTOR\tVIA\tFROM\tUSER\tDETAILS")
				none = false
			}
			_, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Time.UTC().Format(time.RFC3339), printable(string(l.Event)), orDash(l.Label), orDash(l.Password),
				orDash(l.Actor), orDash(l.Via), placeText(l.Service, l.Address), orDash(l.User), orDash(detailsOf(l)))
			return err
		}, func() error {
			if none {
				_, err := io.WriteString(o.out, "no events\n")
				return err
			}
			return t.Flush()
		}
}

// detailsOf is what only some events have.
func detailsOf(l *events.Line) string {
	var parts []string
	if l.Expires != nil {
		parts = append(parts, "expires "+l.Expires.Format(time.DateOnly))
	}
	for _, p := range []struct{ name, text string }{{"services ", strings.Join(l.Services, ",")}, {"networks ", strings.Join(l.Networks, ",")}, {"", l.Factor}, {"", l.Reason}} {
		if p.text != "" {
			parts = append(parts, p.name+p.text)
		}
	}
	if l.Count != 0 {
		parts = append(parts, strconv.FormatInt(l.Count, 10)+" rows")
	}
	return strings.Join(parts, "; ")
}

// records writes CSV.
func (o *auditOptions) records() (write func(*events.Line, []byte) error, end func() error) {
	w := csv.NewWriter(o.out)
	_ = w.Write([]string{"time", "event", "user", "label", "password_id", "expires", "services", "networks", "actor", "via", "address", "service", "factor", "reason", "count", "entry", "event_id"}) // end tells
	return func(l *events.Line, _ []byte) error {
			rows := ""
			if l.Count != 0 {
				rows = strconv.FormatInt(l.Count, 10)
			}
			record := []string{l.Time.UTC().Format(time.RFC3339Nano), string(l.Event), l.User, l.Label, l.Password, stampOf(l.Expires), strings.Join(l.Services, ","),
				strings.Join(l.Networks, ","), l.Actor, l.Via, l.Address, l.Service, l.Factor, l.Reason, rows, l.Entry, l.EventID}
			for i, cell := range record {
				record[i] = noFormula(cell)
			}
			return w.Write(record)
		}, func() error {
			w.Flush()
			return w.Error()
		}
}

// noFormula is a cell that no spreadsheet computes: labels and names are texts that anybody chose.
func noFormula(cell string) string {
	if strings.ContainsAny(cell[:min(1, len(cell))], "=+-@\t\r") {
		return "'" + cell
	}
	return cell
}
