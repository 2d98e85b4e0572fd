package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"appbind/auth"
	"appbind/backend"
	"appbind/history"
	"appbind/mail"
	"appbind/manage"
	"appbind/secrets"
)

// TestExpiredAreRemoved: 28 days after the expiry and not before, of everybody, and nothing else.
func TestExpiredAreRemoved(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "old="+in(-27*day), "older="+in(-29*day), "live="+in(100*day), "ever=")
		w.ldap.add("bob", "both="+in(-28*day+2*time.Hour))
		w.ldap.users[1].Eligible = false
		_, end := w.started(nil)
		defer end()
		pass(2 * time.Minute)
		if got := w.ldap.left("alice"); !slices.Equal(got, []string{"old", "live", "ever"}) {
			t.Errorf("alice has %q", got)
		}
		if got := w.ldap.left("bob"); !slices.Equal(got, []string{"both"}) {
			t.Errorf("bob has %q before the time", got)
		}
		if len(w.db.revoked) != 1 || w.db.revoked[0].ID != "01de" || w.db.revoked[0].Entry != "entryuuid:alice" {
			t.Errorf("%+v", w.db.revoked)
		}
		pass(3 * time.Hour)
		if got := w.ldap.left("bob"); len(got) != 0 {
			t.Errorf("bob has %q", got)
		}
		pass(day)
		if got := w.ldap.left("alice"); !slices.Equal(got, []string{"live", "ever"}) {
			t.Errorf("alice has %q", got)
		}
		st := w.counts.Stats()
		if st.Removed["removed"] != 3 || st.Jobs[0].Last.IsZero() || st.Jobs[0].Runs["succeeded"] < 27 || st.Jobs[0].Runs["failed"] != 0 {
			t.Errorf("%+v", st)
		}
		if got := w.events.of("expired"); !slices.Equal(got, []string{"uid=alice older", "uid=bob both", "uid=alice old"}) {
			t.Errorf("%q", got)
		}
	})
}

// TestRenewedMeanwhile: what is removed is judged on what the entry holds then.
func TestRenewedMeanwhile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(-29*day))
		w.ldap.onRemove = func(string) {
			w.ldap.mu.Lock()
			defer w.ldap.mu.Unlock()
			w.ldap.users[0].Set = &manage.Set{}
			w.ldap.give("alice", "phone="+in(300*day))
		}
		if err := w.runner(nil).Do(t.Context(), RemoveExpired, func(i Item) { t.Errorf("%+v", i) }); err != nil {
			t.Error(err)
		}
		if got := w.ldap.left("alice"); len(got) != 1 {
			t.Errorf("%q", got)
		}
	})
}

// TestMailOnce: one mail for each app password, 14 days before, whatever happens between and however often is looked.
func TestMailOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(15*day), "table="+in(15*day), "later="+in(20*day), "ever=", "gone="+in(-15*day))
		w.ldap.add("bob", "bobs="+in(300*day))
		_, end := w.started(nil)
		pass(day - time.Minute)
		if got := w.post.to(); len(got) != 0 {
			t.Errorf("mails on day 15: %q", got)
		}
		pass(time.Hour + 2*time.Minute)
		if got := w.post.to(); !slices.Equal(got, []string{"alice@example.org"}) {
			t.Fatalf("mails on day 14: %q", got)
		}
		for _, text := range []string{w.post.mails[0].Content.Text, w.post.mails[0].Content.HTML} {
			if !strings.Contains(text, "phone") || !strings.Contains(text, "table") || strings.Contains(text, "later") || !strings.Contains(text, "Hello ALICE") {
				t.Errorf("the mail:\n%s", text)
			}
		}
		end()
		_, end = w.started(nil) // appbind is started anew
		pass(6 * day)
		if got := w.post.to(); len(got) != 2 || !strings.Contains(w.post.mails[1].Content.Text, "later") || strings.Contains(w.post.mails[1].Content.Text, "phone") {
			t.Errorf("%q", got)
		}
		pass(30 * day)
		if got := w.post.to(); len(got) != 2 {
			t.Errorf("%q", got)
		}
		pass(60 * day)
		end()
		if len(w.db.notices) != 0 {
			t.Errorf("not forgotten: %v", w.db.notices)
		}
		if st := w.counts.Stats(); st.Mails["sent"] != 2 || st.Mails["failed"] != 0 {
			t.Errorf("%+v", st)
		}
		if got := w.events.of("expiring"); !slices.Equal(got, []string{"uid=alice phone", "uid=alice table", "uid=alice later"}) {
			t.Errorf("%q", got)
		}
	})
}

