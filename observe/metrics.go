package observe

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"appbind/auth"
	"appbind/backend"
	"appbind/events"
	"appbind/history"
	"appbind/jobs"
	"appbind/proxy"
)

// Metric describes one metric of appbind's own.
type Metric struct {
	Name   string
	Type   string // counter, gauge, histogram
	Help   string // one line, as in doc/metrics.md
	Labels []string
}

// desc makes a metric; metrics below is all of them.
func desc(kind, name, help string, labels ...string) *described {
	return &described{Metric{name, kind, help, labels}, prometheus.NewDesc(name, help, labels, nil)}
}

type described struct {
	Metric
	desc *prometheus.Desc
}

// The metrics, in the order of doc/metrics.md.
var (
	binds = desc("counter", "appbind_binds_total",
		"Binds that ended, by outcome (accepted; denied: judged, or not allowed; failed: could not be judged), by reason (the words of the log), by the user's service (empty: unknown; other: none of the known ones) and by listener.",
		"outcome", "reason", "service", "listener")
	bindDuration = desc("histogram", "appbind_bind_duration_seconds",
		"Time from the receipt of a bind to its decision.", "outcome")
	operationDuration = desc("histogram", "appbind_operation_duration_seconds",
		"Time from the receipt of a request that was forwarded to its final response.", "operation")
	refusals = desc("counter", "appbind_operations_refused_total",
		"Requests other than binds that were answered with a refusal, and not forwarded.", "operation")
	connections = desc("gauge", "appbind_connections",
		"Connections of clients that are open.", "listener")
	accepted = desc("counter", "appbind_connections_accepted_total",
		"Connections of clients that were let in.", "listener")
	refused = desc("counter", "appbind_connections_refused_total",
		"Connections that ended before their first message: limits.connections, file descriptors, limits.connections_per_address, allow_from, no valid PROXY header, no TLS handshake.", "reason")
	stalled = desc("counter", "appbind_writes_stalled_total",
		"Connections that were closed because the client took nothing for limits.write_stall.")
	upstreamUp = desc("gauge", "appbind_upstream_up",
		"1 if the server is used and nothing is known against it, 0 if it is suspect or down.", "server")
	upstreamLinks = desc("gauge", "appbind_upstream_links",
		"Connections to the server that are open: client (in use), idle (wait for the next bind), shared (carry the requests of a service account's clients), service (lookups and probes).", "server", "kind")
	upstreamRequests = desc("counter", "appbind_upstream_requests_total",
		"Requests that were sent to the server, lookups and probes included.", "server", "operation")
	upstreamUnanswered = desc("counter", "appbind_upstream_requests_unanswered_total",
		"Requests that the server did not answer in time.", "server")
	upstreamLost = desc("counter", "appbind_upstream_links_lost_total",
		"Connections to the server that ended, and appbind did not end them.", "server")
	upstreamNotConnected = desc("counter", "appbind_upstream_connects_failed_total",
		"Connects to the server that failed, TLS included; a server that is down is tried each second.", "server")
	replicaCurrent = desc("gauge", "appbind_replica_current",
		"With lookup: replica, 1 if binds are answered from memory because it is current, 0 if users are looked up live or there is an outage.")
	replicaUsers = desc("gauge", "appbind_replica_users",
		"With lookup: replica, users in memory.")
	replicaAge = desc("gauge", "appbind_replica_age_seconds",
		"With lookup: replica, time since the copy in memory was last proven to be what the directory holds; absent before the first time.")
	outage = desc("gauge", "appbind_outage",
		"With lookup: replica, 1 while no server answers and app passwords are decided from a copy younger than app_passwords.max_stale.")
	hashes = desc("counter", "appbind_hashes_total",
		"Slow password hashes that were computed.")
	hashesRefused = desc("counter", "appbind_hashes_refused_total",
		"Slow password hashes for which there was no room, or no time: the bind was answered 51.")
	hashQueue = desc("gauge", "appbind_hash_queue_length",
		"Slow password hashes that wait for their turn.")
	hashRunning = desc("gauge", "appbind_hash_running",
		"Slow password hashes that are being computed.")
	hashMemory = desc("gauge", "appbind_hash_memory_bytes",
		"Memory that the hashes being computed take; app_passwords.hash_memory is its limit.")
	unusable = desc("counter", "appbind_unusable_values_total",
		"Unusable values of the secrets attribute that were skipped, each time; the log names them.")
	memoryEntries = desc("gauge", "appbind_memory_entries",
		"Entries in memory: verified (passwords known to fit a value), misses (known to fit none), parsed (values), flawless (entries whose values are all usable), reported (unusable values that were logged), codes_used, codes_wrong (one-time codes), guesses, failures (accounts), absent (names without an entry), services (service accounts, for an outage).", "memory")
	historyUp = desc("gauge", "appbind_history_up",
		"1 if the history's store took what was last written, 0 if it did not; logins do not depend on it. Absent where no history is kept.")
	historyPending = desc("gauge", "appbind_history_pending_rows",
		"Rows of the history that wait to be written, for some seconds where all is well.")
	historyWritten = desc("counter", "appbind_history_events_written_total",
		"Users' binds that are in the history.")
	historyDropped = desc("counter", "appbind_history_events_dropped_total",
		"Users' binds that are missing in the history: queue, memory (no room while the store does not answer), refused (by the store), stopped (not written before the end).", "reason")
	jobSuccess = desc("gauge", "appbind_job_last_success_timestamp_seconds",
		"When the job (remove_expired, notify, purge_history) last succeeded on any of the instances that share the history, in seconds since 1970; absent before the first time.", "task")
	jobRuns = desc("counter", "appbind_job_runs_total",
		"Runs of the job on this instance, by outcome: succeeded, failed, lost (ended by a stop, or by the loss of its lease).", "task", "outcome")
	expiredRemoved = desc("counter", "appbind_expired_passwords_total",
		"Expired app passwords that were removed from the directory, and attempts on users for whom it failed, by outcome: removed, failed.", "outcome")
	historyDeleted = desc("counter", "appbind_history_rows_deleted_total",
		"Rows of uses and failures that were deleted, being older than history.retention.")
	mails = desc("counter", "appbind_mails_total",
		"Mails about expiring app passwords, by outcome: sent, failed (and tried again), uncertain (the server did not say; sent again), given up (uncertain three times).", "outcome")
	post = desc("counter", "appbind_portal_mails_total",
		"Mails of the self-service pages about what was done there, by outcome: sent, uncertain (the server did not say), and lost: queue (no room), refused (by the server), outdated (not taken for an hour), stopped (not sent before the end).", "outcome")
	auditUp = desc("gauge", "appbind_audit_up",
		"1 if the last line of the audit log could be written, 0 if it could not and is tried again. Absent without audit.file.")
	auditWritten = desc("counter", "appbind_audit_lines_written_total",
		"Lines that are in the audit log.")
	auditDropped = desc("counter", "appbind_audit_lines_dropped_total",
		"Lines that are missing in the audit log: queue (no room while it could not be written), stopped (not written before the end).", "reason")
	webhookPending = desc("gauge", "appbind_webhook_pending",
		"Events that wait for the webhook's receiver. Absent without webhook.url.")
	webhookDelivered = desc("counter", "appbind_webhook_delivered_total",
		"Events that the webhook's receiver has taken.")
	webhookFailed = desc("counter", "appbind_webhook_attempts_failed_total",
		"Attempts to deliver an event that the webhook's receiver did not answer with 2xx.")
	webhookDropped = desc("counter", "appbind_webhook_dropped_total",
		"Events that the webhook's receiver never got: queue (no room), refused (by the receiver), outdated (not taken for a day), stopped (not taken before the end).", "reason")
	panics = desc("counter", "appbind_panics_total",
		"Bugs of appbind that were contained, each in the connection that it struck, in the history or in a job; the log has the stack.")
	enabled = desc("gauge", "appbind_enabled",
		"1 if the part works, 0 if the configuration switches it off: accept (app passwords at binds), issue (making and renewing them), portal (portal.listen empty counts as off), jobs.", "part")
	buildInfo = desc("gauge", "appbind_build_info",
		"Always 1; the labels tell the version.", "version", "goversion")

	metrics = []*described{binds, bindDuration, operationDuration, refusals, connections, accepted, refused, stalled,
		upstreamUp, upstreamLinks, upstreamRequests, upstreamUnanswered, upstreamLost, upstreamNotConnected,
		replicaCurrent, replicaUsers, replicaAge, outage, hashes, hashesRefused, hashQueue, hashRunning, hashMemory, unusable, memoryEntries,
		historyUp, historyPending, historyWritten, historyDropped, jobSuccess, jobRuns, expiredRemoved, historyDeleted, mails, post,
		auditUp, auditWritten, auditDropped, webhookPending, webhookDelivered, webhookFailed, webhookDropped, enabled, panics, buildInfo}
)

