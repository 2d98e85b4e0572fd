// Package integration drives the real appbind binary with real clients
// (ldapsearch and its kin, Dovecot, Postfix) against real directories. Every
// server runs on loopback on free ports, with directories of its own, and is
// stopped by its process ID.
package integration

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// binary is appbind, built with the race detector by TestMain.
var binary string

// patience bounds the wait for a real process to do something.
const patience = 20 * time.Second

// together is how many tests run at one time, unless -parallel says otherwise: they wait for
// processes and timeouts most of the time.
const together = 4

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(together)) // a flag of package testing
	}
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (int, error) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	os.Setenv("GORACE", "atexit_sleep_ms=0") // a program with the race detector waits for a second at its end
	for _, program := range []string{"slapd", "ldapsearch", "dovecot", "postfix", "openssl"} {
		if _, err := exec.LookPath(program); err != nil {
			return 1, fmt.Errorf("%s is not installed: run 'make tools'", program)
		}
	}
	dir, err := os.MkdirTemp("", "appbind")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "appbind")
	out, err := exec.Command("go", "build", "-race", "-o", binary, "appbind/cmd/appbind").CombinedOutput()
	if err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// shortDir makes a directory whose path leaves room for socket names, which
// the kernel bounds to 107 bytes; t.TempDir's paths do not. Servers that drop
// their privileges must be able to enter it.
func shortDir(t testing.TB) string {
	t.Helper()
	return shortDirIn(t, "/tmp")
}

// shortDirIn makes one below another directory than /tmp.
func shortDirIn(t testing.TB, below string) string {
	t.Helper()
	dir, err := os.MkdirTemp(below, "ab")
	if err != nil {
		t.Fatalf("%v: run 'make tools'", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// ports counts those that freePort has handed out; it begins at another one in each run.
var ports atomic.Uint32

// freePort is a TCP port of 127.0.0.1 that was free a moment ago. It is below those that the kernel gives to
// connections and to listeners that ask for any, and no other test gets it.
func freePort(t testing.TB) int {
	t.Helper()
	const first, count = 10000, 20000
	ports.CompareAndSwap(0, uint32(os.Getpid())*97%count+1)
	for range count {
		port := first + int(ports.Add(1)%count)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// eventually polls ok until it holds, for a real process to catch up.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timeout: %s", what)
		}
	}
}

// render writes the template file to path.
func render(t testing.TB, source, path string, data any) {
	t.Helper()
	text, err := template.ParseFiles(source)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := text.Execute(&b, data); err != nil {
		t.Fatal(err)
	}
	write(t, path, b.String())
}

// write makes a file that only its owner reads.
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// process is a running server and what it printed.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; read after done

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// Write keeps what the process prints.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// output is what the process has printed so far.
func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start runs a program until the test ends.
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(name), tail(p.output(), 3000))
		}
	})
	return p
}

// signal sends a signal.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
	if s == syscall.SIGSTOP {
		eventually(p.t, filepath.Base(p.cmd.Path)+" stands still", p.stopped)
	}
}

// stopped reports whether every thread stands still; on another core one may go on for a while.
func (p *process) stopped() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return false
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		_, state, _ := strings.Cut(string(text), ") ")
		if err == nil && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// stop sends a signal and waits for the end.
func (p *process) stop(s syscall.Signal) {
	p.t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	p.signal(s)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Errorf("%s did not stop on %v", p.cmd.Path, s)
		p.cmd.Process.Kill()
		<-p.done
	}
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// tail is the last n bytes of s.
func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// result is how a command ended.
type result struct {
	code     int
	out, err string
}

// command runs a program to its end with the given standard input.
func command(t testing.TB, stdin, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	r := result{out: out.String(), err: errs.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		r.code = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// must is command that has to succeed; it returns standard output.
func must(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	r := command(t, stdin, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit status %d\n%s%s", name, strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}
