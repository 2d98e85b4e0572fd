package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine is where the figures come from.
type machine struct {
	cpu, kernel string
	versions    []string
	date        time.Time
	began       usage
	others      float64 // share of the machine's CPU time that other programs used during the run
}

// usage is CPU time used so far.
type usage struct {
	at   time.Time
	all  time.Duration // by everything on the machine
	ours time.Duration // by this program and those that it started, once they have ended
}

// readMachine looks at the machine and at the versions of what is measured.
func readMachine() machine {
	m := machine{cpu: "unknown", kernel: firstLine("uname", "-sr"), date: time.Now(), began: readUsage()}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	_, slapd, _ := strings.Cut(firstLine("slapd", "-VV"), "$OpenLDAP: ")
	slapd, _, _ = strings.Cut(slapd, " (")
	m.versions = []string{"appbind " + firstLine("git", "describe", "--tags", "--always", "--dirty"), runtime.Version(), slapd, firstLine("haproxy", "-v")}
	if program := os.Getenv("BENCH_LLOADD"); program != "" {
		m.versions = append(m.versions, "lloadd "+firstLine(program, "-VV"))
	}
	return m
}

// firstLine is the first line that a command prints that is not empty.
func firstLine(name string, args ...string) string {
	out, _ := exec.Command(name, args...).CombinedOutput() // slapd -VV exits with 1 and says it all the same
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return "unknown"
}

// end tells how much else went on. Every server must have been stopped.
func (m *machine) end() {
	now := readUsage()
	total := now.at.Sub(m.began.at) * time.Duration(runtime.NumCPU())
	m.others = max(0, float64(now.all-m.began.all-(now.ours-m.began.ours))/float64(total))
}

// readUsage reads what was used so far.
func readUsage() usage {
	u := usage{at: time.Now()}
	if text, err := os.ReadFile("/proc/stat"); err == nil {
		u.all = busy(string(text))
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if syscall.Getrusage(who, &r) == nil {
			u.ours += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
	}
	return u
}

// busy is the time of the first line of /proc/stat that was neither idle nor
// spent waiting (proc_stat(5)): fields 4 and 5 are. Guests count as user already.
func busy(stat string) time.Duration {
	line, _, _ := strings.Cut(stat, "\n")
	var sum int64
	for i, f := range strings.Fields(line) {
		if n, err := strconv.ParseInt(f, 10, 64); err == nil && i != 4 && i != 5 && i < 9 {
			sum += n
		}
	}
	return time.Duration(sum) * tick
}

// write prints the machine.
func (m *machine) write(w io.Writer) {
	fmt.Fprintf(w, "- %s\n- %d cores of %s, %s; load generator and servers all on it, over loopback\n", m.date.UTC().Format("2006-01-02"), runtime.NumCPU(), m.cpu, m.kernel)
	fmt.Fprintf(w, "- %s\n", strings.Join(m.versions, "; "))
	fmt.Fprintf(w, "- other work beside it used %.1f %% of the machine's CPU time\n", 100*m.others)
}
