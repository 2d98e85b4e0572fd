package manage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/events"
	"appbind/secrets"
	"appbind/wire"
)

// told collects what a journal is told.
type told struct {
	mu   sync.Mutex // guards list
	list []events.Event
}

func (j *told) Emit(e events.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, e)
}

// take is what was told since the last call, without times, one line each.
func (j *told) take() (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.list {
		lines = append(lines, fmt.Sprintf("%s %s %s by %s: %s", e.Kind, strings.TrimSuffix(e.DN, ",ou=people,dc=example,dc=org"), e.Label, e.Actor, e.Reason))
	}
	j.list = nil
	return lines
}

var helpdesk = events.Actor{Name: "cn=helpdesk", Via: "ldap"}

// newToldRig is a rig whose manager has a journal.
func newToldRig(t *testing.T, controls string) (*rig, *told) {
	t.Helper()
	r, j := newRig(t, controls), &told{}
	r.WithJournal(j)
	return r, j
}

// TestJournal: what is done is told with who did it, once, when it is done; and what is refused.
func TestJournal(t *testing.T) {
	t.Parallel()
	for _, controls := range []string{controlAssertion, "1.2.3"} {
		r, j := newToldRig(t, controls)
		o := r.Managing().As(helpdesk)
		expect := func(what string, err error, want ...string) {
			t.Helper()
			if got := j.take(); !slices.Equal(got, want) {
				t.Errorf("%s (%v): told %q, want %q", what, err, got, want)
			}
		}
		made, err := o.Create(r.ctx(), r.alice(), Request{Label: "phone", Services: []string{"imap"}})
		if len(j.list) != 1 {
			t.Fatalf("%+v, %v", j.list, err)
		}
		e := j.list[0]
		if e.Entry != r.alice().Key || e.DN != aliceDN || e.ID != made.Value.ID || !e.Expires.Equal(made.Value.Expires) || !e.Time.Equal(noon) || e.Via != "ldap" || !slices.Equal(e.Services, []string{"imap"}) {
			t.Errorf("%+v", e)
		}
		expect("create", err, "issued uid=alice phone by cn=helpdesk: ")
		_, err = o.Create(r.ctx(), r.alice(), Request{Label: "Phone"})
		expect("create again", err, `refused uid=alice Phone by cn=helpdesk: `+err.Error())
		expect("relabel", o.Relabel(r.ctx(), aliceDN, Ref{Label: "phone"}, "tablet"), "changed uid=alice tablet by cn=helpdesk: ")
		if err := o.Rescope(r.ctx(), aliceDN, Ref{Label: "tablet"}, []string{"imap"}, nil); err != nil {
			t.Fatal(err)
		}
		expect("rescope to the same", nil)
		if err := o.Renew(r.ctx(), aliceDN, Ref{Label: "tablet"}, noon.Add(day), false); err != nil || !j.list[0].Expires.Equal(noon.Add(day)) || j.list[0].Entry != e.Entry {
			t.Errorf("renew: %v, %+v", err, j.list)
		}
		expect("renew", nil, "renewed uid=alice tablet by cn=helpdesk: ")
		expect("renew for ever", o.Renew(r.ctx(), aliceDN, Ref{Label: "tablet"}, noon.Add(3650*day), false),
			"refused uid=alice tablet by cn=helpdesk: an app password lives for 365 days at most; write exp=20270301120000Z or an earlier time")
		_, err = o.Revoke(r.ctx(), aliceDN, Ref{Label: "nothing"})
		expect("revoke nothing", err, "refused uid=alice nothing by cn=helpdesk: "+ErrNoSuchPassword.Error())
		_, err = o.Revoke(r.ctx(), aliceDN, Ref{Label: "tablet"})
		expect("revoke", err, "revoked uid=alice tablet by cn=helpdesk: ")
		_, err = o.Add(r.ctx(), aliceDN, [][]byte{[]byte("$app$one;exp=20260302000000Z$canary-in-clear"), []byte("$app$two$canary-in-clear-too")})
		expect("add", err, "issued uid=alice one by cn=helpdesk: ", "issued uid=alice two by cn=helpdesk: ")
		r.Manager.now = func() time.Time { return noon.Add(day) }
		_, err = o.RevokeAll(r.ctx(), aliceDN, func(*secrets.Value) bool { return true })
		expect("revoke all", err, "expired uid=alice one by cn=helpdesk: ", "revoked uid=alice two by cn=helpdesk: ")
		_, err = r.Managing().Revoke(r.ctx(), aliceDN, Ref{Label: "nothing"})
		expect("nobody's refusal", err)
	}
}

