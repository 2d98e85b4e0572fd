package embedded

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// One process serves a file. Another one is told where; when the first has ended, it may.
func TestClaim(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "directory.ldif")
	if err := os.WriteFile(file, DemoLDIF, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.ldif") // the same file by another name
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	first, err := start(file, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, link} {
		d, err := start(name, slog.New(slog.DiscardHandler), time.Now)
		inUse, ok := errors.AsType[*InUse](err)
		if !ok || inUse.URL != first.URL() || d != nil {
			t.Errorf("%s: %v, %v; want that it is in use at %s", name, d, err, first.URL())
		}
	}
	first.Close()
	second, err := start(link, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	lock := filepath.Join(filepath.Dir(file), ".directory.ldif.lock")
	if info, err := os.Stat(lock); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 0 {
		t.Errorf("the lock afterwards: %v, %v", info, err)
	}
}

// What is told in a lock is believed only if it is an address of this machine: bind_dn's password goes there.
func TestClaimBelieved(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"ldap://127.0.0.1:3890\n":      true,
		"ldap://[::1]:3890\n":          true,
		"ldap://192.0.2.1:3890\n":      false,
		"ldap://localhost:3890\n":      false,
		"ldaps://127.0.0.1\n":          false,
		"nonsense\n":                   false,
		"\n":                           false,
		"ldap://127.0.0.1@192.0.2.1\n": false,
	} {
		lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
		if err != nil {
			t.Fatal(err)
		}
		c := &claim{lock: lock}
		if _, err := lock.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if where, err := readClaim(lock); (err == nil) != good {
			t.Errorf("%q: %q, %v", text, where, err)
		}
		c.release()
	}
}