// TestCatchUp: after a time without appbind the mails come late; the text says what has expired. What expired too long ago is not told.
func TestCatchUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "soon="+in(3*day))
		w.ldap.add("bob", "over="+in(-3*day))
		w.ldap.add("carol", "long="+in(-14*day))
		_, end := w.started(nil)
		defer end()
		pass(2 * time.Minute)
		if got := w.post.to(); !slices.Equal(got, []string{"alice@example.org", "bob@example.org"}) {
			t.Fatalf("%q", got)
		}
		if m := w.post.mails[1].Content; m.Subject != "An app password of yours has expired" || !strings.Contains(m.Text, "has expired on 29 December 1999") {
			t.Errorf("%+v", m)
		}
	})
}

// TestShortLives: no mail with the first breath, and none about what lives for hours.
func TestShortLives(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "week="+in(7*day)+"="+in(0), "hour="+in(47*time.Hour)+"="+in(0))
		_, end := w.started(nil)
		defer end()
		pass(3*day + 11*time.Hour)
		if got := w.post.to(); len(got) != 0 {
			t.Errorf("too early: %q", got)
		}
		pass(2 * time.Hour)
		if got := w.post.to(); len(got) != 1 || strings.Contains(w.post.mails[0].Content.Text, "hour") {
			t.Errorf("%q", got)
		}
	})
}

// TestRenewedIsAnother: a renewed app password gets a mail before its new expiry.
func TestRenewedIsAnother(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day))
		r := w.runner(nil)
		for range 2 {
			if err := r.Do(t.Context(), Notify, func(Item) {}); err != nil {
				t.Fatal(err)
			}
		}
		w.ldap.users[0].Set = &manage.Set{}
		w.ldap.give("alice", "phone="+in(11*day))
		if err := r.Do(t.Context(), Notify, func(Item) {}); err != nil || len(w.post.mails) != 2 || w.post.mails[0].ID == w.post.mails[1].ID {
			t.Errorf("%v, %v", w.post.mails, err)
		}
	})
}

// TestWhoGetsNone: disabled users, unusable values, users without an address, who get theirs when they have one.
func TestWhoGetsNone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day))
		w.ldap.add("bob", "phone="+in(10*day))
		w.ldap.users[0].Eligible = false
		w.ldap.people["uid=bob"] = person{}
		w.ldap.add("carol")
		w.ldap.users[2].Set.Values = append(w.ldap.users[2].Set.Values, secrets.Parse([]byte("$app$x;exp="+in(day)+";bad=1$"+canary)), secrets.Parse([]byte("otpauth://totp/a?secret=JBSWY3DPEHPK3PXP")))
		w.ldap.add("dave", "phone="+in(10*day))
		delete(w.ldap.people, "uid=dave") // deleted meanwhile
		r := w.runner(nil)
		var got []string
		note := func(i Item) { got = append(got, i.User+" "+i.Outcome) }
		if err := r.Do(t.Context(), Notify, note); err != nil || !slices.Equal(got, []string{"uid=bob " + NoAddress}) {
			t.Errorf("%q, %v", got, err)
		}
		w.ldap.people["uid=bob"] = person{Address: "bob@example.org", Language: "de"}
		w.ldap.users[0].Eligible = true
		if err := r.Do(t.Context(), Notify, note); err != nil || !slices.Equal(w.post.to(), []string{"alice@example.org", "bob@example.org"}) {
			t.Errorf("%q, %v", w.post.to(), err)
		}
		if w.post.mails[1].Content.Language != "de" {
			t.Errorf("%+v", w.post.mails[1])
		}
	})
}

