package backend

import (
	"context"
	"errors"
	"sync/atomic"

	"appbind/wire"
)

// The requests that are counted, by their tag.
var counted = [256]struct {
	name  string
	index int
}{
	wire.OpBindRequest:     {"bind", 0},
	wire.OpSearchRequest:   {"search", 1},
	wire.OpCompareRequest:  {"compare", 2},
	wire.OpModifyRequest:   {"modify", 3},
	wire.OpAddRequest:      {"add", 4},
	wire.OpDelRequest:      {"delete", 5},
	wire.OpModifyDNRequest: {"modify_dn", 6},
	wire.OpExtendedRequest: {"extended", 7},
}

const countedRequests = 8

// Kinds of links, for the gauge.
const (
	clientLinks = iota // carry binds and what clients ask; idle ones too
	sharedLinks        // carry what the clients of a service account ask
	lookupLinks        // carry lookups; a probe's link is counted for as long as it lives
	linkKinds
)

func kindOf(l *Link) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.group != nil:
		return sharedLinks
	case l.pooled:
		return clientLinks
	}
	return lookupLinks
}

// countShared has a link that is open counted as a shared one, or as a client's again.
func (t *counts) countShared(n int64) {
	t.open[clientLinks].Add(-n)
	t.open[sharedLinks].Add(n)
}

// counts is what is counted of one server: atomics, without a lock and an allocation.
type counts struct {
	requests     [countedRequests]atomic.Uint64
	open         [linkKinds]atomic.Int64
	unanswered   atomic.Uint64
	lost         atomic.Uint64
	notConnected atomic.Uint64
}

// count counts a request that is about to be sent.
func (t *counts) count(op wire.Op) { t.requests[counted[op].index].Add(1) }

// Stats is what an Upstream has counted, together with those that it continues, and what it has open now.
type Stats struct {
	Servers []ServerStats // in the order of the configuration
	Panics  uint64        // bugs of ours that were contained, each in the link that it struck
	Replica ReplicaInfo   // of app_passwords.lookup: replica
}

// ServerStats is what was counted of one server.
type ServerStats struct {
	Name         string            // its URL
	Up           bool              // it is used, and nothing is known against it
	Links        map[string]int64  // open now: client (in use by a client or a bind), idle (waits for the next bind), shared (carries the requests of a service account's clients), service (lookups, probes)
	Requests     map[string]uint64 // sent, by operation
	Unanswered   uint64            // requests that were not answered in time
	Lost         uint64            // links that ended, and appbind did not end them
	NotConnected uint64            // connects that failed
}

// Continue makes u go on with the counts of the Upstream that it replaces, for
// the servers that are in both: no counter falls by a reload, and links that
// survive in previous count as open. Call it before Start.
func (u *Upstream) Continue(previous *Upstream) {
	u.panics = previous.panics
	if u.replica.maxStale > 0 && u.replica.key == previous.replica.key {
		u.replica.last.Store(previous.replica.last.Load()) // until there is a new one
	}
	if u.snapshot != nil && previous.snapshot != nil && u.snapshot.file == previous.snapshot.file {
		u.snapshot = previous.snapshot // one writes
	}
	for _, s := range u.servers {
		for _, p := range previous.servers {
			if p.name == s.name {
				s.counts = p.counts
			}
		}
	}
}

// Stats takes a snapshot. Two servers of one URL are one.
func (u *Upstream) Stats() Stats {
	st := Stats{Panics: u.panics.Load(), Replica: u.replicaNow()}
	seen := map[string]bool{}
	for _, s := range u.servers {
		if seen[s.name] {
			continue
		}
		seen[s.name] = true
		u.healthMu.Lock()
		health := s.health
		u.healthMu.Unlock()
		u.pool.mu.Lock()
		idle := int64(len(s.idle))
		u.pool.mu.Unlock()
		one := ServerStats{
			Name: s.name, Up: health == up,
			Links: map[string]int64{
				"client":  max(s.open[clientLinks].Load()-idle, 0),
				"idle":    idle,
				"shared":  s.open[sharedLinks].Load(),
				"service": s.open[lookupLinks].Load(),
			},
			Requests: map[string]uint64{}, Unanswered: s.unanswered.Load(), Lost: s.lost.Load(), NotConnected: s.notConnected.Load(),
		}
		for _, op := range counted {
			if op.name != "" {
				one.Requests[op.name] = s.requests[op.index].Load()
			}
		}
		st.Servers = append(st.Servers, one)
	}
	return st
}

// ErrRefuses says that the upstream answers, and takes no lookups of appbind.
var ErrRefuses = errors.New("the upstream refuses lookups")

// Ping asks the upstream for its root DSE as a lookup does, within ctx. nil:
// lookups are answered. The errors are ErrUnavailable and ErrRefuses.
func (u *Upstream) Ping(ctx context.Context) error {
	switch r, err := u.ServiceSearch(ctx, rootProbe(), nil, nil); {
	case ErrServiceBind(err):
		return ErrRefuses
	case err != nil, r.Code == wire.ResultBusy, r.Code == wire.ResultUnavailable:
		return ErrUnavailable
	}
	return nil
}
