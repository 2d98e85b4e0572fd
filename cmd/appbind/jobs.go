package main

import (
	"context"
	"time"

	"appbind/config"
	"appbind/jobs"
	"appbind/manage"
	"appbind/proxy"
)

// jobsTime bounds the wait for a job at the end: the mail or the user under way, and no more.
const jobsTime = 10 * time.Second

// jobsOf makes the jobs of a configuration; they do nothing until they are started.
func (h *house) jobsOf(core proxy.Core) (*jobs.Runner, error) {
	// What the jobs do is to delete: whether the attribute is shared makes no difference to that.
	m := manage.New(core.Config, core.Upstream, false, time.Now)
	return jobs.New(core.Config, jobs.Options{Upstream: core.Upstream, Manager: m, Counts: &h.jobCounts, Now: time.Now, Log: h.log})
}

// work makes these the jobs that are done, and returns the ones before. A job of theirs that is under way is not waited
// for: the lease keeps the new ones off it.
func (h *house) work(cfg *config.Config, r *jobs.Runner) (before *jobs.Runner) {
	before = h.working
	h.working = r
	if cfg.Jobs.Enabled {
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