// TestMailServerDown: nothing is lost and nothing is sent twice; the job is tried again after minutes, and the log has one line.
func TestMailServerDown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 10 {
			w.ldap.add(fmt.Sprint("user", i), "phone="+in(10*day))
		}
		asked := 0
		w.post.set(func(*mail.Message) error { asked++; return fmt.Errorf("%w: connection refused", mail.ErrServer) })
		_, end := w.started(nil)
		defer end()
		pass(day)
		if asked < 200 || asked > 300 || len(w.post.to()) != 0 {
			t.Errorf("asked %d times in a day, %q", asked, w.post.to())
		}
		if n := strings.Count(w.log.String(), "a job failed"); n != 1 {
			t.Errorf("%d lines:\n%s", n, w.log)
		}
		w.post.set(nil)
		pass(10 * time.Minute)
		if got := w.post.to(); len(got) != 10 {
			t.Errorf("%q", got)
		}
		if !strings.Contains(w.log.String(), "a job succeeds again") {
			t.Errorf("the log:\n%s", w.log)
		}
		pass(day)
		if got := w.post.to(); len(got) != 10 {
			t.Errorf("%q", got)
		}
	})
}

// TestRefusedMail: one user's address holds up nobody else, and is tried once a day.
func TestRefusedMail(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, name := range []string{"alice", "bob", "carol", "dave", "erin"} {
			w.ldap.add(name, "phone="+in(10*day))
		}
		asked := map[string]int{}
		w.post.set(func(m *mail.Message) error {
			asked[m.To]++
			switch m.To {
			case "alice@example.org", "bob@example.org", "carol@example.org":
				return &mail.Refused{Code: 550, Text: "no such user", Permanent: true}
			case "dave@example.org":
				if asked[m.To] < 3 {
					return &mail.Refused{Code: 451, Text: "greylisted"}
				}
			}
			return nil
		})
		_, end := w.started(nil)
		defer end()
		pass(23 * time.Hour)
		if got := w.post.to(); !slices.Equal(got, []string{"erin@example.org", "dave@example.org"}) || asked["alice@example.org"] != 1 || asked["dave@example.org"] != 3 {
			t.Errorf("%q, %v", got, asked)
		}
		pass(2 * day)
		if asked["alice@example.org"] != 3 || w.counts.Stats().Jobs[1].Runs["failed"] != 0 {
			t.Errorf("%v", asked)
		}
	})
}

// TestCrashes: appbind dies after the mail server has the mail and before that is noted. Once: the mail comes twice, with
// one Message-ID. Again and again: three times, an hour apart, then it is given up and said.
func TestCrashes(t *testing.T) {
	for crashes := range 6 {
		t.Run(fmt.Sprint(crashes), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.ldap.add("alice", "phone="+in(10*day))
				left := crashes
				var dying *Runner
				w.post.set(func(*mail.Message) error {
					if left > 0 {
						left--
						w.db.set("settle", errDown) // nothing that it does after this counts
						w.db.set("end", errDown)
						dying.stop()
					}
					return nil
				})
				for range 8 {
					r, end := w.started(nil)
					dying = r
					pass(2 * time.Hour)
					end()
					w.db.set("settle", nil)
					w.db.set("end", nil)
				}
				want := min(crashes+1, maxTries)
				if got := len(w.post.to()); got != want {
					t.Errorf("%d mails, want %d", got, want)
				}
				for _, m := range w.post.mails {
					if m.ID != w.post.mails[0].ID {
						t.Errorf("another Message-ID: %s", m.ID)
					}
				}
				if gaveUp := w.counts.Stats().Mails["given up"] == 1; gaveUp != (crashes >= maxTries) || gaveUp != strings.Contains(w.log.String(), "are given up") {
					t.Errorf("given up: %v\n%s", gaveUp, w.log)
				}
			})
		})
	}
}

// TestUncertainMail: the server did not say whether it has the mail.
func TestUncertainMail(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day))
		w.ldap.add("bob", "phone="+in(10*day))
		first := true
		w.post.set(func(m *mail.Message) error {
			if first {
				first = false
				return fmt.Errorf("%w: EOF", mail.ErrUncertain)
			}
			return nil
		})
		_, end := w.started(nil)
		defer end()
		pass(59 * time.Minute)
		if got := w.post.to(); !slices.Equal(got, []string{"alice@example.org", "bob@example.org"}) {
			t.Errorf("%q", got)
		}
		pass(day)
		if got := w.post.to(); !slices.Equal(got, []string{"alice@example.org", "bob@example.org", "alice@example.org"}) {
			t.Errorf("%q", got)
		}
	})
}

