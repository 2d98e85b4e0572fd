package embedded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// store owns the file. Readers take the current tree; changes are made one after
// the other by the goroutine own, which writes the file before it shows the new tree.
type store struct {
	path    string // no symbolic link
	log     *slog.Logger
	now     func() time.Time
	current atomic.Pointer[tree]
	changes chan change
	quit    chan struct{}
	done    chan struct{} // closed when own has ended

	// Of own alone, once it runs.
	seen   os.FileInfo // the file as it was last read or written here
	number uint64
}

// change makes a new tree of the current one.
type change struct {
	make   func(*tree, stamp) (*tree, error)
	by     string
	result chan error
}

// openStore reads the file. Where it lacks operational attributes or holds
// passwords in clear, it is written at once.
func openStore(file string, log *slog.Logger, now func() time.Time) (*store, error) {
	path, err := filepath.EvalSymlinks(file)
	if err != nil {
		return nil, err
	}
	data, info, err := readWhole(path)
	if err != nil {
		return nil, err
	}
	r, err := readLDIF(file, data)
	if err != nil {
		return nil, err
	}
	t, err := r.tree()
	if err != nil {
		return nil, err
	}
	s := &store{path: path, log: log, now: now, seen: info,
		changes: make(chan change), quit: make(chan struct{}), done: make(chan struct{})}
	if err := s.complete(file, t, r.records); err != nil {
		return nil, err
	}
	s.current.Store(t)
	s.warn(t)
	go s.own()
	return s, nil
}

// readWhole reads a file and describes what was read.
func readWhole(path string) ([]byte, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: larger than %d MiB: use a directory server", path, maxFile>>20)
	}
	return data, info, err
}

// complete finishes entries as they come from the file, before anybody else sees them.
func (s *store) complete(file string, t *tree, records []record) error {
	changed := false
	for i, e := range t.entries {
		did, err := e.complete(s.stamp(""))
		if err != nil {
			return fmt.Errorf("%s:%d: %w", file, records[i].line, err)
		}
		changed = changed || did
	}
	if !changed {
		return nil
	}
	if err := s.write(t); err != nil {
		return fmt.Errorf("the embedded directory must be able to write its file: %w", err)
	}
	return nil
}

// warn logs what works otherwise than the writer of the file may think.
func (s *store) warn(t *tree) {
	if s.seen.Mode().Perm()&0o077 != 0 {
		s.log.Warn("the file of the embedded directory holds password hashes and can be read by others", "file", s.path)
	}
	for _, e := range t.entries {
		for _, v := range e.get(keyUserPassword) {
			if isHash(v) && parseHash(v).Err != nil {
				s.log.Warn("a userPassword value has no scheme that appbind knows and never fits", "dn", e.dn)
			}
		}
	}
}

func (s *store) stamp(by string) stamp {
	s.number++
	return stamp{now: s.now(), by: by, number: s.number}
}

// do makes a change on behalf of a DN. It returns when the file is on disk, or nothing has changed.
func (s *store) do(by string, f func(*tree, stamp) (*tree, error)) error {
	c := change{make: f, by: by, result: make(chan error, 1)}
	select {
	case s.changes <- c:
		return <-c.result
	case <-s.quit:
		return fail(resultUnavailable, "the directory is closing")
	}
}

// own is the goroutine that changes the tree and the file.
func (s *store) own() {
	defer close(s.done)
	for {
		select {
		case c := <-s.changes:
			c.result <- s.apply(c)
		case <-s.quit:
			return
		}
	}
}

func (s *store) apply(c change) error {
	t, err := c.make(s.current.Load(), s.stamp(c.by))
	if err != nil {
		return err
	}
	if err := s.write(t); err != nil {
		s.log.Error("the embedded directory cannot write its file; the change is refused", "file", s.path, "error", err)
		return fail(resultUnavailable, "the change could not be written")
	}
	s.current.Store(t)
	return nil
}

// close ends the goroutine.
func (s *store) close() {
	close(s.quit)
	<-s.done
}

// write replaces the file by the tree: a new file beside it, on disk before it
// takes the name, so that a crash leaves the old file or the new one.
func (s *store) write(t *tree) error {
	data := t.appendLDIF(nil)
	if len(data) > maxFile {
		return fmt.Errorf("the directory has grown over %d MiB: use a directory server", maxFile>>20)
	}
	temp := filepath.Join(filepath.Dir(s.path), "."+filepath.Base(s.path)+".new")
	// What a crash has left; it may hold hashes.
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, err := writeSynced(temp, data, s.seen.Mode().Perm())
	if err == nil {
		err = s.replace(temp)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	s.seen = info
	return nil
}

// replace gives the new file the name, unless somebody has edited the old one.
func (s *store) replace(temp string) error {
	now, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if !os.SameFile(now, s.seen) || now.Size() != s.seen.Size() || !now.ModTime().Equal(s.seen.ModTime()) {
		return errors.New("the file was edited while the directory runs: restart to load it")
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := os.Rename(temp, s.path); err != nil {
		return err
	}
	// The new file is what everybody reads from now on; only a power failure
	// could bring the old one back, and some file systems cannot sync a directory.
	if err := dir.Sync(); err != nil {
		s.log.Warn("the directory of the file cannot be synced", "file", s.path, "error", err)
	}
	return nil
}

// writeSynced writes a new file with the mode and waits until it is on disk.
func writeSynced(path string, data []byte, mode os.FileMode) (os.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return nil, err
	}
	if err := f.Chmod(mode); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return f.Stat()
}
