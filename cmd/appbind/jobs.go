package main

import (
	"context"
	"time"

	"appbind/config"
	"appbind/events"
	"appbind/jobs"
	"appbind/manage"
	"appbind/proxy"
	"appbind/secrets"
)

// jobsTime bounds the wait for a job at the end: the mail or the user under way, and no more.
const jobsTime = 10 * time.Second

// jobsOf makes the jobs of a configuration; they do nothing until they are started.
func (h *house) jobsOf(core proxy.Core) (*jobs.Runner, error) {
	// What the jobs do is to delete: whether the attribute is shared makes no difference to that.
	m := manage.New(core.Config, core.Upstream, false, time.Now)
	o := jobs.Options{Upstream: core.Upstream, Manager: m, Counts: &h.jobCounts, Now: time.Now, Log: h.log}
	if told(core.Config) {
		o.Events = done{h.noticed, byJob}
	}
	return jobs.New(core.Config, o)
}

// done tells the journal what the jobs do.
type done struct {
	emit func(events.Event)
	by   events.Actor // who does it
}

var _ jobs.Events = done{}

// byJob is serve.
var byJob = events.Actor{Name: "appbind", Via: "job"}

// Expired tells of an app password that was removed.
func (d done) Expired(at time.Time, u *manage.User, v *secrets.Value) {
	d.emit(eventOf(events.Expired, at, u, v).By(d.by))
}

// Expiring tells of one that expires soon.
func (d done) Expiring(at time.Time, u *manage.User, v *secrets.Value) {
	d.emit(eventOf(events.Expiring, at, u, v))
}

// Purged tells of old history.
func (d done) Purged(at time.Time, rows int64) {
	d.emit(events.Event{Time: at, Kind: events.Purged, Count: rows}.By(d.by))
}

// eventOf is an event about an app password of a user.
func eventOf(kind events.Kind, at time.Time, u *manage.User, v *secrets.Value) events.Event {
	return events.Event{Time: at, Kind: kind, Entry: u.Key, DN: u.DN, ID: v.ID, Label: v.Label, Expires: v.Expires, Services: v.Services, Networks: v.Networks}
}

// work makes these the jobs that are done, and returns the ones before. A job of theirs that is under way is not waited
// for: the lease keeps the new ones off it.
func (h *house) work(cfg *config.Config, r *jobs.Runner) (before *jobs.Runner) {
	before = h.working
	h.working = r
	if cfg.JobsOn() {
		r.Start()
	}
	return before
}

// rest ends jobs.
func rest(ctx context.Context, r *jobs.Runner) {
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, jobsTime)
	defer cancel()
	r.Close(ctx)
}
