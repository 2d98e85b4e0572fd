package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"appbind/manage"
	"appbind/secrets"
)

// row is an app password as it is shown to people and scripts. There is no material in it.
type row struct {
	User     string     `json:"user"`
	Label    string     `json:"label"`
	ID       string     `json:"id"`
	State    string     `json:"state"` // live, expired, unusable, user disabled
	Problem  string     `json:"problem,omitempty"`
	Created  *time.Time `json:"created,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Services []string   `json:"services,omitempty"`
	Networks []string   `json:"networks,omitempty"`

	// As far as the history knows.
	LastUsed    *time.Time `json:"last_used,omitempty"`
	LastService string     `json:"last_service,omitempty"`
	LastAddress string     `json:"last_address,omitempty"`
	Uses        int64      `json:"uses,omitempty"`

	past  bool // the history was asked
	never bool // it would know, and there was none
}

// The states of an app password.
const (
	stateLive     = "live"
	stateExpired  = "expired"
	stateUnusable = "unusable"
	stateDisabled = "user disabled"
)

// rowOf is one app password of a user.
func rowOf(u *manage.User, v *secrets.Value, now time.Time) row {
	r := row{User: u.DN, Label: v.Label, ID: manage.Handle(v), State: stateLive, Services: v.Services}
	switch {
	case v.Err != nil:
		r.State, r.Problem = stateUnusable, v.Err.Error()
	case !v.Expires.IsZero() && !now.Before(v.Expires):
		r.State = stateExpired
	case !u.Eligible:
		r.State = stateDisabled
	}
	if !v.Created.IsZero() {
		at := v.Created.UTC()
		r.Created = &at
	}
	if !v.Expires.IsZero() {
		at := v.Expires.UTC()
		r.Expires = &at
	}
	for _, n := range v.Networks {
		r.Networks = append(r.Networks, n.String())
	}
	return r
}

// rowsOf are the app passwords of a user, in the order of the directory.
func rowsOf(u *manage.User, now time.Time) []row {
	rows := []row{}
	for _, v := range u.Set.Values {
		if v.Kind == secrets.App {
			rows = append(rows, rowOf(u, v, now))
		}
	}
	return rows
}

// table writes rows for people; users: each row names its user.
func table(w io.Writer, rows []row, users bool, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	past := len(rows) > 0 && rows[0].past
	head := []string{"LABEL", "ID", "STATE", "EXPIRES"}
	if past {
		head = append(head, "LAST USED", "FROM")
	}
	head = append(head, "SERVICES", "NETWORKS")
	if users {
		head = append(head, "USER")
	}
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, r := range rows {
		line := []string{printable(r.Label), r.ID, r.State, expiryText(r.Expires, now)}
		if past {
			line = append(line, r.usedText(now), placeText(r.LastService, r.LastAddress))
		}
		line = append(line, orAny(r.Services), orAny(r.Networks))
		if users {
			line = append(line, printable(r.User))
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}

// usedText is the last use in a table.
func (r *row) usedText(now time.Time) string {
	switch {
	case r.LastUsed != nil:
		return r.LastUsed.Format(time.DateOnly) + " (" + distance(*r.LastUsed, now) + ")"
	case r.never:
		return "never"
	}
	return "not known"
}

// placeText is a service and an address.
func placeText(service, address string) string {
	if text := strings.TrimSpace(service + " " + address); text != "" {
		return printable(text)
	}
	return "-"
}

// details writes one app password for people.
func details(w io.Writer, r row, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("user", printable(r.User))
	line("label", printable(r.Label))
	line("id", r.ID)
	line("state", r.State)
	line("problem", r.Problem)
	if r.Created != nil {
		line("created", r.Created.Format(time.RFC3339))
	}
	expires := "never"
	if r.Expires != nil {
		expires = r.Expires.Format(time.RFC3339) + " (" + distance(*r.Expires, now) + ")"
	}
	line("expires", expires)
	line("services", orAny(r.Services))
	line("networks", orAny(r.Networks))
	switch {
	case r.LastUsed != nil:
		line("last used", r.LastUsed.Format(time.RFC3339)+" ("+distance(*r.LastUsed, now)+")")
		line("from", placeText(r.LastService, r.LastAddress))
		line("uses", fmt.Sprint(r.Uses))
	case r.past:
		line("last used", r.usedText(now))
	}
	return t.Flush()
}

// orAny is a list of restrictions; none of them allows anything.
func orAny(list []string) string {
	if len(list) == 0 {
		return "any"
	}
	return printable(strings.Join(list, ","))
}

// expiryText is an expiry in a table.
func expiryText(at *time.Time, now time.Time) string {
	if at == nil {
		return "never"
	}
	return at.Format(time.DateOnly) + " (" + distance(*at, now) + ")"
}

// distance is how far a moment is from now, in the unit that people would use.
func distance(at, now time.Time) string {
	d, form := at.Sub(now), "in %s"
	if d < 0 {
		d, form = -d, "%s ago"
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf(form, fmt.Sprintf("%d days", int(d.Round(time.Hour)/(24*time.Hour))))
	case d >= 2*time.Hour:
		return fmt.Sprintf(form, fmt.Sprintf("%d hours", int(d.Round(time.Minute)/time.Hour)))
	}
	return fmt.Sprintf(form, fmt.Sprintf("%d minutes", int(d.Round(time.Second)/time.Minute)))
}
