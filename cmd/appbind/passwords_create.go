package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"appbind/manage"
)

// createOptions are the flags of create.
type createOptions struct {
	desk
	user, label, expires string
	services, networks   []string
	dryRun               bool
}

func createCommand(s streams) *cobra.Command {
	o := &createOptions{desk: desk{streams: s}}
	c := &cobra.Command{
		Use:   "create -c FILE --user NAME --label LABEL",
		Short: "Create an app password and show it once",
		Long: `Create an app password, store its hash in the user's entry, and show it once: it is
kept nowhere else. Nothing is shown unless the directory has confirmed that it is
stored.`,
		Example: `  appbind passwords create -c /etc/appbind/appbind.yaml --user alice --label phone
  appbind passwords create -c /etc/appbind/appbind.yaml --user alice --label printer --service smtp --net 192.0.2.0/24 --expires 90d --json`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, o.create) },
	}
	o.flags(c)
	userFlag(c, &o.user)
	f := c.Flags()
	f.StringVarP(&o.label, "label", "l", "", "what it is for, shown to people; new for this user (required)")
	scopeFlags(c, &o.services, &o.networks)
	f.StringVar(&o.expires, "expires", "", "`LIFETIME` such as 90d, a day such as 2027-01-31, or never (default app_passwords.default_lifetime)")
	f.BoolVar(&o.dryRun, "dry-run", false, "say whether it could be created, and do nothing")
	also(c, func() error {
		if o.label == "" {
			return fmt.Errorf("--label is required (see '%s --help')", c.CommandPath())
		}
		return nil
	})
	return c
}

// scopeFlags adds --service and --net.
func scopeFlags(c *cobra.Command, services, networks *[]string) {
	c.Flags().StringSliceVar(services, "service", nil, "services it is limited to, such as `imap,smtp`")
	c.Flags().StringSliceVar(networks, "net", nil, "networks it is limited to, such as `192.0.2.0/24`")
}

// request is what the flags ask for.
func (o *createOptions) request(now time.Time) (q manage.Request, err error) {
	q = manage.Request{Label: o.label, Services: o.services}
	if q.Networks, err = parseNetworks(o.networks); err == nil {
		q.Expires, q.Never, err = parseExpiry(o.expires, now)
	}
	if err != nil {
		return q, &usageError{err}
	}
	return q, nil
}

func (o *createOptions) create(ctx context.Context) error {
	now := o.m.Now()
	q, err := o.request(now)
	if err != nil {
		return err
	}
	u, err := o.find(ctx, o.user)
	if err != nil {
		return err
	}
	if o.dryRun {
		return o.try(u, q, now)
	}
	made, err := o.managing().Create(ctx, u, q)
	if err != nil {
		return err
	}
	o.noteOff()
	r := rowOf(u, made.Value, now)
	if o.json {
		return o.print(struct {
			User     string     `json:"user"`
			Label    string     `json:"label"`
			ID       string     `json:"id"`
			Password string     `json:"password"`
			Expires  *time.Time `json:"expires"`
		}{r.User, r.Label, r.ID, made.Password, r.Expires})
	}
	if err := details(o.out, r, now); err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.out, "\npassword  %s\n\nIt is shown this once. Spaces and capitals do not matter when it is typed.\n", made.Password)
	return err
}

// try says whether a password could be created.
func (o *createOptions) try(u *manage.User, q manage.Request, now time.Time) error {
	if !u.Eligible {
		return manage.ErrNotEligible
	}
	made, _, err := o.m.Rules().Issue(u.Set, q, now)
	if err != nil {
		return err
	}
	r := rowOf(u, made.Value, now)
	r.ID = "" // each try would be another
	if o.json {
		return o.print(r)
	}
	fmt.Fprintln(o.out, "would be created:")
	return details(o.out, r, now)
}
