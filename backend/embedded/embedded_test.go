package embedded

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	suffixDN  = "dc=example,dc=org"
	adminDN   = "cn=admin,dc=example,dc=org"
	serviceDN = "cn=appbind,ou=services,dc=example,dc=org"
	dovecotDN = "cn=dovecot,ou=services,dc=example,dc=org"
	peopleDN  = "ou=people,dc=example,dc=org"
	aliceDN   = "uid=alice,ou=people,dc=example,dc=org"
	bobDN     = "uid=bob,ou=people,dc=example,dc=org"
	carolDN   = "uid=carol,ou=people,dc=example,dc=org"
)

// fixture is a running directory on a file of its own.
type fixture struct {
	*Directory
	file string
	log  *logBuffer
}

// logBuffer collects the log.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// testTime is what the directory's clock shows.
var testTime = time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)

// run starts a directory on the text.
func run(t *testing.T, ldif string) *fixture {
	t.Helper()
	file := filepath.Join(t.TempDir(), "directory.ldif")
	if err := os.WriteFile(file, []byte(ldif), 0o600); err != nil {
		t.Fatal(err)
	}
	return runFile(t, file)
}

func runFile(t *testing.T, file string) *fixture {
	t.Helper()
	log := &logBuffer{}
	d, err := start(file, log.logger(), func() time.Time { return testTime })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return &fixture{d, file, log}
}

// cheap is the demo with fast hashes of the same passwords, for tests that are not about hashes.
func cheap(ldif string) string {
	for dn, password := range demoPasswords {
		sum := sha256.Sum256([]byte(password + "salt"))
		head, entry, _ := strings.Cut(ldif, "dn: "+dn+"\n")
		before, after, _ := strings.Cut(entry, "userPassword: ")
		_, rest, _ := strings.Cut(after, "\n")
		ldif = head + "dn: " + dn + "\n" + before + "userPassword: {SSHA256}" +
			base64.StdEncoding.EncodeToString(append(sum[:], "salt"...)) + "\n" + rest
	}
	return ldif
}

var demoPasswords = map[string]string{
	adminDN: DemoAdmin, serviceDN: DemoService, dovecotDN: DemoDovecot,
	aliceDN: DemoMain, bobDN: "bobpw", carolDN: "carolpw",
}

// demo is the demo directory with cheap hashes.
func demo(t *testing.T) *fixture {
	t.Helper()
	return run(t, cheap(string(DemoLDIF)))
}

// connect is an anonymous connection.
func (f *fixture) connect(t *testing.T) *ldap.Conn {
	t.Helper()
	c, err := ldap.DialURL(f.URL())
	if err != nil {
		t.Fatal(err)
	}
	c.SetTimeout(60 * time.Second)
	t.Cleanup(func() { c.Close() })
	return c
}

// as is a bound connection.
func (f *fixture) as(t *testing.T, dn, password string) *ldap.Conn {
	t.Helper()
	c := f.connect(t)
	if err := c.Bind(dn, password); err != nil {
		t.Fatalf("bind as %s: %v", dn, err)
	}
	return c
}

func (f *fixture) admin(t *testing.T) *ldap.Conn {
	t.Helper()
	return f.as(t, adminDN, DemoAdmin)
}

// text is the file's contents.
func (f *fixture) text(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(f.file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// codeOf is the LDAP result code of an error; -1 for an error of another kind.
func codeOf(err error) int {
	var e *ldap.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return int(e.ResultCode)
	}
	return -1
}

// search is a search that must succeed.
func search(t *testing.T, c *ldap.Conn, base string, scope int, filter string, attrs ...string) []*ldap.Entry {
	t.Helper()
	r, err := c.Search(ldap.NewSearchRequest(base, scope, 0, 0, 0, false, filter, attrs, nil))
	if err != nil {
		t.Fatalf("search %q %s: %v", base, filter, err)
	}
	return r.Entries
}

// one is the entry of a DN.
func one(t *testing.T, c *ldap.Conn, dn string, attrs ...string) *ldap.Entry {
	t.Helper()
	found := search(t, c, dn, ldap.ScopeBaseObject, "(objectClass=*)", attrs...)
	if len(found) != 1 {
		t.Fatalf("%q: %d entries", dn, len(found))
	}
	return found[0]
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := (&logBuffer{}).logger()
	if _, err := Start(filepath.Join(dir, "none.ldif"), log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Start(dir, log); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
	large := filepath.Join(dir, "large.ldif")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(large, log); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("large file: %v", err)
	}
}

// Not parallel: it counts goroutines.
func TestCloseEndsEverything(t *testing.T) {
	before := runtime.NumGoroutine()
	f := demo(t)
	var conns []*ldap.Conn
	for range 5 {
		conns = append(conns, f.connect(t)) // left open, unbound
	}
	admin := f.admin(t)
	one(t, admin, aliceDN)
	began := time.Now()
	f.Close()
	f.Close() // once more does no harm
	if took := time.Since(began); took > stopWait/2 {
		t.Errorf("close took %v with clients connected", took)
	}
	if _, err := admin.Search(ldap.NewSearchRequest(suffixDN, 0, 0, 0, 0, false, "(objectClass=*)", nil, nil)); err == nil {
		t.Error("a search after close succeeded")
	}
	for _, c := range append(conns, admin) {
		c.Close()
	}
	eventually(t, "goroutines back to where they were", func() bool { return runtime.NumGoroutine() <= before })
}

func TestDemo(t *testing.T) {
	t.Parallel()
	f := run(t, string(DemoLDIF))
	if f.text(t) == string(DemoLDIF) {
		t.Error("operational attributes were not written")
	}
	if !strings.HasPrefix(f.text(t), string(DemoLDIF[:bytes.Index(DemoLDIF, []byte("\n\n"))])) {
		t.Error("the comment at the top is gone")
	}
	for dn, password := range demoPasswords {
		f.as(t, dn, password)
		if !strings.Contains(string(DemoLDIF), password) {
			t.Errorf("the comments of the demo do not tell the password of %s", dn)
		}
	}
	checkDemoApps(t)
}
