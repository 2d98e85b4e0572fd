package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"appbind/manage"
)

// editOptions are the flags of renew, rename and scope.
type editOptions struct {
	desk
	user               string
	ref                manage.Ref
	dryRun             bool
	to, expires        string
	services, networks []string
	anyService, anyNet bool
}

// editCommand is one that changes an app password and not its hash.
func editCommand(s streams, c *cobra.Command, more func(o *editOptions, c *cobra.Command) func(ctx context.Context, u *manage.User) error) *cobra.Command {
	o := &editOptions{desk: desk{streams: s}}
	o.flags(c)
	userFlag(c, &o.user)
	refFlags(c, &o.desk, &o.user, &o.ref, true)
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "say whether it could be done, and do nothing")
	edit := more(o, c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		return o.run(c, func(ctx context.Context) error {
			u, err := o.find(ctx, o.user)
			if err != nil {
				return err
			}
			return edit(ctx, u)
		})
	}
	return c
}

func renewCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "renew -c FILE --user NAME {--label LABEL | --id ID}",
		Short: "Give an app password a new expiry",
		Long: `Give an app password another expiry; the password stays. Without --expires it is
app_passwords.default_lifetime from now. An expired one works again.`,
		Example: "  appbind passwords renew -c /etc/appbind/appbind.yaml --user alice --label phone --expires 90d",
	}
	return editCommand(s, c, func(o *editOptions, c *cobra.Command) func(context.Context, *manage.User) error {
		c.Flags().StringVar(&o.expires, "expires", "", "`LIFETIME` such as 90d, a day such as 2027-01-31, or never (default app_passwords.default_lifetime)")
		return func(ctx context.Context, u *manage.User) error {
			at, never, err := parseExpiry(o.expires, o.m.Now())
			if err != nil {
				return &usageError{err}
			}
			return o.edit(ctx, u, o.ref, "renewed", func(r *manage.Rules, now time.Time) (manage.Change, error) {
				return r.Renew(u.Set, o.ref, at, never, now)
			}, func(op *manage.Operator) error {
				err := op.Renew(ctx, u.DN, o.ref, at, never)
				if err == nil {
					o.noteOff()
				}
				return err
			})
		}
	})
}

func renameCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:     "rename -c FILE --user NAME {--label LABEL | --id ID} --to LABEL",
		Short:   "Give an app password another label",
		Example: "  appbind passwords rename -c /etc/appbind/appbind.yaml --user alice --label phone --to 'old phone'",
	}
	return editCommand(s, c, func(o *editOptions, c *cobra.Command) func(context.Context, *manage.User) error {
		c.Flags().StringVar(&o.to, "to", "", "the new `LABEL` (required)")
		also(c, func() error {
			if o.to == "" {
				return fmt.Errorf("--to is required (see '%s --help')", c.CommandPath())
			}
			return nil
		})
		return func(ctx context.Context, u *manage.User) error {
			v, err := u.Set.Find(o.ref)
			if err != nil {
				return err
			}
			return o.edit(ctx, u, manage.Ref{ID: manage.Handle(v), Label: o.to}, "renamed", func(r *manage.Rules, now time.Time) (manage.Change, error) {
				return r.Relabel(u.Set, o.ref, o.to, now)
			}, func(op *manage.Operator) error { return op.Relabel(ctx, u.DN, o.ref, o.to) })
		}
	})
}

func scopeCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "scope -c FILE --user NAME {--label LABEL | --id ID} {--service LIST | --any-service} {--net LIST | --any-net}",
		Short: "Limit an app password to services and networks",
		Long: `Limit an app password to services and networks, or lift such limits. What is not
named stays as it is.`,
		Example: "  appbind passwords scope -c /etc/appbind/appbind.yaml --user alice --label printer --service smtp --any-net",
	}
	return editCommand(s, c, func(o *editOptions, c *cobra.Command) func(context.Context, *manage.User) error {
		scopeFlags(c, &o.services, &o.networks)
		c.Flags().BoolVar(&o.anyService, "any-service", false, "lift the limit to services")
		c.Flags().BoolVar(&o.anyNet, "any-net", false, "lift the limit to networks")
		also(c, func() error {
			switch {
			case o.anyService && len(o.services) > 0, o.anyNet && len(o.networks) > 0:
				return errors.New("--service and --any-service, --net and --any-net exclude each other")
			case !o.anyService && !o.anyNet && len(o.services)+len(o.networks) == 0:
				return fmt.Errorf("one of --service, --net, --any-service, --any-net is required (see '%s --help')", c.CommandPath())
			}
			return nil
		})
		return o.rescope
	})
}

func (o *editOptions) rescope(ctx context.Context, u *manage.User) error {
	networks, err := parseNetworks(o.networks)
	if err != nil {
		return &usageError{err}
	}
	v, err := u.Set.Find(o.ref)
	if err != nil {
		return err
	}
	services := o.services
	if len(services) == 0 && !o.anyService {
		services = v.Services
	}
	if len(networks) == 0 && !o.anyNet {
		networks = append([]netip.Prefix(nil), v.Networks...)
	}
	return o.edit(ctx, u, o.ref, "limited", func(r *manage.Rules, now time.Time) (manage.Change, error) {
		return r.Rescope(u.Set, o.ref, services, networks, now)
	}, func(op *manage.Operator) error { return op.Rescope(ctx, u.DN, o.ref, services, networks) })
}

// edit makes one change, or tries it, and shows what the app password, which after names, is then.
func (o *editOptions) edit(ctx context.Context, u *manage.User, after manage.Ref, done string,
	decide func(r *manage.Rules, now time.Time) (manage.Change, error), do func(op *manage.Operator) error) error {
	now := o.m.Now()
	set := u.Set
	if o.dryRun {
		c, err := decide(o.m.Rules(), now)
		if err != nil {
			return err
		}
		done = "would be " + done
		if len(c.Add) > 0 {
			set = manage.NewSet([][]byte{[]byte(c.Add[0])})
		}
	} else {
		if err := do(o.managing()); err != nil {
			return err
		}
		u, err := o.find(ctx, u.DN)
		if err != nil {
			return err
		}
		set = u.Set
	}
	v, err := set.Find(after)
	if err != nil {
		return err
	}
	r := rowOf(u, v, now)
	if o.json {
		return o.print(r)
	}
	fmt.Fprintln(o.out, done+":")
	return details(o.out, r, now)
}
