// Package postgres starts a PostgreSQL server for tests: on loopback and a unix
// socket, in a directory of its own, with its own user's rights where the test
// runs as root, since the server refuses to. What it stores does not survive a
// crash of the machine; it does survive a kill of the server.
package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// patience bounds the wait for the server to start and to stop.
const patience = 30 * time.Second

// Server is a PostgreSQL server.
type Server struct {
	Password string // of the user, over TCP; the socket asks for none
	Port     int
	bin, dir string
	as       *syscall.Credential // nil: whoever runs the test
	cmd      *exec.Cmd
	done     chan struct{}
	number   atomic.Int64 // of databases
}

// User is the name of the server's superuser.
const User = "appbind"

// Start makes a cluster and starts a server on it.
func Start() (*Server, error) {
	s := &Server{Password: rand.Text()}
	var err error
	if s.bin, err = programs(); err != nil {
		return nil, err
	}
	// Short: the path of a socket has 107 bytes at most.
	if s.dir, err = os.MkdirTemp("/tmp", "pg"); err != nil {
		return nil, err
	}
	if err = s.prepare(); err == nil {
		err = s.Run()
	}
	if err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	return s, nil
}

// programs is the directory of the server's programs, which Debian keeps out of the path.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed: run 'make tools'")
	}
	return filepath.Dir(slices.Max(found)), nil
}

// prepare makes the cluster, whose owner is the user postgres where the test runs as root.
func (s *Server) prepare() error {
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2, os.Chown(s.dir, int(uid), int(gid))); err != nil {
			return err
		}
		s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(s.Password), 0o644); err != nil { // in a directory that is nobody else's
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := s.command("initdb", "-D", s.dir+"/data", "-U", User, "--encoding=UTF8", "--locale=C.UTF-8",
		"--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile="+secret, "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Run starts the server on its data, as after Stop, and waits until it answers.
func (s *Server) Run() error {
	var out bytes.Buffer
	s.cmd = s.command("postgres", "-D", s.dir+"/data", "-k", s.dir, "-p", strconv.Itoa(s.Port), "-c", "listen_addresses=127.0.0.1",
		"-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=100", "-c", "autovacuum=off")
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // how it ended is in what it printed
		close(s.done)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.command("pg_isready", "-q", "-h", s.dir, "-p", strconv.Itoa(s.Port)).Run() != nil {
		select {
		case <-tick.C:
		case <-s.done:
			return fmt.Errorf("PostgreSQL ended:\n%s", out.String())
		case <-ctx.Done():
			s.Signal(syscall.SIGKILL)
			<-s.done
			return fmt.Errorf("PostgreSQL does not answer:\n%s", out.String())
		}
	}
	return nil
}

// Signal sends the server a signal: SIGINT is a stop that does not wait for clients, SIGKILL a crash.
func (s *Server) Signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// Stop ends the server with a signal and waits for its end.
func (s *Server) Stop(sig syscall.Signal) {
	s.Signal(sig)
	<-s.done
}

// Close stops the server and removes its data.
func (s *Server) Close() {
	s.Signal(syscall.SIGCONT) // a test may have stopped it
	s.Stop(syscall.SIGINT)
	os.RemoveAll(s.dir)
}

// Database makes an empty database and returns its URL, without a password, on TCP.
func (s *Server) Database() (string, error) {
	name := fmt.Sprintf("test%d", s.number.Add(1))
	if out, err := s.command("createdb", "-h", s.dir, "-p", strconv.Itoa(s.Port), "-U", User, name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("createdb: %w\n%s", err, out)
	}
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s", User, s.Port, name), nil
}

// OnSocket is the URL of a database of Database's on the unix socket.
func (s *Server) OnSocket(database string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s&port=%d", User, database[len(database)-len(filepath.Base(database)):], s.dir, s.Port)
}