// Metrics lists the metrics of appbind's own. Those of Go (go_) and of the process (process_) come besides.
func Metrics() []Metric {
	list := make([]Metric, len(metrics))
	for i, m := range metrics {
		list[i] = m.Metric
	}
	return list
}

// collector makes metrics of the snapshots of the moment.
type collector struct{ Source }

// Describe names all metrics.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics {
		out <- m.desc
	}
}

// Collect takes the snapshots.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	to := sink(out)
	to.put(buildInfo, 1, c.Version, runtime.Version())
	total := uint64(0)
	if st, ok := c.Proxy(); ok {
		to.proxy(st)
		total += st.Panics
	}
	if st, ok := c.Upstream(); ok {
		to.upstream(st)
		total += st.Panics
	}
	to.auth(c.Auth())
	if st, ok := c.History(); ok {
		to.history(st)
		total += st.Panics
	}
	if st, ok := c.Events(); ok {
		to.events(st)
	}
	for outcome, n := range c.Post() {
		to.put(post, float64(n), outcome)
	}
	for part, on := range c.Enabled() {
		to.put(enabled, oneIf(on), part)
	}
	st := c.Jobs()
	to.jobs(st)
	to.put(panics, float64(total+st.Panics))
}

// sink is where metrics go.
type sink chan<- prometheus.Metric

