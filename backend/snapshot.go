package backend

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"slices"
	"time"

	"appbind/auth"
)

// The snapshot is the copy of lookup: replica on disk (app_passwords.snapshot), for a start while no server
// answers: it takes the place of the last copy of an outage (outage.go), under all of its rules, and is
// looked at for nothing else. With the first session that is current, the copy of that session takes its place.
//
// It is two files. The first holds the users (snapshot_users.go), and is written anew when there is another
// copy, and at most each minute when users have changed. The second, the mark (snapshot_mark.go), belongs to one
// writing of the first. It is small, and written when something has changed, within a second, and else every
// half minute. It says until when the users are proven, and who has changed since they were
// written: who is named there is not taken from the snapshot, so that what was known to be revoked is not there again.
//
// The age of a snapshot is that of the last proof, not that of the files. It is
// carried from start to start by the wall clock and, as long as the machine runs, by the clock that nobody sets; the
// larger age counts. Each writing notes the time, and what was written in the future is refused.
// So neither restarts nor a clock that is set extend max_stale: by a clock that is set back while the machine is
// off no more than from the last writing on, which an outage does not end.
//
// Both have what is kept of listed service accounts (auth.KeptService), the mark the later one; each with an age of its own.
//
// A snapshot is refused, with a line in the log and nothing else, if it is not a file of the user of the process, with
// mode 0600, complete, of this format, and made with the configuration of now (copyKey).

// Times of the snapshot.
const (
	// snapshotPause is between two looks whether something must be written.
	snapshotPause = time.Second
	// markPause is after which the mark is written though nothing has changed.
	markPause = 30 * time.Second
	// usersPause is the least time between two writings of the users, if it is the same copy still;
	// usersShare is which part of the time writing may take at most.
	usersPause = time.Minute
	usersShare = 20
	// retryPause is after a writing that failed.
	retryPause = 10 * time.Second
	// maxChanged bounds the users that a mark names; with more, the users are written anew.
	maxChanged = 10000
)

// snapshot writes the two files. The Upstreams of one process that succeed each other have one between them.
type snapshot struct {
	file     string
	services *auth.Memory                            // whose service accounts are kept
	boot     func() (id string, since time.Duration) // bootClock, but in tests

	turn chan struct{} // holds one token: who has it may use the files and the fields below

	owners  []*Upstream // that were started and are not closed; the last one writes
	held    *table      // what the first file holds, but for what has changed since; nil: not known
	id      [16]byte    // of the first file
	written time.Time   // when the first file was written
	took    time.Duration
	marked  time.Time // when the mark was written
	changes int       // that the mark tells of
	kept    string    // the service accounts that the later of the files has, see keptAs
	retry   time.Time // nothing is tried before
}

