package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"appbind/wire"
)

// process is a running server. It is stopped by its process ID and by nothing else.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string        // the file that it prints to
	done chan struct{} // closed when it has ended
}

// start runs a server that prints to a file in dir.
func start(dir, name, program string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(program, args...), log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// stop ends the server, by force when it does not hear.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// printed is everything that the server has printed.
func (p *process) printed() []byte {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return b
}

// output is the end of what the server has printed.
func (p *process) output() string {
	b := p.printed()
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}

// await polls until ok, or until the server has ended.
func (p *process) await(what string, ok func() bool) error {
	limit := time.After(patience)
	for !ok() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s: %s", p.name, p.cmd.ProcessState, p.output())
		case <-limit:
			return fmt.Errorf("%s: no sign of %s: %s", p.name, what, p.output())
		case <-time.After(startPoll):
		}
	}
	return nil
}

// answers reports whether an anonymous bind succeeds.
func answers(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(time.Second)) != nil {
		return false
	}
	if _, err := conn.Write(wire.AppendMessage(nil, 1, wire.OpBindRequest, wire.AppendSimpleBind(nil, "", nil), nil)); err != nil {
		return false
	}
	m, err := wire.NewReader(conn, wire.MaxFromUpstream).Next()
	if err != nil {
		return false
	}
	r, err := wire.DecodeResult(m.Body)
	return err == nil && r.Code == wire.ResultSuccess
}

// tick is the unit of CPU times in /proc, USER_HZ, which is 100 on every
// architecture that Debian has.
const tick = 10 * time.Millisecond

// cpu is the user and system time that the process has used.
func (p *process) cpu() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	used, _ := cpuOf(string(text))
	return used
}

// cpuOf reads utime and stime, the 14th and 15th field of proc_pid_stat(5). The
// second field, the name, may hold anything and ends at the last parenthesis.
func cpuOf(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat is too short")
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, err
}

// resident is the memory of the process in bytes (VmRSS).
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("/proc/PID/status has no VmRSS")
	}
	kib, err := strconv.ParseInt(fields[0], 10, 64)
	return kib << 10, err
}

// raiseDescriptors lifts the limit of open files as far as allowed, for this
// program and those that it starts, and returns it.
func raiseDescriptors() (uint64, error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, err
	}
	r.Cur = r.Max
	return r.Cur, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
}
