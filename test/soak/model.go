package main

import (
	"strings"
	"time"
)

// The rules by which the checker predicts, stated for themselves:
//
//   - a name without a password is answered 53;
//   - a name that is nobody's, and a user who may not log in: 49, whatever the password;
//   - what begins with $app$ is 49;
//   - an app password of the user is accepted, in any way of typing it, unless it is barred;
//   - what has the form of an app password otherwise, well or badly typed, with a code or without: 49;
//   - a user with a second factor: the main password, "$" and a code of now or of the step
//     before or after, that was not used before; after five wrong codes in five minutes none is right;
//   - the main password is accepted, and every other one is 49.
//
// What may be refused though it is right: a main password that was not accepted before, after
// three others have failed, each counted by the directory. What may be either: while
// the directory is being changed, and in a copy up to a second longer.

// budget is how many main passwords may fail: the directory's policy locks at five.
const budget = 3

// prediction is what an answer may be.
type prediction struct {
	accept, refuse bool // both: either is right
	refusal        int  // the code of a refusal
	budget         bool // refused, if at all, since others have failed
	why            string
}

// model is what the checker knows of the users as it reads on.
type model struct {
	run   *ran
	users map[int]*state
}

// state is what has happened to a user.
type state struct {
	accepted string          // the main password accepted last
	failed   map[string]bool // main passwords refused since then
	lost     int             // main passwords without an answer since then, which may have failed
	used     map[int64]bool  // codes: true used, false perhaps
	wrong    []time.Duration // wrong codes
}

func newModel(r *ran) *model { return &model{run: r, users: map[int]*state{}} }

func (m *model) state(u *user) *state {
	s := m.users[u.Index]
	if s == nil {
		s = &state{failed: map[string]bool{}, used: map[int64]bool{}}
		m.users[u.Index] = s
	}
	return s
}

// change is when the user was changed; ok is false where it was not.
func (m *model) change(u *user, what change) (e event, ok bool) {
	for _, e := range m.run.Changes {
		if e.User == u.Index && e.What == string(what) {
			return e, true
		}
	}
	return event{}, false
}

// changed says whether a change counted for a bind: certainly not, certainly, or perhaps.
func (m *model) changed(u *user, what change, a *answer) (no, yes bool) {
	if u.Change != what {
		return true, false
	}
	e, found := m.change(u, what)
	if !found || a.Ended < e.Began {
		return true, false
	}
	latest := e.Ended
	if m.run.Lookup == "replica" {
		latest += pushed
	}
	// A copy whose link is gone, or hangs, hears of nothing until it is back.
	for _, f := range m.run.Faults {
		if m.run.Lookup == "replica" && f.Began <= latest && f.Ended+recovery > latest && f.Ended >= e.Began {
			latest = f.Ended + recovery
		}
	}
	return false, a.Began > latest
}

// reject and either make predictions.
func reject(why string) prediction { return prediction{refuse: true, refusal: 49, why: why} }

func accept(why string) prediction { return prediction{accept: true, refusal: 49, why: why} }

// from is a prediction for something that came into force, or went out of it.
func from(no, yes bool, before, after prediction) prediction {
	switch {
	case no:
		return before
	case yes:
		return after
	}
	return prediction{accept: before.accept || after.accept, refuse: before.refuse || after.refuse, refusal: 49, why: "being changed"}
}

// predict says what the answer must be.
func (m *model) predict(u *user, a *answer) prediction {
	if a.Password == "" {
		return prediction{refuse: true, refusal: 53, why: "a name without a password"}
	}
	if !forms[a.Form].same {
		return reject("nobody's name")
	}
	if u.Kind == disabled {
		return reject("a disabled user's")
	}
	no, yes := m.changed(u, disable, a)
	return from(no, yes, m.password(u, a), reject("a disabled user's"))
}

// password predicts for a user who may log in.
func (m *model) password(u *user, a *answer) prediction {
	if strings.HasPrefix(a.Password, "$app$") {
		return reject("a stored value")
	}
	text := retypedAs(a.Password)
	if head, _, found := strings.Cut(a.Password, "$"); found && retypedAs(head) != "" {
		return reject("an app password with a code")
	}
	if u.Change == issue && text == u.Issued.Password {
		no, yes := m.changed(u, issue, a)
		return from(no, yes, reject("not issued yet"), accept("an app password"))
	}
	for i := range u.Apps {
		switch app := &u.Apps[i]; {
		case text != app.Password && a.Password != app.Password:
		case app.Barred:
			return reject("barred")
		case u.Change == revoke && i == 0:
			no, yes := m.changed(u, revoke, a)
			return from(no, yes, accept("an app password"), reject("revoked"))
		default:
			return accept("an app password")
		}
	}
	if text != "" {
		return reject("of the form of an app password")
	}
	if u.TOTP != "" {
		return m.withCode(u, a)
	}
	return m.main(u, a)
}

