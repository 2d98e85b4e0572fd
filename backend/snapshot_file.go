package backend

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"appbind/auth"
)

// Bounds of the files of a snapshot.
const (
	maxSnapshot = 1 << 30
	maxMark     = 16 << 20
)

func markOf(file string) string { return file + ".mark" }

// leftover is what a file is called, before a random part, until it is complete.
const leftover = ".new-"

// readPrivate reads a file of ours: it belongs to the user of the process, nobody else may read or write it, and it is no longer than limit.
func readPrivate(file string, limit int64) ([]byte, error) {
	// Without O_NONBLOCK a FIFO in its place would hold up the start.
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link", file)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s is no regular file", file)
	case int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to the user with ID %d, and appbind runs as %d", file, st.Uid, os.Geteuid())
	case st.Mode&0o077 != 0:
		return nil, fmt.Errorf("%s is open to others: mode %04o, must be 0600", file, st.Mode&0o7777)
	case st.Size > limit:
		return nil, fmt.Errorf("%s is too long: %d bytes, %d at most", file, st.Size, limit)
	}
	content := make([]byte, st.Size)
	if _, err := io.ReadFull(f, content); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return content, nil
}

// writeAtomically puts a file in the place of what has the name, when all of it is on disk. Others may not read it.
func writeAtomically(file string, fill func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+leftover) // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<18)
	if err := fill(w); err != nil {
		return err
	}
	if err := errors.Join(w.Flush(), f.Sync()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(file))
}

func syncDirectory(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeLeftovers removes what a process left that ended while it wrote.
func removeLeftovers(file string) {
	list, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		return // the first writing tells
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), filepath.Base(file)+leftover) || strings.HasPrefix(e.Name(), filepath.Base(markOf(file))+leftover) {
			_ = os.Remove(filepath.Join(filepath.Dir(file), e.Name())) // it is never read
		}
	}
}

// bootClock names the run of the machine, and tells how long it is, with the time for which
// it slept: a clock that nobody can set. "" where the system does not tell.
func bootClock() (id string, since time.Duration) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	var ts unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return "", 0
	}
	return strings.TrimSpace(string(text)), time.Duration(ts.Nano())
}

// stamp is when a copy was proven and when that was written, by two clocks.
type stamp struct {
	proven, written time.Time
	boot            string        // the run of the machine; "": not known
	since           time.Duration // of the proof, after the begin of that run; negative: before
	services        []keptService // at the time of writing
}

// keptService is a service account as it is kept, with its age when that was written.
type keptService struct {
	dn, hash string
	age      time.Duration
}

// stampAt is the stamp of what is written now. The times are made from the age, which may be larger than the wall clock shows.
func stampAt(proven, now time.Time, boot string, since time.Duration, services []auth.KeptService) stamp {
	age := ageAt(proven, now)
	s := stamp{proven: now.Round(0).Add(-age), written: now.Round(0), boot: boot, since: since - age}
	for _, k := range services {
		s.services = append(s.services, keptService{k.DN, k.Hash, ageAt(k.At, now)})
	}
	return s
}

// restored are the service accounts that are younger than maxStale. age is that of the proof, now.
func (s stamp) restored(age, maxStale time.Duration, now time.Time) (list []auth.KeptService) {
	passed := age - s.written.Sub(s.proven) // since it was written
	for _, k := range s.services {
		if old := k.age + passed; k.age >= 0 && k.age < maxStale && old < maxStale {
			list = append(list, auth.KeptService{DN: k.dn, Hash: k.hash, At: now.Add(-old)})
		}
	}
	return list
}

// Reasons for which a stamp is refused.
var (
	errFuture = errors.New("it was written in the future: the clock has been set back since, and its age is not known")
	errStamp  = errors.New("its times cannot be")
)

// maxAgeHeld bounds what a stamp may say, so that nothing overflows: longer than any max_stale.
const maxAgeHeld = 10 * 365 * 24 * time.Hour

// age is how old the proof is: the larger of what the two clocks say.
func (s stamp) age(now time.Time, boot string, since time.Duration) (time.Duration, error) {
	wall := now.Round(0).Sub(s.proven)
	switch {
	case s.written.After(now.Round(0)):
		return 0, errFuture
	case s.proven.After(s.written), s.since < -maxAgeHeld, s.since > maxAgeHeld:
		return 0, errStamp
	case s.boot == "" || s.boot != boot:
		return wall, nil
	case s.since > since:
		return 0, errFuture
	}
	return max(wall, since-s.since), nil
}
