package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// recovery is how long after a fault is over binds may still be answered 51 or
// 52: a server that was down is looked at once a second.
const recovery = 3 * time.Second

// pushed is how long after the directory confirmed a change a copy of it may lag behind.
const pushed = time.Second

// verdict is what the checker finds.
type verdict struct {
	Binds, Accepted, Refused, Trouble int
	ByShare                           map[string]int
	Identities                        int // answers to Who am I and searches that were looked at
	Either                            int // binds while a change was under way: both answers are right
	Budget                            int // right main passwords refused since somebody guessed at them
	WrongAccepts                      findings
	WrongIdentities                   findings
	UnexplainedRejects                findings
	Slowest                           time.Duration
}

// findings are a count and the first of them.
type findings struct {
	Count int
	First []string
}

func (f *findings) add(format string, args ...any) {
	if f.Count++; len(f.First) < 10 {
		f.First = append(f.First, fmt.Sprintf(format, args...))
	}
}

// ok says whether the run is without fault.
func (v *verdict) ok() bool {
	return v.WrongAccepts.Count == 0 && v.WrongIdentities.Count == 0 && v.UnexplainedRejects.Count == 0
}

// check reads a run's directory and judges every answer by the plan alone.
func check(dir string) (*verdict, *ran, error) {
	r, err := load(dir)
	if err != nil {
		return nil, nil, err
	}
	c := newChecker(r)
	names, err := filepath.Glob(filepath.Join(dir, "record-*"))
	if err != nil {
		return nil, nil, err
	}
	if len(names) != r.Conns {
		return nil, nil, fmt.Errorf("%d records, and %d connections", len(names), r.Conns)
	}
	for _, name := range names {
		if err := c.file(name); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return &c.verdict, r, nil
}

// checker judges answers. Of every user but the shared ones, all answers stand in one record, in their order.
type checker struct {
	run     *ran
	model   *model
	verdict verdict
}

func newChecker(r *ran) *checker {
	return &checker{run: r, model: newModel(r), verdict: verdict{ByShare: map[string]int{}}}
}

// file judges one record.
func (c *checker) file(name string) error {
	rec, err := openRecord(name)
	if err != nil {
		return err
	}
	defer rec.file.Close()
	for {
		if err := rec.read(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if a := &rec.next; a.User < 0 || a.User >= len(c.run.Plan.Users) || a.Form < 0 || a.Form >= len(forms) {
			return errors.New("a line of another plan")
		}
		c.answer(&rec.next)
	}
}

// troubled reports whether a fault explains that something could not be decided in this time.
func (c *checker) troubled(from, to time.Duration) bool {
	for _, f := range c.run.Faults {
		if from <= f.Ended+recovery && to >= f.Began {
			return true
		}
	}
	return false
}

// answer judges one answer.
func (c *checker) answer(a *answer) {
	v := &c.verdict
	u := &c.run.Plan.Users[a.User]
	v.Binds++
	v.ByShare[a.Share]++
	v.Slowest = max(v.Slowest, a.Ended-a.Began)
	what := func() string {
		return fmt.Sprintf("%s: %s (%s), password %s, %v to %v: code %d", a.Share, a.Name, forms[a.Form].name, c.model.describe(u, a.Password), a.Began, a.Ended, a.Code)
	}
	if a.Name != forms[a.Form].write(u) {
		v.UnexplainedRejects.add("%s: the record and the plan differ in the name", what())
		return
	}
	want := c.model.predict(u, a)
	switch {
	case a.Code == lost, a.Code == 51, a.Code == 52:
		v.Trouble++
		if !c.troubled(a.Began, a.Ended) {
			v.UnexplainedRejects.add("%s, and there was no fault", what())
		}
	case a.Code == 0:
		v.Accepted++
		if !want.accept {
			v.WrongAccepts.add("%s, which is %s", what(), want.why)
		}
	case a.Code == want.refusal:
		v.Refused++
		if want.accept && !want.refuse {
			v.UnexplainedRejects.add("%s, which is %s", what(), want.why)
		}
		if want.budget {
			v.Budget++
		}
	default:
		v.UnexplainedRejects.add("%s, want %d (%s)", what(), want.refusal, want.why)
	}
	if want.accept && want.refuse && !want.budget {
		v.Either++
	}
	c.model.learn(u, a)
	c.identity(u, a, what)
}

// identity judges who the client is after the bind.
func (c *checker) identity(u *user, a *answer, what func() string) {
	v := &c.verdict
	if a.Asked {
		v.Identities++
		who := ""
		if a.Code == 0 {
			who = "dn:" + u.DN
		}
		switch {
		case a.WhoCode == 0 && !strings.EqualFold(a.Who, who):
			v.WrongIdentities.add("%s: then the client is %q, want %q", what(), a.Who, who)
		case a.WhoCode != 0 && !c.troubled(a.Began, a.Ended+recovery):
			v.UnexplainedRejects.add("%s: then Who am I is answered %d", what(), a.WhoCode)
		}
	}
	if a.Searched {
		v.Identities++
		// Only the user itself may read its number; with an app password nobody may, but the entry is there.
		want := u.DN + "|" + u.number()
		if c.model.isApp(u, a.Password) {
			want = u.DN + "|"
		}
		switch {
		case a.SearchCode == 0 && a.Found != want:
			v.WrongIdentities.add("%s: then the search finds %q, want %q", what(), a.Found, want)
		case a.SearchCode != 0 && !c.troubled(a.Began, a.Ended+recovery):
			v.UnexplainedRejects.add("%s: then a search is answered %d", what(), a.SearchCode)
		}
	}
}

// number is what only the user itself may read.
func (u *user) number() string { return fmt.Sprint(100000 + u.Index) }
