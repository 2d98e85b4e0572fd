package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"appbind/secrets"
)

func TestMain(m *testing.M) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	os.Exit(m.Run())
}

// short are the options of a run that fits into the tests.
func short(t *testing.T) options {
	t.Helper()
	o, err := parse([]string{"-binds", "5000", "-users", "400", "-connections", "8", "-faults", "4"})
	if err != nil {
		t.Fatal(err)
	}
	o.root, o.race, o.keep = "../..", true, filepath.Join(t.TempDir(), "run")
	return o
}

// TestShortRun is the short form of the whole: every answer is the one that the plan predicts.
func TestShortRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := short(t)
	err := run(o, &out)
	t.Logf("%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, lookup := range o.lookups {
		if v, r, err := check(filepath.Join(o.keep, lookup)); err != nil || !v.ok() || v.Binds != o.binds/2 || len(r.Faults) != o.faults || v.Accepted < v.Binds/4 || v.Refused < v.Binds/4 {
			t.Errorf("%s, judged once more: %+v, %v", lookup, v, err)
		}
		log, err := os.ReadFile(filepath.Join(o.keep, lookup, "appbind.log"))
		if err != nil || strings.Contains(string(log), "DATA RACE") || strings.Contains(string(log), "internal error") {
			t.Errorf("%s: a bug of appbind's own: %v\n%.5000s", lookup, err, log)
		}
	}
}

