// Command soak binds a million times and judges every answer.
//
//	make soak                              a million binds: half with lookup: live, half with lookup: replica
//	go run ./test/soak -binds 20000 -users 1000     a smaller run
//	go run ./test/soak -keep DIR           keeps the record
//	go run ./test/soak -check DIR          judges a kept record once more
//	go run ./test/soak -hashes 1000000     so many stored texts that are no good hashes, three passwords each
//
// # Order of steps
//
//	plan      users, their passwords, the faults and the changes: all from the seed (plan.go, request.go)
//	site      a real slapd with a lock-out policy, a relay before it, the real appbind before that (site.go, test/relay)
//	drive     connections that bind again and again; each request and each answer goes to a record (drive.go),
//	          while the director cuts, stalls and kills, and revokes, issues, resets and disables (director.go)
//	check     a pass of its own over the record, when all is over: what must the answer have been? (check.go, model.go)
//	end       no account is locked, descriptors and goroutines are back to what they were (end.go)
//
// The checker knows the plan and the times of changes and faults, and nothing of appbind: it states the rules for itself. A
// wrong accept is a success that it does not predict; a wrong identity, a Who am I or a search afterwards that tells
// of somebody else; an unexplained reject, any other answer that it does not predict. Only 51, 52 and a lost connection need an
// explanation, and a fault that was under way, or over for less than three seconds, is the only one.
//
// # Limits
//
// The binds of one user come from one connection, in one order, except those of the shared users, at whom nobody
// guesses: a prediction needs to know what came first. One-time codes are of the clock, and so not of the seed.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// options are the flags.
type options struct {
	binds, users, conns, faults int
	seed                        uint64
	lookups                     []string
	keep, check                 string
	hashes                      int
	race                        bool
	root                        string
}

func main() {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	o, err := parse(os.Args[1:])
	if err == nil {
		err = run(o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// parse reads the command line.
func parse(args []string) (options, error) {
	o := options{root: "."}
	f := flag.NewFlagSet("soak", flag.ExitOnError)
	f.IntVar(&o.binds, "binds", 1000000, "how many binds, all together")
	f.IntVar(&o.users, "users", 10000, "how many users")
	f.IntVar(&o.conns, "connections", 32, "how many connections at once")
	f.IntVar(&o.faults, "faults", 30, "how many faults, for each form of lookup")
	f.Uint64Var(&o.seed, "seed", 1, "what the plan is made from")
	lookup := f.String("lookup", "both", "live, replica, or both, half of the binds each")
	f.StringVar(&o.keep, "keep", "", "keep the records in this `directory`, which must not exist")
	f.StringVar(&o.check, "check", "", "judge the kept record of one form of lookup in this `directory`")
	f.IntVar(&o.hashes, "hashes", 0, "try so many malformed hashes instead, with three passwords each")
	_ = f.Parse(args) // ends the program on an error
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o.lookups = []string{"live", "replica"}
	if *lookup != "both" {
		if !slices.Contains(o.lookups, *lookup) {
			return o, fmt.Errorf("-lookup is live, replica or both")
		}
		o.lookups = []string{*lookup}
	}
	if o.users < 50 || o.binds < 1 || o.conns < 1 || o.faults < 0 {
		return o, fmt.Errorf("-users must be 50 or more, -binds and -connections positive")
	}
	return o, nil
}

// run does what was asked for; an error also where a finding is.
func run(o options, out io.Writer) error {
	switch {
	case o.hashes > 0:
		return tryHashes(o.seed, o.hashes, out)
	case o.check != "":
		v, r, err := check(o.check)
		if err != nil {
			return err
		}
		return v.report(r, out)
	}
	top := o.keep
	if top == "" {
		dir, err := os.MkdirTemp("", "appbind-soak")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		top = dir
	} else if err := os.Mkdir(top, 0o700); err != nil {
		return err
	}
	program, err := build(o.root, top, o.race)
	if err != nil {
		return err
	}
	for _, lookup := range o.lookups {
		if err := oneForm(o, top+"/"+lookup, program, lookup, out); err != nil {
			return fmt.Errorf("%s: %w", lookup, err)
		}
	}
	return nil
}

// oneForm is one run with one form of lookup, from the plan to the report.
func oneForm(o options, dir, program, lookup string, out io.Writer) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	p, err := newPlan(o.seed, o.users, o.binds/len(o.lookups))
	if err != nil {
		return err
	}
	s, err := openSite(o.root, dir, p)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.startAppbind(program, lookup, "warn"); err != nil {
		return err
	}
	before, err := s.gauges()
	if err != nil {
		return err
	}
	r, err := drive(s, p, o, lookup)
	if err != nil {
		return err
	}
	end, err := s.end(before)
	if err != nil {
		return err
	}
	v, _, err := check(dir)
	if err != nil {
		return err
	}
	if err := v.report(r, out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "  %s\n", end)
	return err
}

// drive sends the binds while the director is at work, and stores all that the checker needs.
func drive(s *site, p *plan, o options, lookup string) (*ran, error) {
	d := &driver{plan: p, dir: s.dir, addr: s.listen, conns: o.conns, began: time.Now()}
	boss := &director{site: s, driver: d, done: make(chan struct{})}
	directed := make(chan struct{})
	go func() {
		boss.run(boss.steps(o.faults))
		close(directed)
	}()
	err := d.run()
	took := time.Since(d.began)
	close(boss.done)
	<-directed
	if err == nil {
		err = boss.err
	}
	if err != nil {
		return nil, err
	}
	r := &ran{Plan: p, Lookup: lookup, Conns: o.conns, Start: d.began, Took: took, Changes: boss.changes, Faults: boss.faults}
	return r, r.store(s.dir)
}
