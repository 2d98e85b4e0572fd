package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"appbind/auth"
	"appbind/backend/fakeldap"
	"appbind/config"
	"appbind/wire"
)

// crowd is a directory with n users u0 to un-1; every tenth is disabled. Its root DSE names what it offers.
func crowd(n int, offers ...string) *fakeldap.Directory {
	d := fakeldap.NewDirectory()
	root := []string{"objectClass", "top"}
	for _, oid := range offers {
		root = append(root, "supportedControl", oid)
	}
	d.Add("", "", root...)
	d.Add("dc=example,dc=org", "", "objectClass", "domain")
	d.Add(people, "", "objectClass", "organizationalUnit")
	d.Add(serviceDN, "servicepw", "objectClass", "applicationProcess")
	for i := range n {
		state := "active"
		if i%10 == 0 {
			state = "disabled"
		}
		name := fmt.Sprintf("u%d", i)
		d.Add("uid="+name+","+people, "", "objectClass", "person", "uid", name, "entryUUID", fmt.Sprintf("%08d", i), "state", state, "appPassword", "$app$"+name+"$h")
	}
	return d
}

// crowded is an upstream of servers, with an enabled filter.
func crowded(t *testing.T, servers ...*fakeldap.Server) *Upstream {
	t.Helper()
	var urls []config.URL
	for _, s := range servers {
		urls = append(urls, urlOf(s))
	}
	cfg := testConfig(urls...)
	cfg.Users.EnabledFilter = "(!(state=disabled))"
	return upstream(t, cfg)
}

// everybody lists, and checks that each user came once.
func everybody(t *testing.T, u *Upstream) (list []*auth.Entry, err error) {
	t.Helper()
	keys := map[string]bool{}
	err = u.EachUser(testContext(t, soon), nil, func(e *auth.Entry) error {
		if keys[e.Key] {
			t.Errorf("%s twice", e.DN)
		}
		keys[e.Key] = true
		list = append(list, e)
		return nil
	})
	return list, err
}

// isSearch reports whether a message is a search for users, and its cookie where it asks for a page.
func isSearch(m wire.Message) (cookie string, is bool) {
	if m.Op != wire.OpSearchRequest {
		return "", false
	}
	s, err := wire.DecodeSearch(m.Body)
	if err != nil || s.Scope != wire.ScopeWhole {
		return "", false
	}
	b, _ := pageCookie(m.Controls)
	return string(b), true
}

// TestEachUserPages: more users than the directory answers at once, one page at a time, on a link that is closed afterwards.
func TestEachUserPages(t *testing.T) {
	d := crowd(1201, oidPaged)
	d.SetLimit(pageSize)
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	u := crowded(t, s)
	before := s.Accepted()
	list, err := everybody(t, u)
	if err != nil || len(list) != 1201 {
		t.Fatalf("%d users, %v", len(list), err)
	}
	for _, e := range list {
		if off := strings.HasSuffix(strings.SplitN(e.DN, ",", 2)[0], "0"); e.Eligible == off || len(e.Values) != 1 || !e.User {
			t.Errorf("%+v", e)
		}
	}
	if n := s.Accepted() - before; n != 1 {
		t.Errorf("%d links for one list", n)
	}
	// What was given is not kept, and nothing is read ahead of it.
	asked, given := 0, 0
	err = u.EachUser(testContext(t, soon), nil, func(*auth.Entry) error {
		if given++; given%pageSize == 1 {
			asked = pages(s)
		} else if n := pages(s); n != asked {
			t.Fatalf("page %d was asked for while user %d of the one before was given", n-asked, given)
		}
		return nil
	})
	if err != nil || given != 1201 {
		t.Errorf("%d, %v", given, err)
	}
	if c, err := u.Count(testContext(t, soon)); err != nil || c != (Counts{Users: 1201, Eligible: 1080, Readable: 1080}) {
		t.Errorf("%+v, %v", c, err)
	}
	errEnough := errors.New("enough")
	if err := u.EachUser(testContext(t, soon), nil, func(*auth.Entry) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Error(err)
	}
	until(t, "the links are closed", soon, func() bool { return s.Open() <= before })
}

