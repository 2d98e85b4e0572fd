package proxy

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"appbind/auth"
	"appbind/secrets"
	"appbind/wire"
)

// reasonControl is the one reason of a bind's end that is not the decision's.
const reasonControl = "critical control not supported"

// services are the names under which binds are counted, canonical. A client may
// name any service, and each name is one more series: all others are "other".
var services = [...]string{"", "imap", "smtp", "pop3", "sieve", "lmtp", "http", "jmap", "caldav", "carddav", "xmpp", "sip", "ftp", "ldap", "other"}

// outcomes are those of a bind, in the order of bindCounts.
var outcomes = [...]string{outcomeAccepted, outcomeDenied, outcomeFailed}

// reasons are those of a bind; the last one takes what is none of them.
var reasons = append(auth.Reasons(), reasonControl, "other")

var (
	serviceIndex = indexOf(services[:])
	reasonIndex  = indexOf(reasons)
)

func indexOf(names []string) map[string]int {
	m := make(map[string]int, len(names))
	for i, n := range names {
		m[n] = i
	}
	return m
}

// The operations that are timed, by their tag.
var timed = [256]struct {
	name  string
	index int
}{
	wire.OpSearchRequest:   {"search", 0},
	wire.OpCompareRequest:  {"compare", 1},
	wire.OpModifyRequest:   {"modify", 2},
	wire.OpAddRequest:      {"add", 3},
	wire.OpDelRequest:      {"delete", 4},
	wire.OpModifyDNRequest: {"modify_dn", 5},
	wire.OpExtendedRequest: {"extended", 6},
}

const timedOperations = 7

// Why a connection was refused, for the counter.
const (
	refusedConnections = iota
	refusedDescriptors
	refusedAddress
	refusedNetwork
	refusedProxyHeader
	refusedTLS
	refusedReasons
)

var refusedNames = [refusedReasons]string{"connections", "descriptors", "connections_per_address", "allow_from", "proxy_header", "tls_handshake"}

// Stats is what a Server has counted since it was made, and what it has open now.
type Stats struct {
	Listeners  []ListenerStats      // by name
	Refused    map[string]uint64    // connections, by reason
	Operations map[string]Durations // forwarded requests, from their receipt to the final response, by operation
	Denied     map[string]uint64    // requests that were answered with a refusal of ours, by operation
	Binds      map[string]Durations // decisions, by outcome
	Stalled    uint64               // connections that ended because the client took nothing for limits.write_stall
	Panics     uint64               // bugs of ours that were contained, each in the connection that it struck
}

// ListenerStats is what was counted at the listeners of one name, also at those that a reload removed.
type ListenerStats struct {
	Name     string
	Open     int64  // connections now
	Accepted uint64 // connections that were let in
	Binds    []BindCount
}

// BindCount counts binds that ended alike. Every text is one of a fixed list.
type BindCount struct {
	Outcome, Reason, Service string
	N                        uint64
}

// counts is what a Server counts. Whoever counts adds to atomics, without a lock and an allocation.
type counts struct {
	refused    [refusedReasons]atomic.Uint64
	operations [timedOperations]histogram
	denied     [timedOperations]atomic.Uint64
	binds      [len(outcomes)]histogram
	stalled    atomic.Uint64

	mu        sync.Mutex // guards listeners, not what they point to
	listeners map[string]*listenerCounts
}

// listenerCounts are those of one listener. A connection keeps to the one that it came to.
type listenerCounts struct {
	open     atomic.Int64
	accepted atomic.Uint64
	binds    []atomic.Uint64 // by outcome, service and reason, see bindSlot
}

// listener is the counts of a name; they stay when the listener goes, so that
// no counter ever falls. There are as many as configurations had listeners.
func (t *counts) listener(name string) *listenerCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.listeners[name]
	if l == nil {
		l = &listenerCounts{binds: make([]atomic.Uint64, len(outcomes)*len(services)*len(reasons))}
		if t.listeners == nil {
			t.listeners = map[string]*listenerCounts{}
		}
		t.listeners[name] = l
	}
	return l
}

func bindSlot(outcome, service, reason int) int {
	return (outcome*len(services)+service)*len(reasons) + reason
}

// bind counts one bind.
func (t *counts) bind(l *listenerCounts, outcome, reason, service string, took time.Duration) {
	o := slices.Index(outcomes[:], outcome)
	r, known := reasonIndex[reason]
	if !known {
		r = len(reasons) - 1
	}
	s, known := serviceIndex[service]
	if !known {
		if s, known = serviceIndex[secrets.CanonicalService(service)]; !known {
			s = len(services) - 1
		}
	}
	l.binds[bindSlot(o, s, r)].Add(1)
	t.binds[o].add(took)
}

// answered counts a forwarded request that has its final response.
func (t *counts) answered(op wire.Op, took time.Duration) {
	t.operations[timed[op].index].add(took)
}

// deny counts a request that is answered with a refusal.
func (t *counts) deny(op wire.Op) {
	if timed[op].name != "" {
		t.denied[timed[op].index].Add(1)
	}
}

// binds of one listener that were not zero.
func (l *listenerCounts) counted() (list []BindCount) {
	for o, outcome := range outcomes {
		for s, service := range services {
			for r, reason := range reasons {
				if n := l.binds[bindSlot(o, s, r)].Load(); n > 0 {
					list = append(list, BindCount{outcome, reason, service, n})
				}
			}
		}
	}
	return list
}

// Stats takes a snapshot. Counters never fall.
func (s *Server) Stats() Stats {
	t := &s.counts
	st := Stats{
		Refused: map[string]uint64{}, Operations: map[string]Durations{}, Denied: map[string]uint64{}, Binds: map[string]Durations{},
		Stalled: t.stalled.Load(), Panics: uint64(s.panics.Load()),
	}
	t.mu.Lock()
	for name, l := range t.listeners {
		st.Listeners = append(st.Listeners, ListenerStats{name, l.open.Load(), l.accepted.Load(), l.counted()})
	}
	t.mu.Unlock()
	slices.SortFunc(st.Listeners, func(a, b ListenerStats) int { return strings.Compare(a.Name, b.Name) })
	for i, name := range refusedNames {
		st.Refused[name] = t.refused[i].Load()
	}
	for _, op := range timed {
		if op.name != "" {
			st.Operations[op.name] = t.operations[op.index].snapshot()
			st.Denied[op.name] = t.denied[op.index].Load()
		}
	}
	for i, name := range outcomes {
		st.Binds[name] = t.binds[i].snapshot()
	}
	return st
}

// Serving reports whether clients are accepted: after Start, and before Shutdown.
func (s *Server) Serving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.draining && len(s.listeners) > 0
}
