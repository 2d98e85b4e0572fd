package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// report prints what the checker found; the error says that there is something.
func (v *verdict) report(r *ran, out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d binds in %v (%.0f a second), %d users, %d connections, %d faults, %d changes\n", r.Lookup, v.Binds,
		r.Took.Round(time.Millisecond), float64(v.Binds)/r.Took.Seconds(), len(r.Plan.Users), r.Conns, len(r.Faults), len(r.Changes))
	fmt.Fprintf(&b, "  accepted %d, refused %d, trouble during faults %d; either was right while a change was under way %d; right, refused after guesses %d; identities %d; slowest %v\n",
		v.Accepted, v.Refused, v.Trouble, v.Either, v.Budget, v.Identities, v.Slowest.Round(time.Millisecond))
	for _, name := range slices.Sorted(maps.Keys(v.ByShare)) {
		fmt.Fprintf(&b, "    %8d  %s\n", v.ByShare[name], name)
	}
	fmt.Fprintf(&b, "  wrong accepts %d, wrong identities %d, unexplained rejects %d\n", v.WrongAccepts.Count, v.WrongIdentities.Count, v.UnexplainedRejects.Count)
	for _, f := range []findings{v.WrongAccepts, v.WrongIdentities, v.UnexplainedRejects} {
		for _, line := range f.First {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	if !v.ok() {
		return errors.New("answers that the plan does not predict")
	}
	return nil
}

// end looks at what the run has left behind, when its clients are gone.
func (s *site) end(before map[string]float64) (string, error) {
	locked, most, err := s.failures()
	if err != nil {
		return "", err
	}
	if locked > 0 || most > 4 {
		return "", fmt.Errorf("%d accounts are locked, and the directory counts up to %d failures of one", locked, most)
	}
	var after map[string]float64
	err = s.appbind.await("descriptors and goroutines as before", func() bool {
		after, err = s.gauges()
		return err == nil && after["appbind_connections"] == 0 &&
			own(after, "process_open_fds") <= own(before, "process_open_fds")+2 && own(after, "go_goroutines") <= own(before, "go_goroutines")+4
	})
	if err != nil {
		return "", fmt.Errorf("%w; descriptors %v and goroutines %v, were %v and %v (without links to the directory)", err,
			own(after, "process_open_fds"), own(after, "go_goroutines"), own(before, "process_open_fds"), own(before, "go_goroutines"))
	}
	if n := after["appbind_panics_total"]; n > 0 {
		return "", fmt.Errorf("%v panics: %s", n, s.appbind.output())
	}
	peak, err := s.appbind.status("VmHWM")
	return fmt.Sprintf("no account locked, at most %d failures of one; descriptors and goroutines as before; peak memory %d MiB", most, peak>>20), err
}

// own is a count without the links to the directory, which come and go: each has a descriptor and a goroutine.
func own(gauges map[string]float64, name string) float64 {
	return gauges[name] - gauges["appbind_upstream_links"]
}

// failures is what the directory itself counted: accounts locked, and the most failures of one.
func (s *site) failures() (locked, most int, err error) {
	c, err := s.admin()
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	found, err := c.Search(ldap.NewSearchRequest(people, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(|(pwdAccountLockedTime=*)(pwdFailureTime=*))", []string{"pwdAccountLockedTime", "pwdFailureTime"}, nil))
	if err != nil {
		return 0, 0, err
	}
	for _, e := range found.Entries {
		if e.GetAttributeValue("pwdAccountLockedTime") != "" {
			locked++
		}
		most = max(most, len(e.GetAttributeValues("pwdFailureTime")))
	}
	return locked, most, nil
}