// TestJournalOfFailures: what the directory refuses is a refusal, without the directory's words, which may repeat what was
// written; what is not known to be done is not told as done; and an outage is no refusal.
func TestJournalOfFailures(t *testing.T) {
	t.Parallel()
	r, j := newToldRig(t, controlAssertion)
	o := r.Managing().As(helpdesk)
	r.script(func(c *fakeldap.Conn, m wire.Message) {
		c.Result(m.ID, wire.OpModifyResponse, wire.ResultConstraintViolation, "canary-repeated")
	})
	u := r.alice()
	if _, err := o.Create(r.ctx(), u, Request{Label: "phone"}); err == nil {
		t.Error("made")
	}
	if got, want := j.take(), []string{"refused uid=alice phone by cn=helpdesk: " + DeniedBy(wire.ResultConstraintViolation)}; !slices.Equal(got, want) {
		t.Errorf("told %q", got)
	}
	r.srv.Close()
	if _, err := o.Create(r.ctx(), u, Request{Label: "phone"}); err == nil {
		t.Error("made")
	}
	if got := j.take(); len(got) != 0 {
		t.Errorf("an outage: told %q", got)
	}
}

// guarded is a modify of a client as a Guarded.
func guarded(r *rig, mods ...Mod) *Guarded {
	return &Guarded{DN: aliceDN, Mods: mods, Build: func(mods []Mod) []byte {
		var list []modification
		for _, m := range mods {
			var values []string
			for _, v := range m.Values {
				values = append(values, string(v))
			}
			list = append(list, modification{m.Operation, r.attribute, values})
		}
		return modifyBody(aliceDN, list...)
	}}
}

// TestJournalOfClients: the modifies of clients are told as what they do, whoever may not write is a refusal,
// and another hash below the same label is another app password.
func TestJournalOfClients(t *testing.T) {
	t.Parallel()
	for _, controls := range []string{controlAssertion, "1.2.3"} {
		r, j := newToldRig(t, controls)
		modify := func(dn, password string, by events.Actor, mods ...Mod) []string {
			t.Helper()
			a, link, err := r.up.Bind(r.ctx(), dn, auth.Password(password), nil)
			if err != nil || a.Code != 0 {
				t.Fatal(a, err)
			}
			defer r.up.Release(link)
			_, _ = r.Through(link).As(by).Modify(r.ctx(), guarded(r, mods...)) // what is told is the test
			return j.take()
		}
		add, remove := func(v string) Mod { return Mod{Operation: ModAdd, Values: [][]byte{[]byte(v)}} }, func(v string) Mod { return Mod{Operation: ModDelete, Values: [][]byte{[]byte(v)}} }
		const canary = "canary-in-clear"
		for _, c := range []struct {
			name string
			mods []Mod
			want []string
		}{
			{"add", []Mod{add("$app$phone;exp=20260601000000Z$" + canary)}, []string{"issued uid=alice phone by cn=helpdesk: "}},
			{"another one of this label", []Mod{remove("$app$phone"), add("$app$phone;exp=20260601000000Z$" + canary + "2")},
				[]string{"revoked uid=alice phone by cn=helpdesk: ", "issued uid=alice phone by cn=helpdesk: "}},
			{"no form", []Mod{add(canary)}, []string{"refused uid=alice  by cn=helpdesk: not an app password: "}},
			{"a second factor", []Mod{add("otpauth://totp/x?secret=" + strings.Repeat("A", 32))}, nil},
			{"delete", []Mod{remove("$app$PHONE")}, []string{"revoked uid=alice phone by cn=helpdesk: "}},
		} {
			got := modify(writerDN, "writer-password", helpdesk, c.mods...)
			if len(got) != len(c.want) {
				t.Errorf("%s: told %q, want %q", c.name, got, c.want)
				continue
			}
			for i := range got {
				if !strings.HasPrefix(got[i], c.want[i]) || strings.Contains(got[i], "canary") {
					t.Errorf("%s: told %q, want %q", c.name, got, c.want)
				}
			}
		}
		reader := events.Actor{Name: "cn=reader"}
		if got := modify(readerDN, "reader-password", reader, add("$app$x$"+canary)); !slices.Equal(got, []string{"refused uid=alice  by cn=reader: " + DeniedBy(wire.ResultInsufficientAccessRights)}) {
			t.Errorf("who may not: told %q", got)
		}
		if got := modify(readerDN, "reader-password", events.Actor{}, add("$app$x$"+canary)); len(got) != 0 {
			t.Errorf("nobody: told %q", got)
		}
	}
}

// TestJournalOfOneWinner: of many writers at once each change is told by who made it.
func TestJournalOfOneWinner(t *testing.T) {
	t.Parallel()
	r, j := newToldRig(t, controlAssertion)
	if _, err := r.Managing().Create(r.ctx(), r.alice(), Request{Label: "phone"}); err != nil {
		t.Fatal(err)
	}
	j.take()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			_, _ = r.Managing().As(events.Actor{Name: fmt.Sprint(i)}).Revoke(context.Background(), aliceDN, Ref{Label: "phone"})
		})
	}
	wg.Wait()
	n := 0
	for _, l := range j.take() {
		if strings.HasPrefix(l, "revoked ") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("one revocation, told %d times", n)
	}
}
