package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"appbind/history"
)

const (
	// pollEvery is how often is looked which jobs are due; the store answers one small question.
	pollEvery = time.Minute
	// retryPause is after how long a job that failed is due again.
	retryPause = 5 * time.Minute
	// storeTime bounds one question to the store.
	storeTime = 15 * time.Second
	// skew is how far the clocks of this machine and of the store may be apart.
	skew = 5 * time.Minute
)

// Runner does the jobs of one configuration. Make it with New.
type Runner struct {
	options
	owner string

	soft context.Context // ends when no further user is begun
	stop context.CancelFunc
	hard context.Context // ends when nothing is waited for any more
	kill context.CancelFunc
	done chan struct{} // closed when the goroutine of Start has ended
	once sync.Once

	// The goroutine of Start has these for itself.
	store   store           // nil: not open
	failing map[string]bool // jobs, and "all" for the store
	alone   time.Time       // without a store: when remove_expired was done last
}

func newRunner(o options) *Runner {
	r := &Runner{options: o, owner: ownerName(), done: make(chan struct{}), failing: map[string]bool{}}
	r.soft, r.stop = context.WithCancel(context.Background())
	r.hard, r.kill = context.WithCancel(context.Background())
	return r
}

// ownerName is a name that no other holder of a lease has.
func ownerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:8])
}

// Start starts the jobs, in the background; the first look is after a minute, or jobs.interval if that is shorter.
func (r *Runner) Start() {
	r.once.Do(func() { go r.run() })
}

// Close ends the jobs: the mail and the user under way are finished. When ctx ends, they are given up. A Runner that
// was not started is closed too.
func (r *Runner) Close(ctx context.Context) {
	r.stop()
	r.once.Do(func() { close(r.done) })
	defer context.AfterFunc(ctx, r.kill)()
	<-r.done
	r.kill()
}

// run looks again and again, until Close.
func (r *Runner) run() {
	defer close(r.done)
	defer r.drop()
	tick := time.NewTicker(min(pollEvery, r.interval))
	defer tick.Stop()
	for {
		select {
		case <-r.soft.Done():
			return
		case <-tick.C:
			_ = r.guard(r.round) // what fails was told
		}
	}
}

// guard does f. A panic in it is our own bug; it must not end those who serve logins.
func (r *Runner) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			r.counts.panics.Add(1)
			r.log.Error("appbind: internal error: panic in a job", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = errPanic
		}
	}()
	return f()
}

var errPanic = errors.New("internal error in a job")

// round does what is due.
func (r *Runner) round() error {
	if r.open == nil {
		return r.roundAlone()
	}
	states, err := r.look()
	r.tell("all", "the jobs wait: the history's store does not answer", "the history's store answers the jobs again", err)
	if err != nil {
		r.drop()
		return err
	}
	for _, name := range Names() {
		st, known := states[name]
		if !st.Succeeded.IsZero() {
			r.counts.job(name).last.Store(st.Succeeded.Unix())
		}
		if !r.on(name) || st.Held || known && !st.Due || r.soft.Err() != nil {
			continue
		}
		if err := r.do(r.soft, name, false, func(Item) {}); !errors.Is(err, history.ErrHeld) {
			r.tell(name, "a job failed", "a job succeeds again", err)
		}
	}
	return nil
}

// look asks the store how the jobs are.
func (r *Runner) look() (map[string]history.JobState, error) {
	ctx, cancel := context.WithTimeout(r.soft, storeTime)
	defer cancel()
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	return r.store.Jobs(ctx)
}

// connect opens the store where it is not.
func (r *Runner) connect(ctx context.Context) (err error) {
	if r.store == nil {
		r.store, err = r.open(ctx)
	}
	return err
}

// drop closes the store; a connection that failed may be half alive.
func (r *Runner) drop() {
	if r.store != nil {
		r.store.Close()
		r.store = nil
	}
}

// roundAlone removes expired app passwords where there is no store: what several instances do then at the same time is the same.
func (r *Runner) roundAlone() error {
	now := r.now()
	if !r.on(RemoveExpired) || now.Sub(r.alone) < r.interval {
		return nil
	}
	r.alone = now
	err := r.work(r.soft, RemoveExpired, history.Lease{}, func(Item) {})
	r.count(RemoveExpired, err)
	if err == nil {
		r.counts.job(RemoveExpired).last.Store(now.Unix())
	}
	r.tell(RemoveExpired, "a job failed", "a job succeeds again", err)
	return err
}

// tell logs when something begins to fail, and when it works again. That a lease was lost, or appbind stops, is no failure.
func (r *Runner) tell(name, bad, good string, err error) {
	if errors.Is(err, errStopped) || r.soft.Err() != nil {
		return
	}
	switch was := r.failing[name]; {
	case err != nil && !was:
		r.log.Warn(bad, "job", name, "err", err)
	case err == nil && was:
		r.log.Info(good, "job", name)
	}
	r.failing[name] = err != nil
}

// count counts a run.
func (r *Runner) count(name string, err error) {
	c := r.counts.job(name)
	switch {
	case err == nil:
		c.succeeded.Add(1)
	case errors.Is(err, history.ErrLost), errors.Is(err, errStopped):
		c.lost.Add(1)
	default:
		c.failed.Add(1)
	}
}

// Do does a job by hand, whether it is due or not; each is called for what was done. It takes the lease, and must not be mixed with
// Start. Errors: ErrNoStore, ErrNoServer, ErrClock, history.ErrHeld, history.ErrLost, those of the directory and the store.
func (r *Runner) Do(ctx context.Context, name string, each func(Item)) error {
	if name == Notify && r.mail == nil {
		return ErrNoServer
	}
	defer r.drop()
	if r.open == nil {
		if name != RemoveExpired {
			return ErrNoStore
		}
		return r.work(ctx, name, history.Lease{}, each)
	}
	err := func() error {
		ctx, cancel := context.WithTimeout(ctx, storeTime)
		defer cancel()
		return r.connect(ctx)
	}()
	if err != nil {
		return err
	}
	return r.do(ctx, name, true, each)
}

// do does a job under its lease.
func (r *Runner) do(ctx context.Context, name string, force bool, each func(Item)) error {
	begun := time.Now()
	asking, cancel := context.WithTimeout(ctx, storeTime)
	lease, err := r.store.Acquire(asking, name, r.owner, leaseTime, force)
	cancel()
	if err != nil {
		return err
	}
	held, release := r.keep(ctx, lease, begun)
	err = ErrClock
	if r.now().Sub(lease.Now).Abs() <= skew {
		err = r.guard(func() error { return r.work(held, name, lease, each) })
	}
	release()
	r.count(name, err)
	pause := min(r.interval, retryPause)
	if err == nil {
		pause = r.interval
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	if e := r.store.End(ending, lease, pause, err == nil); e == nil && err == nil {
		r.counts.job(name).last.Store(lease.Now.Unix())
	} else if err == nil {
		err = e
	}
	return err
}

// work is what a job does.
func (r *Runner) work(ctx context.Context, name string, l history.Lease, each func(Item)) error {
	switch name {
	case RemoveExpired:
		return r.removeExpired(ctx, each)
	case Notify:
		return r.notify(ctx, l, each)
	case PurgeHistory:
		return r.purgeHistory(ctx)
	}
	panic("appbind: internal error: no job " + name)
}