// TestMemoryUnderAttack: a hostile suite of 64 connections at a time takes at most 128 MiB, and leaves nothing behind.
func TestMemoryUnderAttack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program, err := build("../..", dir, false) // the race detector takes several times the memory
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(1, 50, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSite("../..", dir, p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.startAppbind(program, "live", "warn"); err != nil {
		t.Fatal(err)
	}
	before, err := s.gauges()
	if err != nil {
		t.Fatal(err)
	}
	last := int64(0)
	err = beHostile(s.listen, 1, func(name string) {
		peak, err := s.appbind.status("VmHWM")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%4d MiB (+%d) %s", peak>>20, (peak-last)>>20, name)
		last = peak
		if !answers(s.listen) {
			t.Errorf("%s: then nobody is served", name)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if last > 128<<20 {
		t.Errorf("peak memory %d MiB, at most 128", last>>20)
	}
	if _, err := s.end(before); err != nil {
		t.Error(err)
	}
}

// TestHashStrings is the short form of a million malformed hashes.
func TestHashStrings(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := tryHashes(2, 5000, &out); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
}

// TestGoodHashes: what the plan stores does verify, and so a refusal in the run says something.
func TestGoodHashes(t *testing.T) {
	t.Parallel()
	r := source(3, "test", 0)
	seen := map[string]bool{}
	for i := range 300 {
		a, err := newApp(r, 0, map[string]bool{}, i%2 == 0)
		if err != nil {
			t.Fatal(err)
		}
		v := secrets.Parse([]byte(a.Value))
		if !v.Verify([]byte(a.Password)) || v.Verify([]byte(a.Password+"x")) || (v.ID != "") != a.Selected {
			t.Errorf("%s: %v", a.Value, v.Err)
		}
		hash := a.Value[strings.Index(a.Value[5:], "$")+6:]
		seen[strings.TrimRight(hash[:4], "=")] = true
		if shape, _, _ := secrets.ShapeOf([]byte(a.Password)); (shape == secrets.Ours) != (retypedAs(a.Password) != "") {
			t.Errorf("%q: the shape is judged differently", a.Password)
		}
	}
	for _, scheme := range []string{"{SSH", "$6$r", "$5$r", "$pbk", "$arg", "$2a$"} {
		if !seen[scheme] {
			t.Errorf("no hash of %s in the mix", scheme)
		}
	}
}

// TestSamePlan: the seed decides the users and the requests, but for what is of the clock.
func TestSamePlan(t *testing.T) {
	t.Parallel()
	now := func() time.Time { return time.Unix(1_800_000_000, 0) }
	requests := func(seed uint64) (list []request) {
		p, err := newPlan(seed, 200, 0)
		if err != nil {
			t.Fatal(err)
		}
		d := newDealer(p, 0, 1, now)
		for range 5000 {
			list = append(list, d.next())
		}
		return list
	}
	a := requests(5)
	if !reflect.DeepEqual(a, requests(5)) {
		t.Error("two plans of one seed differ")
	}
	if reflect.DeepEqual(a, requests(6)) {
		t.Error("two seeds make one plan")
	}
	count := map[string]int{}
	for _, r := range a {
		count[r.share]++
	}
	for i := range shares {
		if count[shares[i].name] == 0 {
			t.Errorf("no request of the share %q", shares[i].name)
		}
	}
}

// testRun is a run with one fault, 10 to 11 seconds after its beginning, and one of every change at 20 seconds.
func testRun(t *testing.T, lookup string) *ran {
	t.Helper()
	p, err := newPlan(7, 400, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &ran{Plan: p, Lookup: lookup, Start: time.Unix(1_800_000_000, 0), Faults: []event{{What: "test", Began: 10 * time.Second, Ended: 11 * time.Second}}}
	for i := range p.Users {
		if u := &p.Users[i]; u.Kind == changing {
			r.Changes = append(r.Changes, event{What: string(u.Change), User: i, Began: 20 * time.Second, Ended: 20*time.Second + time.Millisecond})
		}
	}
	return r
}

// userOf is the first user of a kind.
func (r *ran) userOf(t *testing.T, fits func(u *user) bool) *user {
	t.Helper()
	for i := range r.Plan.Users {
		if fits(&r.Plan.Users[i]) {
			return &r.Plan.Users[i]
		}
	}
	t.Fatal("no such user")
	return nil
}

// at is an answer at a time of the run.
func (u *user) at(seconds float64, password string, code int) *answer {
	a := &answer{User: u.Index, Name: u.DN, Password: password, Code: code, Began: time.Duration(seconds * float64(time.Second))}
	a.Ended = a.Began + time.Millisecond
	return a
}

// TestCheckerFinds: one wrong answer after the other, each is found and named as what it is, and the right one is not.
func TestCheckerFinds(t *testing.T) {
	t.Parallel()
	r := testRun(t, "replica")
	plain := r.userOf(t, func(u *user) bool {
		return u.Kind == ordinary && len(u.Apps) > 3 && u.Apps[0].Selected && u.Apps[1].Barred
	})
	off := r.userOf(t, func(u *user) bool { return u.Kind == disabled && len(u.Apps) > 0 })
	coded := r.userOf(t, func(u *user) bool { return u.Kind == enrolled })
	of := func(c change) *user { return r.userOf(t, func(u *user) bool { return u.Change == c }) }
	good := code(coded.TOTP, r.Start.Add(time.Second).Unix()/30)
	named := func(form int, a *answer, u *user) *answer {
		a.Form, a.Name = form, forms[form].write(u)
		return a
	}
	nobody := 0
	for forms[nobody].same {
		nobody++
	}
	const accept, identity, reject, fine = "accept", "identity", "reject", ""
	who := func(a *answer, name string) *answer { a.Asked, a.Who = true, name; return a }
	found := func(a *answer, text string) *answer { a.Searched, a.Found = true, text; return a }
	app := plain.Apps[0].Password
	for i, x := range []struct {
		want string
		list []*answer
	}{
		{fine, []*answer{plain.at(1, app, 0)}},
		{reject, []*answer{plain.at(1, app, 49)}},
		{reject, []*answer{plain.at(1, app, 52)}},
		{reject, []*answer{plain.at(1, app, lost)}},
		{fine, []*answer{plain.at(10.5, app, 52)}},
		{fine, []*answer{plain.at(13.9, app, 51)}},
		{reject, []*answer{plain.at(14.1, app, 52)}},
		{reject, []*answer{plain.at(10.5, app, 49)}}, // a fault is no excuse for "wrong password"
		{reject, []*answer{plain.at(10.5, app, 53)}},
		{reject, []*answer{plain.at(1, app, 32)}},
		{accept, []*answer{plain.at(1, withSelector(source(1, "x", 1), app[:4]), 0)}},
		{accept, []*answer{plain.at(10.5, plain.Revoked[0], 0)}},
		{accept, []*answer{plain.at(1, plain.Apps[0].Value, 0)}},
		{accept, []*answer{plain.at(1, plain.Apps[1].Password, 0)}},
		{accept, []*answer{plain.at(1, plain.Stale, 0)}},
		{accept, []*answer{plain.at(1, "", 0)}},
		{reject, []*answer{plain.at(1, "", 49)}},
		{fine, []*answer{plain.at(1, "", 53)}},
		{fine, []*answer{plain.at(1, strings.ToUpper(app), 0), plain.at(1, strings.ReplaceAll(app, "-", " "), 0)}},
		{reject, []*answer{named(1, plain.at(1, plain.Main, 49), plain)}},
		{accept, []*answer{named(nobody, plain.at(1, plain.Main, 0), plain)}},
		{reject, []*answer{named(1, plain.at(1, plain.Main, 0), off)}}, // not the name of the plan
		{accept, []*answer{off.at(1, off.Main, 0)}},
		{accept, []*answer{off.at(1, off.Apps[0].Password, 0)}},
		{fine, []*answer{off.at(1, off.Main, 49)}},
		{fine, []*answer{plain.at(1, "a", 49), plain.at(2, "b", 49), plain.at(3, plain.Main, 0)}},
		{reject, []*answer{plain.at(1, "a", 49), plain.at(2, "b", 49), plain.at(3, plain.Main, 49)}},
		{fine, []*answer{plain.at(1, "a", 49), plain.at(2, "b", 49), plain.at(3, "c", 49), plain.at(4, plain.Main, 49)}},
		{reject, []*answer{plain.at(1, plain.Main, 0), plain.at(1, "a", 49), plain.at(2, "b", 49), plain.at(3, "c", 49), plain.at(4, plain.Main, 49)}},
		{identity, []*answer{who(plain.at(1, app, 0), "dn:"+off.DN)}},
		{identity, []*answer{who(plain.at(1, app, 0), "")}},
		{identity, []*answer{who(plain.at(1, plain.Stale, 49), "dn:"+plain.DN)}},
		{fine, []*answer{who(plain.at(1, plain.Stale, 49), ""), who(plain.at(1, app, 0), "dn:"+plain.DN)}},
		{identity, []*answer{found(plain.at(1, plain.Main, 0), plain.DN+"|")}},
		{identity, []*answer{found(plain.at(1, app, 0), off.DN+"|")}},
		{identity, []*answer{found(plain.at(1, app, 0), plain.DN+"|"+plain.number())}},
		{fine, []*answer{found(plain.at(1, app, 0), plain.DN+"|"), found(plain.at(1, plain.Main, 0), plain.DN+"|"+plain.number())}},
		{fine, []*answer{coded.at(1, coded.Main+"$"+good, 0), coded.at(2, coded.Main+"$"+good, 49)}},
		{accept, []*answer{coded.at(1, coded.Main+"$"+good, 0), coded.at(2, coded.Main+"$"+good, 0)}},
		{reject, []*answer{coded.at(1, coded.Main+"$"+good, 49)}},
		{accept, []*answer{coded.at(1, coded.Main, 0)}},
		{accept, []*answer{coded.at(100, coded.Main+"$"+good, 0)}},
		{accept, []*answer{coded.at(1, coded.Apps[0].Password+"$"+good, 0)}},
		{fine, []*answer{of(revoke).at(1, of(revoke).Apps[0].Password, 0), of(revoke).at(20.5, of(revoke).Apps[0].Password, 0), of(revoke).at(21.5, of(revoke).Apps[0].Password, 49)}},
		{accept, []*answer{of(revoke).at(21.1, of(revoke).Apps[0].Password, 0)}},
		{reject, []*answer{of(revoke).at(1, of(revoke).Apps[0].Password, 49)}},
		{accept, []*answer{of(issue).at(1, of(issue).Issued.Password, 0)}},
		{reject, []*answer{of(issue).at(22, of(issue).Issued.Password, 49)}},
		{accept, []*answer{of(reset).at(22, of(reset).Main, 0)}},
		{reject, []*answer{of(reset).at(22, of(reset).NewMain, 49)}},
		{accept, []*answer{of(disable).at(22, of(disable).Main, 0)}},
	} {
		c := newChecker(r)
		for _, a := range x.list {
			c.answer(a)
		}
		got := map[string]int{accept: c.verdict.WrongAccepts.Count, identity: c.verdict.WrongIdentities.Count, reject: c.verdict.UnexplainedRejects.Count}
		want := map[string]int{accept: 0, identity: 0, reject: 0}
		if x.want != fine {
			want[x.want] = 1
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d: %v, want %v: %s", i, got, want, fmt.Sprint(c.verdict.WrongAccepts, c.verdict.WrongIdentities, c.verdict.UnexplainedRejects))
		}
		var b bytes.Buffer
		if err := c.verdict.report(r, &b); (err == nil) != (x.want == fine) {
			t.Errorf("%d: the report ends with %v", i, err)
		}
		for _, a := range x.list {
			if a.Password != "" && len(a.Password) > 8 && strings.Contains(b.String(), a.Password) {
				t.Errorf("%d: the report shows a password", i)
			}
		}
	}
}

// TestRecord: what is written is read, whatever stands in a name.
func TestRecord(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := newRecorder(dir, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []answer{{User: 4, Form: 2, Name: "uid=\"a\tb\"\n\x00\xff", Password: "x\ty", Began: 5, Ended: 6, Code: lost},
		{Asked: true, WhoCode: 52, Who: "dn:x", Searched: true, SearchCode: 3, Found: "f", Share: "s"}}
	for i := range want {
		if err := w.add(&want[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	r, err := openRecord(recordName(dir, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer r.file.Close()
	for i := range want {
		if err := r.read(); err != nil || r.next != want[i] {
			t.Errorf("%+v, want %+v, %v", r.next, want[i], err)
		}
	}
	if r.read() == nil {
		t.Error("there is more")
	}
}
