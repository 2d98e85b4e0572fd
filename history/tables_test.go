package history

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"appbind/config"
)

// TestOpenTables: another part's tables beside the history's, made by several at once, and by later versions.
func TestOpenTables(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cfg := config.Default()
	cfg.History.Path = filepath.Join(t.TempDir(), "history.db")
	steps := []string{"CREATE TABLE other_things (id {id}, name TEXT NOT NULL);\nINSERT INTO other_things (name) VALUES ('a')"}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := OpenTables(ctx, cfg, "other", steps)
			if err != nil {
				t.Error(err)
				return
			}
			db.Close()
		})
	}
	wg.Wait()
	more := append(steps, "INSERT INTO other_things (name) VALUES ('b')")
	db, err := OpenTables(ctx, cfg, "other", more)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := db.QueryRow("SELECT COUNT(*) FROM other_things").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
	db.Close()
	if _, err := OpenTables(ctx, cfg, "other", steps); !errors.Is(err, ErrNewer) {
		t.Errorf("an older appbind: %v", err)
	}
	if _, err := Open(ctx, cfg); !errors.Is(err, errOlder) {
		t.Errorf("the history's own tables were made: %v", err)
	}
	s, err := open(ctx, cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	cfg.History.Store = "none"
	if _, err := OpenTables(ctx, cfg, "other", steps); !errors.Is(err, ErrNone) {
		t.Errorf("no store: %v", err)
	}
}
