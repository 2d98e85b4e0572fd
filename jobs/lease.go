package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"appbind/history"
)

const (
	// leaseTime is how long a lease lasts: a job of an instance that died is taken over after so long.
	leaseTime = time.Minute
	// renewEvery is how often it is made longer.
	renewEvery = leaseTime / 4
	// surely is for how long after it was given, or made longer, a lease is held whatever the store says since.
	surely = leaseTime * 5 / 6
)

// errStopped says that a job ended because it was told to.
var errStopped = errors.New("stopped")

// keep makes a lease longer until release is called. The context that it returns ends with history.ErrLost as its cause when the
// lease is not surely held any more. asked is when the lease was asked for.
func (r *Runner) keep(parent context.Context, l history.Lease, asked time.Time) (ctx context.Context, release func()) {
	ctx, lose := context.WithCancelCause(parent)
	var wg sync.WaitGroup
	// What it uses of the Runner is not changed while a job is done.
	leases := r.store
	wg.Go(func() {
		end := time.NewTimer(time.Until(asked.Add(surely)))
		defer end.Stop()
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-end.C:
				lose(history.ErrLost)
				return
			case <-tick.C:
			}
			asked := time.Now()
			asking, cancel := context.WithTimeout(ctx, renewEvery)
			err := leases.Renew(asking, l, leaseTime)
			cancel()
			switch {
			case errors.Is(err, history.ErrLost):
				lose(history.ErrLost)
				return
			case err == nil:
				end.Reset(time.Until(asked.Add(surely)))
			}
		}
	})
	return ctx, func() {
		lose(nil)
		wg.Wait()
	}
}

// ended is why a job must not go on; nil: it may.
func ended(ctx context.Context) error {
	switch {
	case ctx.Err() == nil:
		return nil
	case errors.Is(context.Cause(ctx), history.ErrLost):
		return history.ErrLost
	}
	return errStopped
}