// TestOneInstance: of three instances one does each job, each time; when it dies another one goes on within minutes.
func TestOneInstance(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var ends []func()
		for range 3 {
			_, end := w.started(nil)
			ends = append(ends, end)
		}
		pass(day)
		if n := len(w.db.purges); n < 23 || n > 25 {
			t.Errorf("purged %d times in a day", n)
		}
		for _, at := range w.db.purges[1:] {
			if !at.After(w.db.purges[0]) {
				t.Errorf("two at a time: %v", w.db.purges)
			}
		}
		// An instance took the lease and died.
		w.db.mu.Lock()
		w.db.leases[PurgeHistory].due = time.Time{}
		w.db.mu.Unlock()
		if _, err := w.db.Acquire(t.Context(), PurgeHistory, "the dead", leaseTime, false); err != nil {
			t.Fatal(err)
		}
		before := len(w.db.purges)
		pass(leaseTime - time.Second)
		if len(w.db.purges) != before {
			t.Error("the lease of another one was not minded")
		}
		pass(pollEvery + 2*time.Second)
		if len(w.db.purges) != before+1 {
			t.Errorf("purged %d times", len(w.db.purges)-before)
		}
		for _, end := range ends {
			end()
		}
	})
}

// TestLeaseLost: an instance that was taken for dead in the middle of a job stops at the next user, and sends nothing more.
func TestLeaseLost(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 5 {
			w.ldap.add(fmt.Sprint("user", i), "phone="+in(10*day), "old="+in(-30*day))
		}
		// The store forgets the holder, as when another one took over.
		takeOver := func(job string) {
			w.db.mu.Lock()
			defer w.db.mu.Unlock()
			w.db.leases[job].lease.Owner = "another"
		}
		w.post.set(func(*mail.Message) error { takeOver(Notify); return nil })
		r := w.runner(nil)
		if err := r.Do(t.Context(), Notify, func(Item) {}); !errors.Is(err, history.ErrLost) || len(w.post.to()) != 1 {
			t.Errorf("%v, %q", err, w.post.to())
		}
		if st := w.db.notices[history.Notice{Entry: "entryuuid:user0", Ident: "ph0n", Expires: w.ldap.users[0].Set.Values[0].Expires}.Key()]; st == nil || !st.Done {
			t.Errorf("the mail that was sent is not noted: %+v", st)
		}
		// In the directory, and noticed by nobody but the renewal.
		removed := 0
		w.ldap.onRemove = func(string) {
			if removed++; removed == 2 {
				takeOver(RemoveExpired)
				pass(renewEvery + time.Second)
			}
		}
		if err := r.Do(t.Context(), RemoveExpired, func(Item) {}); !errors.Is(err, history.ErrLost) || removed != 2 {
			t.Errorf("%v, %d users", err, removed)
		}
		if st := w.counts.Stats(); st.Jobs[0].Runs["lost"] != 1 || st.Jobs[1].Runs["lost"]+st.Jobs[1].Runs["failed"] != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// TestStoreStopsMidway: when the store no longer answers, the job stops before its lease ends.
func TestStoreStopsMidway(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 5 {
			w.ldap.add(fmt.Sprint("user", i), "old="+in(-30*day))
		}
		removed := 0
		begun := time.Now()
		w.ldap.onRemove = func(string) {
			removed++
			w.db.set("", errDown)
			pass(30 * time.Second)
		}
		err := w.runner(nil).Do(t.Context(), RemoveExpired, func(Item) {})
		if !errors.Is(err, history.ErrLost) || removed != 2 || time.Since(begun) > leaseTime {
			t.Errorf("%v, %d users, %v", err, removed, time.Since(begun))
		}
		w.db.set("", nil)
	})
}

// TestLongJob: a lease is kept for as long as the job takes.
func TestLongJob(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 5 {
			w.ldap.add(fmt.Sprint("user", i), "old="+in(-30*day))
		}
		w.ldap.onRemove = func(string) { pass(10 * time.Minute) }
		done := make(chan error)
		go func() { done <- w.runner(nil).Do(t.Context(), RemoveExpired, func(Item) {}) }()
		pass(15 * time.Minute)
		if err := w.runner(nil).Do(t.Context(), RemoveExpired, func(Item) {}); !errors.Is(err, history.ErrHeld) {
			t.Errorf("a second one: %v", err)
		}
		if err := <-done; err != nil || len(w.ldap.left("user4")) != 0 {
			t.Error(err)
		}
	})
}

