package jobs

import "context"

// purgeHistory deletes what is older than the retention.
func (r *Runner) purgeHistory(ctx context.Context) error {
	now := r.now()
	n, err := r.store.Purge(ctx, now, r.retention)
	r.counts.deleted.Add(uint64(max(n, 0)))
	if n > 0 {
		r.log.Info("old history deleted", "rows", n)
		if r.events != nil {
			r.events.Purged(now, n)
		}
	}
	if err != nil && ended(ctx) != nil {
		return ended(ctx)
	}
	return err
}
