package embedded

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// InUse says that another process serves the file, and where: two that write it
// would undo each other's changes, but anybody may use the one that runs.
type InUse struct {
	File string
	URL  string // as Directory.URL
}

// Error names the file.
func (e *InUse) Error() string {
	return fmt.Sprintf("%s: another appbind serves this directory", e.File)
}

// claim is the lock on a file, .NAME.lock beside it, which tells others where
// the directory listens. The kernel releases it with the process.
type claim struct{ lock *os.File }

// The wait for another process to say where it listens, which it does at its start.
const (
	claimTries = 100
	claimPause = 20 * time.Millisecond
)

// claimFile takes the lock of a file. Errors: *InUse.
func claimFile(file string) (*claim, error) {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".lock")
	lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the lock of the embedded directory: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = belongLike(lock, path)
	}
	if err == nil {
		return &claim{lock: lock}, lock.Truncate(0)
	}
	defer lock.Close()
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("the lock of the embedded directory: %w", err)
	}
	where, err := readClaim(lock)
	if err != nil {
		return nil, err
	}
	return nil, &InUse{File: file, URL: where}
}

// belongLike gives the lock to the owner of the file, where an administrator makes it: the service must open it too.
func belongLike(lock *os.File, path string) error {
	info, err := os.Stat(path)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return lock.Chown(int(owner.Uid), int(owner.Gid))
	}
	return nil
}

// tell writes where the directory listens.
func (c *claim) tell(where string) error {
	_, err := c.lock.WriteAt([]byte(where+"\n"), 0)
	return err
}

// release gives the lock up. The file stays: to remove it would be a race with the next one.
func (c *claim) release() {
	_ = c.lock.Truncate(0) // what is told in it counts only while it is locked
	_ = c.lock.Close()
}

// readClaim reads what the holder of the lock tells; only a loopback address is believed.
func readClaim(lock *os.File) (string, error) {
	for range claimTries {
		text := make([]byte, 256)
		n, err := lock.ReadAt(text, 0)
		if err != nil && err != io.EOF {
			return "", err
		}
		if where, whole := strings.CutSuffix(string(text[:n]), "\n"); whole {
			u, err := url.Parse(where)
			if err == nil && u.Scheme == "ldap" && net.ParseIP(u.Hostname()).IsLoopback() {
				return where, nil
			}
			return "", errors.New("the lock of the embedded directory does not tell where it listens: remove it when no appbind runs")
		}
		wait(claimPause)
	}
	return "", errors.New("another appbind serves the embedded directory and does not say where; is it starting?")
}

func wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}
