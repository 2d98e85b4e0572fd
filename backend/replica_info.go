package backend

import (
	"context"
	"fmt"
	"time"
)

// ReplicaInfo is how the replica fares.
type ReplicaInfo struct {
	// On says that app_passwords.lookup is replica.
	On bool
	// Current says that binds are answered from memory.
	Current bool
	// Users is how many are held.
	Users int
	// Held says that there is a copy, current or not; Age is the time since the last proof that it is what the directory holds.
	Held bool
	Age  time.Duration
	// Outage says that no server answers, and that the copy decides, which is younger than app_passwords.max_stale.
	Outage bool
	// Source says how changes come, and with what delay; "" before the first session.
	Source string
	// Err is why it is not current.
	Err error
}

// Replica tells how the replica fares, waiting within ctx for the first session to be current or to fail.
func (u *Upstream) Replica(ctx context.Context) ReplicaInfo {
	r := &u.replica
	if !r.on {
		return ReplicaInfo{}
	}
	select {
	case <-r.decided:
	case <-ctx.Done():
		return ReplicaInfo{On: true, Err: fmt.Errorf("the first refresh is not complete yet: %w", ctx.Err())}
	}
	return u.replicaNow()
}

// replicaNow is Replica without waiting.
func (u *Upstream) replicaNow() ReplicaInfo {
	r := &u.replica
	r.mu.Lock()
	info := ReplicaInfo{On: r.on, Err: r.err}
	follows := r.source
	r.mu.Unlock()
	if follows != nil {
		info.Source = follows.String()
	}
	t, now := r.table.Load(), u.clock.now()
	if t != nil {
		_, proven := t.size()
		info.Current = currentAt(proven, now)
	} else {
		t = r.last.Load()
	}
	if t != nil {
		users, proven := t.size()
		info.Held, info.Users, info.Age = true, users, ageAt(proven, now)
		info.Outage = u.Down() && u.stale() != nil
	}
	return info
}