// TestStoreDown: without the store nothing is done, and nothing is logged twice; when it is back, everything is made up for.
func TestStoreDown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day), "old="+in(-30*day))
		w.db.set("", errDown)
		_, end := w.started(nil)
		defer end()
		pass(day)
		if len(w.post.to()) != 0 || len(w.ldap.left("alice")) != 2 {
			t.Errorf("%q, %q", w.post.to(), w.ldap.left("alice"))
		}
		if n := strings.Count(w.log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings:\n%s", n, w.log)
		}
		w.db.set("", nil)
		pass(2 * time.Minute)
		if len(w.post.to()) != 1 || len(w.ldap.left("alice")) != 1 || len(w.db.purges) != 1 {
			t.Errorf("%q, %q", w.post.to(), w.ldap.left("alice"))
		}
	})
}

// TestDirectoryDown: nothing is removed, nobody gets a mail; the history is purged all the same.
func TestDirectoryDown(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day), "old="+in(-30*day))
		w.ldap.set(backend.ErrUnavailable)
		_, end := w.started(nil)
		defer end()
		pass(2 * time.Hour)
		if st := w.counts.Stats(); len(w.db.purges) != 2 || st.Jobs[0].Runs["succeeded"] != 0 || st.Jobs[0].Runs["failed"] < 20 || !st.Jobs[0].Last.IsZero() {
			t.Errorf("%d purges, %+v", len(w.db.purges), st)
		}
		if n := strings.Count(w.log.String(), "level=WARN"); n != 2 {
			t.Errorf("%d warnings:\n%s", n, w.log)
		}
		w.ldap.set(nil)
		pass(6 * time.Minute)
		if len(w.post.to()) != 1 || len(w.ldap.left("alice")) != 1 {
			t.Errorf("%q, %q", w.post.to(), w.ldap.left("alice"))
		}
	})
}

// TestRefusedChanges: one entry that cannot be written holds up nobody else; when none can be, the job does not try them all.
func TestRefusedChanges(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 10 {
			w.ldap.add(fmt.Sprint("user", i), "old="+in(-30*day))
		}
		w.ldap.refuses["uid=user1"] = &manage.Refused{Code: 50}
		w.ldap.refuses["uid=user3"] = auth.ErrNotFound
		var failed []string
		err := w.runner(nil).Do(t.Context(), RemoveExpired, func(i Item) {
			if i.Err != nil {
				failed = append(failed, i.User)
			}
		})
		refused, is := errors.AsType[*manage.Refused](err)
		if !is || refused.Code != 50 || !slices.Equal(failed, []string{"uid=user1"}) || w.counts.Stats().Removed["removed"] != 8 {
			t.Errorf("%v, %q, %+v", err, failed, w.counts.Stats())
		}
		tried := 0
		w.ldap.onRemove = func(string) { tried++ }
		for i := range 10 {
			name := fmt.Sprint("user", i)
			w.ldap.refuses["uid="+name] = &manage.Refused{Code: 50}
			w.ldap.give(name, "more="+in(-30*day))
		}
		if err := w.runner(nil).Do(t.Context(), RemoveExpired, func(Item) {}); err == nil || tried != maxTroubles {
			t.Errorf("%v, %d tried", err, tried)
		}
	})
}

// TestClocks: a clock that is wrong by minutes removes nothing.
func TestClocks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "old="+in(-30*day))
		for _, ahead := range []time.Duration{-6 * time.Minute, 6 * time.Minute, -365 * day} {
			w.db.ahead = ahead
			if err := w.runner(nil).Do(t.Context(), RemoveExpired, func(Item) {}); !errors.Is(err, ErrClock) || len(w.ldap.left("alice")) != 1 {
				t.Errorf("%v: %v", ahead, err)
			}
		}
		w.db.ahead = 4 * time.Minute
		if err := w.runner(nil).Do(t.Context(), RemoveExpired, func(Item) {}); err != nil {
			t.Error(err)
		}
	})
}

// TestOff: each job can be off, and all of them.
func TestOff(t *testing.T) {
	for _, off := range [][]string{{RemoveExpired}, {Notify}, {PurgeHistory}, Names()} {
		t.Run(strings.Join(off, ","), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.ldap.add("alice", "phone="+in(10*day), "old="+in(-30*day))
				for _, name := range off {
					w.off[name] = true
				}
				_, end := w.started(nil)
				defer end()
				pass(day)
				did := map[string]bool{RemoveExpired: len(w.ldap.left("alice")) == 1, Notify: len(w.post.to()) == 1, PurgeHistory: len(w.db.purges) > 0}
				for _, name := range Names() {
					if did[name] == slices.Contains(off, name) {
						t.Errorf("%s: done is %v", name, did[name])
					}
				}
			})
		})
	}
}

