package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"appbind/config"
	"appbind/events"
)

// Store is a history. All methods may be called at the same time.
type Store struct {
	db      *sql.DB
	dialect *dialect
}

var _ sink = (*Store)(nil)

// dialect is what differs between the stores.
type dialect struct {
	words     *strings.Replacer    // of migrations
	hasSchema string               // query: 1 if history_schema exists, else 0
	lock      string               // statement that makes migrations wait for each other; "": transactions do
	clock     string               // expression: the store's time, in milliseconds since 1970
	refuses   func(err error) bool // the row is at fault, not the store
}

// ErrNone says that the configuration keeps no history.
var ErrNone = errors.New("no history is kept: history.store is none")

// connections bounds those of one Store.
const connections = 4

// New starts the recorder of a configuration; nil where it keeps no history. The store is opened in the background.
// watch, if set, is told of events.NewNetwork and events.Stale, when the uses that show them are written; it must not wait.
func New(cfg *config.Config, counts *Counts, log *slog.Logger, watch func(events.Event)) *Recorder {
	if cfg.History.Store == "none" {
		return nil
	}
	return start(options{
		open: func(ctx context.Context) (sink, error) {
			s, err := open(ctx, cfg, true)
			if err != nil {
				return nil, err // not a sink that holds a nil Store
			}
			return s, nil
		},
		interval: time.Duration(cfg.History.Coalesce),
		counts:   counts,
		log:      log,
		watch:    watch,
	})
}

// Open opens the history of a configuration for queries and for what the administration of app passwords
// notes. It makes neither a file nor tables. Errors: ErrNone, ErrNewer, fs.ErrNotExist where there is no history yet, others.
func Open(ctx context.Context, cfg *config.Config) (*Store, error) { return open(ctx, cfg, false) }

// open opens the store, with a new file and new tables where there are none and make says so.
func open(ctx context.Context, cfg *config.Config, make bool) (*Store, error) {
	s, err := connect(ctx, cfg, make)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx, make); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// connect opens the store and looks at nothing in it.
func connect(ctx context.Context, cfg *config.Config, make bool) (s *Store, err error) {
	switch cfg.History.Store {
	case "none":
		return nil, ErrNone
	case "sqlite":
		s, err = openSQLite(ctx, cfg.HistoryFile(), make)
	case "postgres":
		s, err = openPostgres(cfg.History)
	default:
		return nil, fmt.Errorf("appbind: internal error: no history store %q", cfg.History.Store)
	}
	if err != nil {
		return nil, err
	}
	s.db.SetMaxOpenConns(connections)
	return s, nil
}

// Version is that of the history's tables, for people.
func (s *Store) Version() int { return len(migrations) }

// Close closes the store.
func (s *Store) Close() error { return s.db.Close() }
