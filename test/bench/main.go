// Command bench measures appbind beside its peers and prints one table.
//
//	make bench                                  everything; the figures go to doc/performance.md
//	make bench BENCH_FLAGS='-quick -only search'    a short look at some works, printed only
//	make bench BENCH_FLAGS='-only "app password seen" -profile DIR'    CPU profiles too, for go tool pprof
//	make bench BENCH_FLAGS='-only search -beside OLD'    another build of appbind beside this one, run by run
//	BENCH_LLOADD=/path/to/lloadd make bench     OpenLDAP's load balancer too
//
// It starts, on free ports of loopback and in a directory of its own under
// TMPDIR: slapd with 10,000 users, whose main passwords are hashed as slapd
// does by default ({SSHA}) and who have 1, 10 or 50 app passwords; slapd with
// back-ldap, HAProxy in TCP mode and appbind, each in front of that slapd.
// appbind is built without the race detector, and has the defaults of its
// configuration, its log (a line for each bind) going to a file.
//
// # What is measured
//
// A load is a number of connections, each of which sends its next request when
// the last one is answered (or keeps a few under way). The generator writes and
// reads raw frames, and checks of each answer the message ID, the operation, the
// result code and the number of entries: one that is wrong ends the whole run.
// Before the first timed run of a work on a process every request is sent once.
//
// All works run on all servers once, then all a second time, and so on; the
// table has the medians of the rounds. CPU time is user and system time of the
// process under test from /proc, over the operations answered; it has a
// resolution of 10 ms, so that runs should not be shorter than a second.
//
// A work whose configuration this build of appbind refuses is "not available".
//
// # Limits
//
// Client, servers and directory share the machine: rates tell what is left for
// the server under test, and CPU time is the figure to compare. Memory of idle
// connections is what the process has grown by, without the kernel's buffers.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"
)

// options are the flags.
type options struct {
	quick  bool
	rounds int
	each   time.Duration
	only   *regexp.Regexp
	output string
	// profile is a directory for the CPU profile of appbind in each work; empty: none.
	profile string
	// beside is another build of appbind that does the same works; empty: none.
	beside string
}

func main() {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(o, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.BoolVar(&o.quick, "quick", false, "one round of 300ms for each work: a look, no figures to keep")
	f.IntVar(&o.rounds, "rounds", 3, "how often everything is run")
	f.DurationVar(&o.each, "time", 2*time.Second, "how long each work runs on each server")
	f.StringVar(&o.output, "o", "", "put the figures into this `file`, between its marks")
	f.StringVar(&o.profile, "profile", "", "save a CPU profile of appbind in each work to this `directory`; it slows appbind down")
	f.StringVar(&o.beside, "beside", "", "measure this other `program` of appbind beside the one that is built here")
	only := f.String("only", "", "only works whose names match this `regexp`; idle and start are names too")
	_ = f.Parse(args) // ends the program on an error
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.quick {
		o.rounds, o.each = 1, 300*time.Millisecond
	}
	if o.rounds < 1 || o.each <= 0 {
		return o, fmt.Errorf("-rounds and -time must be positive")
	}
	var err error
	o.only, err = regexp.Compile(*only)
	return o, err
}

// run measures and prints.
func run(o options, out, progress io.Writer) error {
	descriptors, err := raiseDescriptors()
	if err != nil {
		return err
	}
	r := &report{machine: readMachine(), rounds: o.rounds, each: o.each, works: selected(works(), o.only)}
	if err := measureAll(r, o, descriptors, progress); err != nil {
		return err
	}
	r.machine.end()
	var text bytes.Buffer
	r.write(&text)
	if _, err := out.Write(text.Bytes()); err != nil {
		return err
	}
	if err := r.failed(); err != nil {
		return err
	}
	if o.output != "" {
		return store(o.output, text.Bytes())
	}
	return nil
}

// measureAll starts the servers, fills in the report and stops them.
func measureAll(r *report, o options, descriptors uint64, progress io.Writer) error {
	h, err := newHouse()
	if err != nil {
		return err
	}
	defer h.close()
	h.profile, h.beside = o.profile, o.beside
	fmt.Fprintln(progress, "loading the directory")
	if err := h.startPeers(); err != nil {
		return err
	}
	r.results, err = h.rounds(r.works, o.rounds, o.each, func(line string) { fmt.Fprintln(progress, line) })
	if err != nil {
		return err
	}
	if o.only.MatchString("idle") {
		fmt.Fprintln(progress, "idle connections")
		r.idle = h.measureIdle(descriptors)
	}
	if o.only.MatchString("start") {
		fmt.Fprintln(progress, "start of a replica")
		r.start = h.measureStart()
	}
	return nil
}

// selected is the works whose names match, and those that they are compared with.
func selected(all []work, only *regexp.Regexp) []work {
	wanted := map[string]bool{}
	for i := range all {
		if only.MatchString(all[i].name) {
			wanted[all[i].name], wanted[all[i].baseline()] = true, true
		}
	}
	var list []work
	for i := range all {
		if wanted[all[i].name] {
			list = append(list, all[i])
		}
	}
	return list
}