func (s sink) put(m *described, value float64, labels ...string) {
	kind := prometheus.CounterValue
	if m.Type == "gauge" {
		kind = prometheus.GaugeValue
	}
	s <- prometheus.MustNewConstMetric(m.desc, kind, value, labels...)
}

func (s sink) durations(m *described, d proxy.Durations, labels ...string) {
	buckets := make(map[float64]uint64, len(proxy.DurationBounds))
	below := uint64(0)
	for i, bound := range proxy.DurationBounds {
		below += d.Counts[i]
		buckets[bound.Seconds()] = below
	}
	s <- prometheus.MustNewConstHistogram(m.desc, d.Total(), d.Sum.Seconds(), buckets, labels...)
}

func (s sink) proxy(st proxy.Stats) {
	for _, l := range st.Listeners {
		s.put(connections, float64(l.Open), l.Name)
		s.put(accepted, float64(l.Accepted), l.Name)
		for _, b := range l.Binds {
			s.put(binds, float64(b.N), b.Outcome, b.Reason, b.Service, l.Name)
		}
	}
	for outcome, d := range st.Binds {
		s.durations(bindDuration, d, outcome)
	}
	for operation, d := range st.Operations {
		s.durations(operationDuration, d, operation)
		s.put(refusals, float64(st.Denied[operation]), operation)
	}
	for reason, n := range st.Refused {
		s.put(refused, float64(n), reason)
	}
	s.put(stalled, float64(st.Stalled))
}

func (s sink) upstream(st backend.Stats) {
	s.replica(st.Replica)
	for _, u := range st.Servers {
		s.put(upstreamUp, oneIf(u.Up), u.Name)
		for kind, n := range u.Links {
			s.put(upstreamLinks, float64(n), u.Name, kind)
		}
		for operation, n := range u.Requests {
			s.put(upstreamRequests, float64(n), u.Name, operation)
		}
		s.put(upstreamUnanswered, float64(u.Unanswered), u.Name)
		s.put(upstreamLost, float64(u.Lost), u.Name)
		s.put(upstreamNotConnected, float64(u.NotConnected), u.Name)
	}
}

func (s sink) replica(r backend.ReplicaInfo) {
	if !r.On {
		return
	}
	s.put(replicaCurrent, oneIf(r.Current))
	s.put(outage, oneIf(r.Outage))
	s.put(replicaUsers, float64(r.Users))
	if r.Held {
		s.put(replicaAge, r.Age.Seconds())
	}
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

func (s sink) auth(st auth.Stats) {
	s.put(hashes, float64(st.Hashed))
	s.put(hashesRefused, float64(st.HashRefused))
	s.put(hashQueue, float64(st.HashQueued))
	s.put(hashRunning, float64(st.HashRunning))
	s.put(hashMemory, float64(st.HashMemory))
	s.put(unusable, float64(st.Unusable))
	for _, m := range st.MemoryCounts {
		s.put(memoryEntries, float64(m.N), m.Name)
	}
}

func (s sink) history(st history.Stats) {
	up := 0.0
	if st.Up {
		up = 1
	}
	s.put(historyUp, up)
	s.put(historyPending, float64(st.Pending))
	s.put(historyWritten, float64(st.Written))
	for reason, n := range st.Dropped {
		s.put(historyDropped, float64(n), reason)
	}
}

func (s sink) jobs(st jobs.Stats) {
	for _, j := range st.Jobs {
		if !j.Last.IsZero() {
			s.put(jobSuccess, float64(j.Last.Unix()), j.Name)
		}
		for outcome, n := range j.Runs {
			s.put(jobRuns, float64(n), j.Name, outcome)
		}
	}
	for outcome, n := range st.Removed {
		s.put(expiredRemoved, float64(n), outcome)
	}
	s.put(historyDeleted, float64(st.Deleted))
	for outcome, n := range st.Mails {
		s.put(mails, float64(n), outcome)
	}
}

func (s sink) events(st events.Stats) {
	if st.Audit {
		s.put(auditUp, oneIf(st.AuditUp))
		s.put(auditWritten, float64(st.Written))
		for reason, n := range st.AuditDropped {
			s.put(auditDropped, float64(n), reason)
		}
	}
	if !st.Webhook {
		return
	}
	s.put(webhookPending, float64(st.WebhookPending))
	s.put(webhookDelivered, float64(st.Delivered))
	s.put(webhookFailed, float64(st.Failed))
	for reason, n := range st.WebhookDropped {
		s.put(webhookDropped, float64(n), reason)
	}
}
