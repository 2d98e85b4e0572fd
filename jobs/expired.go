package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/history"
	"appbind/manage"
	"appbind/secrets"
)

// maxTroubles is after how many users in a row for whom it failed a job is given up: it is not about them then.
const maxTroubles = 3

// expiredFor reports whether an app password expired at least so long ago.
func expiredFor(v *secrets.Value, grace time.Duration, now time.Time) bool {
	return v.Kind == secrets.App && !v.Expires.IsZero() && !now.Before(v.Expires.Add(grace))
}

// removeExpired removes what expired long ago.
func (r *Runner) removeExpired(ctx context.Context, each func(Item)) error {
	now := r.now()
	old := func(v *secrets.Value) bool { return expiredFor(v, r.removeAfter, now) }
	users, err := r.usersWith(ctx, old)
	if err != nil {
		return err
	}
	var first error
	troubles, failed := 0, 0
	for _, u := range users {
		if err := ended(ctx); err != nil {
			return err
		}
		gone, err := r.dir.Remove(ctx, u.DN, old)
		r.removed(ctx, u, gone, now, each)
		switch {
		case err == nil:
			troubles = 0
			continue
		case errors.Is(err, auth.ErrNotFound):
			continue // the user is gone, and his app passwords with him
		case ended(ctx) != nil:
			return ended(ctx)
		}
		each(Item{User: u.DN, Outcome: Failed, Err: err})
		r.counts.notRemoved.Add(1)
		if failed++; first == nil {
			first = fmt.Errorf("%s: %w", u.DN, err)
		}
		if troubles++; troubles >= maxTroubles || errors.Is(err, backend.ErrUnavailable) {
			break
		}
	}
	if first != nil {
		return fmt.Errorf("expired app passwords of %d users were not removed; %w", failed, first)
	}
	return nil
}

// usersWith are the users who have an app password of a kind. They are listed before anything is changed: a search
// whose entries change meanwhile may show some twice, or not at all.
func (r *Runner) usersWith(ctx context.Context, which func(v *secrets.Value) bool) (users []*manage.User, err error) {
	err = r.dir.Each(ctx, func(u *manage.User) error {
		for _, v := range u.Set.Values {
			if which(v) {
				users = append(users, u)
				break
			}
		}
		return ended(ctx)
	})
	if e := ended(ctx); e != nil {
		return nil, e
	}
	return users, err
}

// removed takes note of app passwords that were removed.
func (r *Runner) removed(ctx context.Context, u *manage.User, gone []*secrets.Value, now time.Time, each func(Item)) {
	for _, v := range gone {
		r.counts.removed.Add(1)
		id := manage.Handle(v)
		r.log.Info("expired app password removed", "user", u.DN, "label", v.Label, "id", id, "expired", v.Expires.UTC())
		if r.events != nil {
			r.events.Expired(now, u, v)
		}
		each(Item{User: u.DN, Label: v.Label, ID: id, Expires: v.Expires, Outcome: Removed})
		if r.store == nil {
			continue
		}
		// What a device that goes on with it is told by. The removal does not depend on it.
		noting, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
		if err := r.store.Revoked(noting, history.Change{Time: now, Entry: u.Key, DN: u.DN, ID: v.ID, Label: v.Label}); err != nil {
			r.log.Warn("the history does not know that an app password was removed", "user", u.DN, "id", id, "err", err)
		}
		cancel()
	}
}