func newSnapshot(file string, services *auth.Memory) *snapshot {
	k := &snapshot{file: file, services: services, boot: bootClock, turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	return k
}

// KeepSnapshot has the copy of lookup: replica kept in a file, and in a second one with the ending ".mark", together with
// the service accounts that services remembers. Start reads them, where no earlier Upstream has handed a copy over. Call it before Continue.
func (u *Upstream) KeepSnapshot(file string, services *auth.Memory) {
	if u.replica.on && u.replica.maxStale > 0 {
		u.snapshot = newSnapshot(file, services)
	}
}

// startSnapshot reads the snapshot, and has it written from now on.
func (u *Upstream) startSnapshot() {
	k := u.snapshot
	<-k.turn
	first := len(k.owners) == 0
	k.owners = append(k.owners, u)
	if first {
		removeLeftovers(k.file)
	}
	if u.replica.last.Load() == nil {
		u.loadSnapshot()
	}
	k.turn <- struct{}{}
	u.workers.Add(1)
	go u.runSnapshot()
}

// loadSnapshot makes the snapshot the last copy, or tells the log why it is refused. The caller has the turn.
func (u *Upstream) loadSnapshot() {
	k, now := u.snapshot, u.clock.now()
	r, err := u.readSnapshot(now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		u.log.Info("there is no snapshot of the replica yet", "file", k.file)
	case errors.Is(err, errOtherSite):
		u.log.Info("snapshot of the replica is ignored", "file", k.file, "reason", err)
	case err != nil:
		u.log.Warn("snapshot of the replica is refused, and will be replaced", "file", k.file, "reason", err)
	default:
		k.held, k.id, k.written = r.table, r.id, now
		u.replica.last.Store(r.table)
		k.services.RestoreServices(r.services)
		users, proven := r.table.size()
		u.log.Info("snapshot of the replica is read, for as long as no server answers", "file", k.file, "users", users,
			"service_accounts", len(r.services), "age", ageAt(proven, now).Round(time.Second), "max_stale", u.replica.maxStale)
	}
}

// runSnapshot keeps the files as the copy is, until Close, and once more then.
func (u *Upstream) runSnapshot() {
	defer u.workers.Done()
	k := u.snapshot
	for u.pause(snapshotPause) {
		<-k.turn
		u.saveSnapshot(false)
		k.turn <- struct{}{}
	}
	<-k.turn
	u.saveSnapshot(true)
	k.owners = slices.DeleteFunc(k.owners, func(o *Upstream) bool { return o == u })
	k.turn <- struct{}{}
}

// saveSnapshot writes what is due; ending: it is the last time. The caller has the turn.
func (u *Upstream) saveSnapshot(ending bool) {
	k, t, now := u.snapshot, u.replica.last.Load(), u.clock.now()
	if t == nil || k.owners[len(k.owners)-1] != u || now.Before(k.retry) && !ending {
		return
	}
	changes, services := t.changes(), k.services.KeptServices()
	var err error
	switch {
	case k.usersDue(t, changes, now, ending):
		err = u.saveUsers(t, services, now)
	case k.held != t, changes > maxChanged:
		return // the mark cannot tell how they differ
	case changes != k.changes, keptAs(services) != k.kept, now.Sub(k.marked) >= markPause, ending:
		err = u.saveMark(t, services, now)
	}
	if err == nil {
		return
	}
	k.retry = now.Add(retryPause)
	if u.snapshotLog.allow(now) {
		u.log.Error("snapshot of the replica cannot be written", "file", k.file, "reason", err)
	}
}

// usersDue reports whether the users must be written anew.
func (k *snapshot) usersDue(t *table, changes int, now time.Time, ending bool) bool {
	since, least := now.Sub(k.written), usersShare*k.took
	switch {
	case k.held != t:
		return ending || k.held == nil || since >= least
	case changes == 0:
		return false
	case changes > maxChanged:
		return ending || since >= least
	}
	return ending || since >= max(least, usersPause)
}

// keptAs is equal as long as the same accounts are kept with the same passwords.
func keptAs(services []auth.KeptService) string {
	var text []byte
	for _, s := range services {
		text = appendText(appendText(text, s.DN), s.Hash)
	}
	return string(text)
}

// saveUsers writes the first file, which stands without a mark.
func (u *Upstream) saveUsers(t *table, services []auth.KeptService, now time.Time) error {
	k, began := u.snapshot, time.Now()
	k.held = nil // whatever happens from here on, the mark that is there may not be the file's
	_, _ = rand.Read(k.id[:])
	boot, since := k.boot()
	f := t.freeze()
	err := writeAtomically(k.file, f.writer(k.id, u.replica.key, stampAt(f.proven, now, boot, since, services)))
	k.written, k.took = now, time.Since(began)
	if err != nil {
		return err
	}
	k.held, k.changes, k.kept, k.marked = t, 0, keptAs(services), now
	return nil
}

// saveMark writes the second file.
func (u *Upstream) saveMark(t *table, services []auth.KeptService, now time.Time) error {
	k := u.snapshot
	boot, since := k.boot()
	blocked, changes, proven := t.blocked()
	if changes > maxChanged {
		return nil // just now; see saveSnapshot
	}
	content := encodeMark(k.id, stampAt(proven, now, boot, since, services), blocked)
	if len(content) > maxMark {
		k.held = nil // the users are written instead
		return nil
	}
	if err := writeAtomically(markOf(k.file), writerOf(content)); err != nil {
		return err
	}
	k.changes, k.kept, k.marked = changes, keptAs(services), now
	return nil
}

// note records that a user has changed since the users were written; the caller holds t.mu.
func (t *table) note(id string) {
	if t.changed != nil && len(t.changed) <= maxChanged {
		t.changed[id] = struct{}{}
	}
}

// changes is how many users have changed since the users were written.
func (t *table) changes() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.changed)
}
