package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"appbind/config"
)

// migrations are the steps from one version of the tables to the next; the number of those
// done is the version. A step that was released is never changed. Words in braces differ by store.
//
// Times are milliseconds since 1970; NULL is a time that is not known. seen is the time of the last event
// of any kind, which keeps a row from being deleted.
var migrations = []string{`
CREATE TABLE history_users (
	id    {id},
	entry TEXT NOT NULL UNIQUE,
	dn    TEXT NOT NULL,
	seen  BIGINT NOT NULL
);
CREATE TABLE history_passwords (
	id           {id},
	user_id      BIGINT NOT NULL REFERENCES history_users ON DELETE CASCADE,
	kind         TEXT NOT NULL,
	ident        TEXT NOT NULL,
	selector     TEXT NOT NULL,
	label        TEXT NOT NULL,
	seen         BIGINT NOT NULL,
	issued       BIGINT,
	revoked      BIGINT,
	first_used   BIGINT,
	last_used    BIGINT,
	last_service TEXT NOT NULL DEFAULT '',
	last_address TEXT NOT NULL DEFAULT '',
	uses         BIGINT NOT NULL DEFAULT 0,
	UNIQUE (user_id, kind, ident)
);
CREATE TABLE history_uses (
	password_id BIGINT NOT NULL REFERENCES history_passwords ON DELETE CASCADE,
	bucket      BIGINT NOT NULL,
	denied      TEXT NOT NULL,
	service     TEXT NOT NULL,
	address     TEXT NOT NULL,
	peer        TEXT NOT NULL,
	listener    TEXT NOT NULL,
	first_at    BIGINT NOT NULL,
	last_at     BIGINT NOT NULL,
	times       BIGINT NOT NULL,
	PRIMARY KEY (password_id, bucket, denied, service, address)
);
CREATE INDEX history_uses_last ON history_uses (last_at);
`, `
CREATE TABLE history_jobs (
	name      TEXT NOT NULL PRIMARY KEY,
	owner     TEXT NOT NULL,
	fence     BIGINT NOT NULL,
	until     BIGINT NOT NULL,
	due       BIGINT NOT NULL,
	succeeded BIGINT
);
CREATE TABLE history_notices (
	entry   TEXT NOT NULL,
	ident   TEXT NOT NULL,
	expires BIGINT NOT NULL,
	tries   BIGINT NOT NULL,
	later   BIGINT NOT NULL,
	done    BIGINT NOT NULL,
	PRIMARY KEY (entry, ident, expires)
);
`}

// ErrNewer says that the store was written by a later version of appbind, whose tables this one does not know.
var ErrNewer = errors.New("the history was written by a newer appbind")

// errOlder says that the tables are not there, or not of this version, where they are not to be made.
var errOlder = errors.New("the history's tables are missing or of an older version; 'appbind serve' makes them")

// tables are those of one part of appbind: the steps that make them, and the prefix of their names.
type tables struct {
	prefix string // lower-case letters
	steps  []string
}

// version is that of the tables; 0: there are none.
func (s *Store) version(ctx context.Context, t tables) (int, error) {
	var exists int
	if err := s.db.QueryRowContext(ctx, strings.ReplaceAll(s.dialect.hasSchema, "history_", t.prefix+"_")).Scan(&exists); err != nil || exists == 0 {
		return 0, err
	}
	version := 0
	err := s.db.QueryRowContext(ctx, t.schema("SELECT COALESCE(MAX(version), 0) FROM {schema}")).Scan(&version)
	return version, err
}

// schema puts the name of the table of versions into a statement.
func (t tables) schema(statement string) string {
	return strings.ReplaceAll(statement, "{schema}", t.prefix+"_schema")
}

// migrate brings the history's tables to this version.
func (s *Store) migrate(ctx context.Context, make bool) error {
	return s.migrateTables(ctx, tables{"history", migrations}, make)
}

// migrateTables brings tables to this version. Another instance may do the same at the same time.
func (s *Store) migrateTables(ctx context.Context, t tables, make bool) error {
	version, err := s.version(ctx, t)
	switch {
	case err != nil:
		return err
	case version > len(t.steps):
		return fmt.Errorf("%w (version %d of its tables, this one knows %d)", ErrNewer, version, len(t.steps))
	case version == len(t.steps):
		return nil
	case !make:
		return errOlder
	}
	return s.transact(ctx, func(tx *sql.Tx) error {
		if s.dialect.lock != "" {
			if _, err := tx.ExecContext(ctx, s.dialect.lock); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, t.schema("CREATE TABLE IF NOT EXISTS {schema} (version BIGINT NOT NULL PRIMARY KEY)")); err != nil {
			return err
		}
		if err := tx.QueryRowContext(ctx, t.schema("SELECT COALESCE(MAX(version), 0) FROM {schema}")).Scan(&version); err != nil {
			return err
		}
		return s.steps(ctx, tx, t, version)
	})
}

// steps does the migrations that come after a version.
func (s *Store) steps(ctx context.Context, tx *sql.Tx, t tables, version int) error {
	for i := version; i < len(t.steps); i++ {
		for statement := range strings.SplitSeq(s.dialect.words.Replace(t.steps[i]), ";\n") {
			if strings.TrimSpace(statement) == "" {
				continue
			}
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("step %d of the tables of the %s: %w", i+1, t.prefix, err)
			}
		}
		if _, err := tx.ExecContext(ctx, t.schema("INSERT INTO {schema} (version) VALUES ($1)"), i+1); err != nil {
			return err
		}
	}
	return nil
}

// OpenTables opens the database of a configuration's history for another part of appbind, which keeps tables
// of its own there: their names begin with prefix and "_". steps are its migrations as in this package, {id} is the type of
// a generated key. A missing file and missing tables are made. The caller closes the database.
// Errors: ErrNone, ErrNewer, others.
func OpenTables(ctx context.Context, cfg *config.Config, prefix string, steps []string) (*sql.DB, error) {
	s, err := connect(ctx, cfg, true)
	if err != nil {
		return nil, err
	}
	if err := s.migrateTables(ctx, tables{prefix, steps}, true); err != nil {
		s.Close()
		return nil, err
	}
	return s.db, nil
}

// transact does f in one transaction.
func (s *Store) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // the error that counts is f's
		return err
	}
	return tx.Commit()
}
