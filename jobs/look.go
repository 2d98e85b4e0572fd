package jobs

import (
	"context"
	"errors"

	"appbind/auth"
	"appbind/manage"
)

// Look says what a job would do, and changes nothing: the items are Planned, or have no address. Of purge_history it
// says nothing. Errors are those of Do.
func (r *Runner) Look(ctx context.Context, name string, each func(Item)) error {
	switch name {
	case RemoveExpired:
		return r.lookExpired(ctx, each)
	case Notify:
		return r.lookNotify(ctx, each)
	}
	return nil
}

func (r *Runner) lookExpired(ctx context.Context, each func(Item)) error {
	now := r.now()
	return r.dir.Each(ctx, func(u *manage.User) error {
		for _, v := range u.Set.Values {
			if expiredFor(v, r.removeAfter, now) {
				each(Item{User: u.DN, Label: v.Label, ID: manage.Handle(v), Expires: v.Expires, Outcome: Planned})
			}
		}
		return nil
	})
}

func (r *Runner) lookNotify(ctx context.Context, each func(Item)) error {
	switch {
	case r.mail == nil:
		return ErrNoServer
	case r.open == nil:
		return ErrNoStore
	}
	defer r.drop()
	if err := r.connect(ctx); err != nil {
		return err
	}
	p, err := r.plan(ctx, r.now())
	if err != nil {
		return err
	}
	for _, n := range p.mails {
		who, err := r.dir.Person(ctx, n.user.DN)
		switch {
		case errors.Is(err, auth.ErrNotFound):
			continue
		case err != nil:
			return err
		case who.Address == "":
			n.report(each, "", NoAddress, nil)
		default:
			n.report(each, who.Address, Planned, nil)
		}
	}
	return nil
}
