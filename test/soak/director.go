package main

import (
	"fmt"
	"syscall"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// director does to the directory and to the way there what the plan says, at
// the moments that it says: when so many binds are answered.
type director struct {
	site    *site
	driver  *driver
	done    chan struct{} // closed when all binds are answered
	changes []event
	faults  []event
	err     error
}

// faults are what happens to the way to the directory, in turn.
var faults = []struct {
	name string
	do   func(s *site) error
}{
	{"connections cut", func(s *site) error { s.relay.Cut(); return nil }},
	{"nothing passes for a while", func(s *site) error {
		release := s.relay.Hold()
		<-time.After(700 * time.Millisecond)
		release()
		return nil
	}},
	{"answers lost", func(s *site) error {
		s.relay.Swallow(true)
		<-time.After(200 * time.Millisecond)
		s.relay.Cut()
		s.relay.Swallow(false)
		s.relay.Cut() // those that came meanwhile have lost bytes too
		return nil
	}},
	{"connections refused", func(s *site) error {
		s.relay.Refuse(true)
		s.relay.Cut()
		<-time.After(300 * time.Millisecond)
		s.relay.Refuse(false)
		return nil
	}},
	{"answers cut in the middle", func(s *site) error {
		s.relay.Halve(true)
		<-time.After(50 * time.Millisecond)
		s.relay.Halve(false)
		s.relay.Cut()
		return nil
	}},
	{"slapd killed and started again", func(s *site) error {
		s.slapd.stop(syscall.SIGKILL)
		return s.startSlapd()
	}},
}

// step is one thing to do.
type step struct {
	at int64 // after so many binds
	do func() error
}

// run does one step after the other, until all are done or all binds are answered.
func (d *director) run(steps []step) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, s := range steps {
		for d.driver.sent.Load() < s.at {
			select {
			case <-d.done:
				return
			case <-tick.C:
			}
		}
		if d.err = s.do(); d.err != nil {
			return
		}
	}
}

// steps are the changes and the faults of a run: as many faults as asked for, evenly among the binds, and
// between them the changes.
func (d *director) steps(count int) []step {
	var affected []*user
	for i := range d.driver.plan.Users {
		if u := &d.driver.plan.Users[i]; u.Kind == changing {
			affected = append(affected, u)
		}
	}
	var steps []step
	binds := int64(d.driver.plan.Binds)
	next := 0
	for i := range count {
		// From one fault to the next is one part; the changes have the middle of it.
		part := binds / int64(count)
		begin := int64(i) * part
		until := len(affected) * (i + 1) / count
		n := int64(until - next)
		for k := range n {
			u := affected[next]
			steps = append(steps, step{begin + part*(k+1)/(n+2), func() error { return d.change(u) }})
			next++
		}
		f := faults[i%len(faults)]
		steps = append(steps, step{begin + part*9/10, func() error { return d.fault(f.name, f.do) }})
	}
	return steps
}

func (d *director) now() time.Duration { return time.Since(d.driver.began) }

// fault does one fault and records it.
func (d *director) fault(name string, do func(s *site) error) error {
	d.driver.faulty.Store(true)
	defer d.driver.faulty.Store(false)
	e := event{What: name, Began: d.now()}
	err := do(d.site)
	e.Ended = d.now()
	d.faults = append(d.faults, e)
	return err
}

// change changes one user at the directory itself, and records it when the directory has confirmed it.
func (d *director) change(u *user) error {
	c, err := d.site.admin()
	if err != nil {
		return err
	}
	defer c.Close()
	m := ldap.NewModifyRequest(u.DN, nil)
	switch u.Change {
	case revoke:
		m.Delete("appPassword", []string{u.Apps[0].Value})
	case issue:
		m.Add("appPassword", []string{u.Issued.Value})
	case reset:
		m.Replace("userPassword", []string{ssha(u.NewMain)})
	case disable:
		m.Replace("employeeType", []string{"disabled"})
	default:
		return fmt.Errorf("user %d: no change %q", u.Index, u.Change)
	}
	e := event{What: string(u.Change), User: u.Index, Began: d.now()}
	err = c.Modify(m)
	e.Ended = d.now()
	d.changes = append(d.changes, e)
	return err
}
