package schema_test

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// programs are what the tests need from the packages slapd and ldap-utils.
var programs = []string{"slapd", "slapadd", "slaptest", "ldapsearch", "ldapmodify", "ldapadd", "ldapcompare"}

// program is the path of one of them. A machine without them is a failure: these
// tests are what says that the access rules hold.
func program(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/usr/lib/openldap") {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	t.Fatalf("%s is not installed; run `make test`, which installs slapd and ldap-utils", name)
	return ""
}

// server is one slapd in a directory of its own, reached by its socket.
type server struct {
	dir string
	url string
}

// newServer makes the directory. It is short, as the path of a socket must be.
func newServer(t *testing.T) *server {
	t.Helper()
	for _, name := range programs {
		program(t, name)
	}
	dir, err := os.MkdirTemp("/tmp", "appbind-schema-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	return &server{dir: dir, url: "ldapi://" + url.QueryEscape(filepath.Join(dir, "ldapi"))}
}

// file writes a file below the server's directory, @DIR@ standing for that and
// @HERE@ for this one, and returns its name.
func (s *server) file(t *testing.T, name, text string) string {
	t.Helper()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	text = strings.NewReplacer("@DIR@", s.dir, "@HERE@", here).Replace(text)
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// start runs slapd with the given configuration arguments until the test ends.
func (s *server) start(t *testing.T, config ...string) {
	t.Helper()
	// On loopback too, as a real server is, on a port that nothing listens on.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command(program(t, "slapd"), append([]string{"-d", "none", "-h", s.url + " ldap://" + address}, config...)...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(15 * time.Second); ; {
		if c, err := net.Dial("unix", filepath.Join(s.dir, "ldapi")); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("slapd ended: %v\n%s", err, log.Bytes())
		case <-deadline:
			t.Fatal("slapd does not listen")
		case <-tick.C:
		}
	}
}

// run runs a program with input and gives its output and exit status, for the
// LDAP tools the result code.
func run(t *testing.T, input, name string, args ...string) (output string, status int) {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is run for what has to succeed.
func must(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	out, status := run(t, input, name, args...)
	if status != 0 {
		t.Fatalf("%s %s: status %d\n%s", name, strings.Join(args, " "), status, out)
	}
	return out
}

// as are the arguments of an LDAP tool that binds as one of the tree's names; "" is anonymous.
func (s *server) as(who string) []string {
	args := []string{"-x", "-H", s.url}
	if who == "" {
		return args
	}
	return append(args, "-D", who, "-w", "pass-word")
}

// search gives the result and how many entries and values of appPassword were in it.
func (s *server) search(t *testing.T, who, filter string, attributes ...string) (code, entries, values int) {
	t.Helper()
	args := append(s.as(who), "-LLL", "-b", people, filter)
	out, code := run(t, "", "ldapsearch", append(args, attributes...)...)
	return code, strings.Count("\n"+out, "\ndn: "), strings.Count("\n"+out, "\nappPassword:")
}

// modify applies an LDIF change to an entry and gives the result code.
func (s *server) modify(t *testing.T, who, entry string, changes ...string) int {
	t.Helper()
	_, code := run(t, "dn: "+entry+"\nchangetype: modify\n"+strings.Join(changes, "\n-\n")+"\n", "ldapmodify", s.as(who)...)
	return code
}
