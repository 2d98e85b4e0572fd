package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

var sqliteDialect = &dialect{
	words:     strings.NewReplacer("{id}", "INTEGER PRIMARY KEY"),
	hasSchema: "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'history_schema'",
	clock:     "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
	refuses: func(err error) bool {
		e, ok := errors.AsType[*sqlite.Error](err)
		if !ok {
			return false
		}
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE:
			return true
		}
		return false
	},
}

// sqliteOptions: NORMAL loses nothing when the process is killed, and at most the last writes when the machine is; what was
// deleted is overwritten.
const sqliteOptions = "mode=rw&_txlock=immediate&_defensive=1&_pragma=busy_timeout(5000)&_pragma=synchronous(NORMAL)" +
	"&_pragma=foreign_keys(1)&_pragma=secure_delete(FAST)&_pragma=trusted_schema(0)"

// openSQLite opens the file, which nobody else may read.
func openSQLite(ctx context.Context, file string, make bool) (*Store, error) {
	if make {
		if err := makeFile(file); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	name := (&url.URL{Scheme: "file", Path: path, RawQuery: sqliteOptions}).String()
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, err
	}
	if make {
		if err := useWAL(ctx, db); err != nil {
			db.Close()
			return nil, err
		}
	}
	return &Store{db: db, dialect: sqliteDialect}, nil
}

const (
	// walTime bounds the attempts to switch a file to the write-ahead log, walPause is between two.
	walTime  = 10 * time.Second
	walPause = 20 * time.Millisecond
)

// useWAL switches the file to the write-ahead log, which lets people read while appbind writes, and for good. Where another
// process writes a new file at the same time the switch fails at once, whatever busy_timeout says: it begins as a reader, and SQLite lets
// nobody wait who holds a lock.
func useWAL(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, walTime)
	defer cancel()
	for {
		_, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		e, is := errors.AsType[*sqlite.Error](err)
		if !is || e.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-time.After(walPause):
		case <-ctx.Done():
			return err
		}
	}
}

// makeFile makes the file where it is missing. An existing one is not opened: to close it again would
// take away the locks that another connection of this process holds on it (POSIX).
func makeFile(file string) error {
	info, err := os.Stat(file)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", file)
	case err == nil && info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to group or others (mode %04o); run: chmod 600 %s", file, info.Mode().Perm(), file)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil // another instance was faster
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the directory %s does not exist; make it for appbind alone (mode 0700), or set state_dir", filepath.Dir(file))
	}
	if err != nil {
		return err
	}
	return f.Close()
}