// pages is how many searches for users a server has got.
func pages(s *fakeldap.Server) (n int) {
	for _, f := range s.Frames() {
		if _, is := isSearch(f.Message); is {
			n++
		}
	}
	return n
}

// TestEachUserWithoutPages: a directory without the control, and such that refuse it, are asked for all at once; what they cut short is an error.
func TestEachUserWithoutPages(t *testing.T) {
	for name, c := range map[string]struct {
		offers  []string
		refusal int32
		limit   int
		want    int
		says    string
	}{
		"no control":              {want: 601},
		"no control, and a limit": {limit: 500, says: "size and time limits for upstream.bind_dn"},
		"disabled for us":         {offers: []string{oidPaged}, refusal: wire.ResultAdminLimitExceeded, want: 601},
		"not for searches":        {offers: []string{oidPaged}, refusal: wire.ResultUnavailableCriticalExtension, want: 601},
		"refused, and a limit":    {offers: []string{oidPaged}, refusal: wire.ResultUnwillingToPerform, limit: 500, says: "result 4"},
		"not allowed at all":      {offers: []string{oidPaged}, refusal: wire.ResultInsufficientAccessRights, says: "result 50"},
	} {
		t.Run(name, func(t *testing.T) {
			d := crowd(601, c.offers...)
			d.SetLimit(c.limit)
			u := crowded(t, fake(t, fakeldap.Options{Handler: func(conn *fakeldap.Conn, m wire.Message) {
				if _, is := isSearch(m); is && c.refusal != 0 && m.Controls != nil {
					conn.Answer(m, c.refusal)
					return
				}
				d.Handle(conn, m)
			}}))
			list, err := everybody(t, u)
			counts, e := u.Count(testContext(t, soon))
			switch {
			case c.says == "":
				if err != nil || len(list) != c.want || e != nil || counts.Users != c.want || counts.Limit != nil {
					t.Errorf("%d, %v; %+v, %v", len(list), err, counts, e)
				}
			case err == nil || !strings.Contains(err.Error(), c.says) || len(list) != 0 || errors.Is(err, ErrUnavailable):
				t.Errorf("%d, %v", len(list), err)
			case CutShort(err) != (c.limit > 0), CutShort(err) && (e != nil || !CutShort(counts.Limit)), !CutShort(err) && e == nil:
				t.Errorf("%v; %+v, %v", err, counts, e)
			}
		})
	}
}

// TestEachUserBreaks: a list that breaks off is an error and never a shorter list; one of which nothing was
// given yet is read from the next server.
func TestEachUserBreaks(t *testing.T) {
	for name, c := range map[string]struct {
		at   string // the cookie of the page that is not answered
		only bool   // in the second search, for all
		how  func(c *fakeldap.Conn, m wire.Message)
		ok   bool
		says string
	}{
		"at once":                {how: func(c *fakeldap.Conn, _ wire.Message) { c.Close() }, ok: true},
		"busy":                   {how: func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, wire.ResultBusy) }, ok: true},
		"while it asks who":      {at: "500", how: func(c *fakeldap.Conn, _ wire.Message) { c.Reset() }, ok: true},
		"after a page":           {at: "500", only: true, how: func(c *fakeldap.Conn, _ wire.Message) { c.Close() }, says: "broke off after 500"},
		"a limit after two":      {at: "1000", only: true, how: func(c *fakeldap.Conn, m wire.Message) { c.Answer(m, wire.ResultSizeLimitExceeded) }, says: "result 4"},
		"the same page for ever": {at: "1000", only: true, how: emptyPage, says: "an empty page again and again"},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := crowd(1201, oidPaged), crowd(1201, oidPaged)
			var struck atomic.Bool
			bad := fake(t, fakeldap.Options{Handler: func(conn *fakeldap.Conn, m wire.Message) {
				cookie, is := isSearch(m)
				if s, err := wire.DecodeSearch(m.Body); is && err == nil && cookie == c.at && (!c.only || strings.Contains(string(s.Attributes), "appPassword")) {
					struck.Store(true)
					c.how(conn, m)
					return
				}
				one.Handle(conn, m)
			}})
			u := crowded(t, bad, fake(t, fakeldap.Options{Handler: two.Handle}))
			list, err := everybody(t, u)
			switch {
			case !struck.Load():
				t.Error("nothing broke")
			case c.ok && (err != nil || len(list) != 1201):
				t.Errorf("%d, %v", len(list), err)
			case !c.ok && (err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, ErrUnavailable) == CutShort(err)):
				t.Errorf("%d, %v", len(list), err)
			}
		})
	}
}