// isApp says whether the password is one of the user's app passwords.
func (m *model) isApp(u *user, password string) bool {
	text := retypedAs(password)
	for i := range u.Apps {
		if text == u.Apps[i].Password || password == u.Apps[i].Password {
			return true
		}
	}
	return text != "" && text == u.Issued.Password
}

// retypedAs is an app password as it is displayed; "" for what has not the form of
// one. The check is not looked at: a wrong one is none of anybody's.
func retypedAs(text string) string {
	plain := strings.NewReplacer("-", "", " ", "", "o", "0", "i", "1", "l", "1").Replace(strings.ToLower(text))
	if len(plain) != 24 || strings.Trim(plain, alphabet) != "" {
		return ""
	}
	if display(plain[:20]) != group(plain) && strings.ContainsAny(text, "- ") {
		return group(plain)
	}
	if display(plain[:20]) != group(plain) {
		return ""
	}
	return group(plain)
}

func group(plain string) string {
	var b strings.Builder
	for i := range plain {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(plain[i])
	}
	return b.String()
}

// main predicts for what can only be the main password.
func (m *model) main(u *user, a *answer) prediction {
	right := func(password string) prediction {
		if a.Password != password {
			return reject("a wrong main password")
		}
		s := m.state(u)
		if s.accepted != password && len(s.failed)+s.lost >= budget {
			p := accept("the main password, at which others were guessed")
			p.refuse, p.budget = true, true
			return p
		}
		return accept("the main password")
	}
	no, yes := m.changed(u, reset, a)
	return from(no, yes, right(u.Main), right(u.NewMain))
}

// Limits of wrong codes.
const (
	maxWrong    = 5
	wrongWindow = 5 * time.Minute
)

// withCode predicts for a user with a second factor.
func (m *model) withCode(u *user, a *answer) prediction {
	main, given, found := strings.Cut(a.Password, "$")
	if !found || main != u.Main {
		return reject("without a code")
	}
	s := m.state(u)
	first, last := m.stepOf(a.Began), m.stepOf(a.Ended)
	for step := first - 1; step <= last+1; step++ {
		if code(u.TOTP, step) != given {
			continue
		}
		used, seen := s.used[step]
		p := accept("a good code")
		switch {
		case used:
			return reject("a used code")
		case seen || step < last-1 || step > first+1 || m.tooMany(s, a):
			p.refuse = true
		}
		return p
	}
	return reject("a wrong code")
}

func (m *model) stepOf(at time.Duration) int64 {
	return m.run.Start.Add(at).UnixNano() / int64(codeStep)
}

// tooMany says whether there may have been five wrong codes within five minutes; that none is
// right then is looked at by the tests with a clock of their own.
func (m *model) tooMany(s *state, a *answer) bool {
	n := 0
	for _, at := range s.wrong {
		if a.Ended-at < wrongWindow+time.Second {
			n++
		}
	}
	return n >= maxWrong
}

// learn takes an answer into the state.
func (m *model) learn(u *user, a *answer) {
	if u.Kind == disabled || u.Kind == shared || !forms[a.Form].same || a.Password == "" {
		return
	}
	if head, _, _ := strings.Cut(a.Password, "$"); retypedAs(head) != "" || m.isApp(u, a.Password) || strings.HasPrefix(a.Password, "$app$") {
		return
	}
	if u.TOTP != "" {
		m.learnCode(u, a)
		return
	}
	s := m.state(u)
	switch {
	case a.Code == 0:
		s.accepted, s.lost = a.Password, 0
		clear(s.failed)
	case a.Code == 49:
		s.failed[a.Password] = true
		if s.accepted == a.Password {
			s.accepted = ""
		}
	default:
		s.lost++
	}
}

// learnCode takes what became of a code.
func (m *model) learnCode(u *user, a *answer) {
	_, given, found := strings.Cut(a.Password, "$")
	if !found {
		return
	}
	s := m.state(u)
	for step := m.stepOf(a.Began) - 1; step <= m.stepOf(a.Ended)+1; step++ {
		if code(u.TOTP, step) != given {
			continue
		}
		if a.Code == 0 {
			s.used[step] = true
		} else if a.Code == lost && !s.used[step] {
			s.used[step] = false // the bind may have been accepted, and nobody heard of it
		}
		return
	}
	s.wrong = append(s.wrong, a.Ended)
}

// describe says what a password is, without showing it.
func (m *model) describe(u *user, password string) string {
	switch text := retypedAs(password); {
	case password == u.Main:
		return "main"
	case password == u.NewMain:
		return "new main"
	case password == u.Stale:
		return "stale main"
	case m.isApp(u, password):
		return "app " + password[:min(4, len(password))]
	case text != "":
		return "app form " + text[:4]
	}
	return "other"
}