// TestNoStore: without a history expired app passwords are removed, and that is all.
func TestNoStore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day), "old="+in(-30*day))
		without := func(o *options) { o.open = nil }
		_, end := w.started(without)
		pass(2 * time.Minute)
		end()
		if len(w.post.to()) != 0 || !slices.Equal(w.ldap.left("alice"), []string{"phone"}) {
			t.Errorf("%q, %q", w.post.to(), w.ldap.left("alice"))
		}
		if st := w.counts.Stats().Jobs[0]; st.Last.IsZero() || st.Runs["succeeded"] != 1 {
			t.Errorf("%+v", st)
		}
		r := w.runner(without)
		for _, name := range []string{Notify, PurgeHistory} {
			if err := r.Do(t.Context(), name, func(Item) {}); !errors.Is(err, ErrNoStore) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := r.Look(t.Context(), Notify, func(Item) {}); !errors.Is(err, ErrNoStore) {
			t.Error(err)
		}
		r.mail = nil
		if err := errors.Join(r.Look(t.Context(), Notify, func(Item) {}), r.Sample(t.Context(), "a@b", "")); !errors.Is(err, ErrNoServer) {
			t.Error(err)
		}
	})
}

// TestEventsWithoutMail: who has a webhook and no mail server is told too, once.
func TestEventsWithoutMail(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day))
		_, end := w.started(func(o *options) { o.mail = nil })
		defer end()
		pass(2 * day)
		if got := w.events.of("expiring"); !slices.Equal(got, []string{"uid=alice phone"}) || len(w.events.of("purged")) < 40 {
			t.Errorf("%q", w.events)
		}
	})
}

// TestLook: what would be done, and nothing is.
func TestLook(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day), "old="+in(-30*day))
		w.ldap.add("bob", "phone="+in(10*day))
		w.ldap.people["uid=bob"] = person{}
		r := w.runner(nil)
		for range 2 {
			var got []string
			for _, name := range Names() {
				if err := r.Look(t.Context(), name, func(i Item) { got = append(got, strings.Join([]string{i.User, i.Label, i.Address, i.Outcome}, " ")) }); err != nil {
					t.Fatal(err)
				}
			}
			want := []string{"uid=alice old  planned", "uid=alice phone alice@example.org planned", "uid=bob phone  no address"}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if len(w.db.notices) != 0 || len(w.db.leases) != 0 || len(w.ldap.left("alice")) != 2 || len(w.post.to()) != 0 {
			t.Error("something was done")
		}
		if err := r.Sample(t.Context(), "postmaster@example.org", "de"); err != nil || w.post.mails[0].Content.Language != "de" {
			t.Error(err)
		}
	})
}

// TestCloseWaits: the mail under way is finished; what does not end is given up.
func TestCloseWaits(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "phone="+in(10*day))
		w.ldap.add("bob", "phone="+in(10*day))
		sending := make(chan struct{})
		w.post.set(func(*mail.Message) error {
			close(sending)
			pass(5 * time.Second)
			return nil
		})
		r, _ := w.started(nil)
		<-sending
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r.Close(ctx)
		if got := w.post.to(); !slices.Equal(got, []string{"alice@example.org"}) || ctx.Err() != nil {
			t.Errorf("%q, %v", got, ctx.Err())
		}
		for n, st := range w.db.notices {
			if n.Ident == "ph0n" && !st.Done {
				t.Errorf("%v is not noted", n)
			}
		}
		w.runner(nil).Close(ctx) // never started
		if strings.Contains(w.log.String(), "a job failed") {
			t.Errorf("the log:\n%s", w.log)
		}
	})
}

// TestPanicInJob: our own bug ends the job, not the process.
func TestPanicInJob(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.ldap.add("alice", "old="+in(-30*day))
		w.ldap.onRemove = func(string) { panic("canary " + canary) }
		_, end := w.started(nil)
		defer end()
		pass(2 * time.Minute)
		if w.counts.Stats().Panics == 0 || w.counts.Stats().Jobs[0].Runs["failed"] == 0 || len(w.db.purges) != 1 {
			t.Errorf("%+v", w.counts.Stats())
		}
		synctest.Wait()
	})
}