// emptyPage answers with no entry and the cookie of the request.
func emptyPage(c *fakeldap.Conn, m wire.Message) {
	cookie, _ := isSearch(m)
	controls := wire.AppendControl(nil, oidPaged, false, pagedValue(0, []byte(cookie)))
	var r wire.Result
	c.Write(wire.AppendMessage(nil, m.ID, wire.OpSearchResultDone, r.Append(nil), controls))
}

// TestEachUserEnds with its context, though the directory says nothing.
func TestEachUserEnds(t *testing.T) {
	d := crowd(600, oidPaged)
	ctx, cancel := context.WithCancel(context.Background())
	u := crowded(t, fake(t, fakeldap.Options{Handler: func(conn *fakeldap.Conn, m wire.Message) {
		if cookie, _ := isSearch(m); cookie != "" {
			cancel()
			return
		}
		d.Handle(conn, m)
	}}))
	if err := u.EachUser(ctx, nil, func(*auth.Entry) error { return nil }); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

// TestEachUserAtOnce: so many lists at a time, and no more links; the others wait for their turn, or for as long as they may.
func TestEachUserAtOnce(t *testing.T) {
	d := crowd(10, oidPaged)
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	u := crowded(t, s)
	base := s.Open()
	var inside sync.WaitGroup
	inside.Add(maxLists)
	hold := make(chan struct{})
	var all sync.WaitGroup
	for range maxLists {
		all.Go(func() {
			first := true
			err := u.EachUser(testContext(t, soon), nil, func(*auth.Entry) error {
				if first {
					first = false
					inside.Done()
					<-hold
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	inside.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := u.EachUser(ctx, nil, func(*auth.Entry) error { return nil })
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "other lists") || s.Open() > base+maxLists {
		t.Errorf("%v, %d links", err, s.Open()-base)
	}
	close(hold)
	all.Wait()
	if list, err := everybody(t, u); err != nil || len(list) != 10 {
		t.Errorf("%d, %v", len(list), err)
	}
}

// TestEachUserBases: who is below two bases is listed once, whichever way they are spelled; so is who was renamed meanwhile.
func TestEachUserBases(t *testing.T) {
	d := crowd(20, oidPaged)
	d.Add("uid=renamed,"+people, "", "objectClass", "person", "uid", "renamed", "entryUUID", "00000001")
	s := fake(t, fakeldap.Options{Handler: d.Handle})
	cfg := testConfig(urlOf(s))
	cfg.Users.Bases = []string{people, "OU=People, dc=example,dc=org", "dc=example,dc=org", "dc=example,dc=org"}
	u := upstream(t, cfg)
	list, err := everybody(t, u)
	if err != nil || len(list) != 20 || !slices.Equal(u.lookup.outer, []string{"dc=example,dc=org"}) {
		t.Errorf("%d, %v, %q", len(list), err, u.lookup.outer)
	}
	if n := pages(s); n != 1 {
		t.Errorf("%d searches, though nobody can be disabled", n)
	}
	for _, e := range list {
		if !e.Eligible {
			t.Errorf("%+v", e)
		}
	}
}
