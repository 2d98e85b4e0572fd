// Package directories starts real directory servers for tests: 389 Directory
// Server and a Samba domain controller, each on loopback, in a directory of the
// caller's, by hand: without systemd, without the set-up tools of the packages,
// and without a trace outside that directory (389 DS makes one semaphore in
// /dev/shm, which Stop removes). Both need root: Samba's ports are fixed below
// 1024, so that each server gets a loopback address of its own, and the files
// of the package 389-ds-base are closed to others. What must be installed is in
// test/tools.sh.
//
// Both hold the suffix dc=example,dc=org with ou=people and ou=services, the
// schema and the access rules of contrib/schema, the accounts cn=appbind and
// cn=appbind-manage, and a lock-out after three wrong passwords.
package directories

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The identities of both directories.
const (
	Suffix    = "dc=example,dc=org"
	People    = "ou=people," + Suffix
	Service   = "cn=appbind,ou=services," + Suffix        // appbind's own
	Manager   = "cn=appbind-manage,ou=services," + Suffix // upstream.manage_dn
	ServicePW = "service-secret"
)

// Failures is how many wrong passwords lock an account.
const Failures = 3

// patience bounds the wait for a server to start.
const patience = time.Minute

// Server is a running directory.
type Server struct {
	// Address is host:port of plain LDAP; StartTLS is not configured.
	Address string
	// Root and RootPW may do everything.
	Root, RootPW string

	launch  func() *exec.Cmd
	cleanup func()
	cmd     *exec.Cmd
	done    chan struct{} // closed when cmd has ended

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// Write keeps what the server prints.
func (s *Server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(b)
}

// output is the end of what the server has printed.
func (s *Server) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.out.String()
	return text[max(0, len(text)-2000):]
}

// Start starts the server on its data, as after a Stop, and waits until it answers.
func (s *Server) Start() error {
	cmd := s.launch()
	cmd.Stdout, cmd.Stderr = s, s
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The server dies with the thread that starts it, and this one lives until the server has ended, and
	// longer: others of the process may have started from it before.
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // by a signal, mostly
		}
		close(done)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.cmd, s.done = cmd, done
	deadline := time.Now().Add(patience)
	for !s.answers() {
		select {
		case <-done:
			return fmt.Errorf("%s ended:\n%s", cmd.Path, s.output())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.Stop()
			return fmt.Errorf("%s does not answer:\n%s", cmd.Path, s.output())
		}
	}
	return nil
}

// answers asks for the root DSE.
func (s *Server) answers() bool {
	c, err := net.DialTimeout("tcp", s.Address, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return s.tool("", "ldapsearch", "-s", "base", "-b", "", "1.1") == nil
}

// Signal sends a signal to the server: SIGSTOP and SIGCONT.
func (s *Server) Signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) } // one that has ended hears nothing

// Stop kills the server, as a crash would, and waits for its end. A second call does nothing.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.Signal(syscall.SIGKILL)
	<-s.done
	s.cleanup()
	s.cmd = nil
}

// Modify applies LDIF as Root.
func (s *Server) Modify(ldif string) error { return s.tool(ldif, "ldapmodify") }

// tool runs one of the LDAP tools as Root.
func (s *Server) tool(stdin, name string, args ...string) error {
	cmd := exec.Command(name, append([]string{"-x", "-H", "ldap://" + s.Address, "-D", s.Root, "-w", s.RootPW, "-o", "nettimeout=20"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

// run runs a program to its end.
func run(stdin, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return string(out), nil
}

// prepare makes the directories of a server and looks for what it needs.
func prepare(dir string, below []string, programs ...string) error {
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is not installed: run 'make tools'", p)
		}
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("%s cannot be started: the tests with real directories must run as root", programs[0])
	}
	for _, d := range below {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// schemaFile reads a file of contrib/schema, found from this file's place in the repository.
func schemaFile(name string) (string, error) {
	_, here, _, found := runtime.Caller(0)
	if !found {
		return "", fs.ErrNotExist
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../contrib/schema", name))
	return string(text), err
}

// freePort is a TCP port of 127.0.0.1 that was free a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
