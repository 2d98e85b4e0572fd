package backend

import (
	"errors"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/config"
)

// TestStats: links and requests are counted by kind, and a reload goes on with the counts.
func TestStats(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	cfg := testConfig(urlOf(s))
	u := upstream(t, cfg)
	ctx := testContext(t, 10*time.Second)
	if err := u.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	l, err := u.BindLink(ctx)
	if err != nil {
		t.Fatal(err)
	}
	st := u.Stats().Servers[0]
	if !st.Up || st.Name != "ldap://"+s.Addr() || st.Links["client"] != 1 || st.Links["idle"] != 0 || st.Links["service"] < 1 || st.Requests["search"] == 0 {
		t.Errorf("%+v", st)
	}
	searches := st.Requests["search"]
	next := unstarted(t, cfg)
	next.Continue(u)
	if st := next.Stats().Servers[0]; st.Links["client"] != 1 || st.Requests["search"] != searches {
		t.Errorf("the next one begins with %+v", st)
	}
	u.Release(l)
	if st := u.Stats().Servers[0]; st.Links["client"] != 0 || st.Links["idle"] != 1 {
		t.Errorf("released: %+v", st)
	}
	u.Close()
	if st := next.Stats().Servers[0]; st.Links["client"] != 0 || st.Links["service"] != 0 || st.Lost != 0 {
		t.Errorf("closed: %+v", st)
	}
}

// TestPing tells who is to blame.
func TestPing(t *testing.T) {
	s := fake(t, fakeldap.Options{Handler: directory().Handle})
	wrong := testConfig(urlOf(s))
	wrong.Upstream.BindPassword = "wrong"
	u := upstream(t, wrong)
	ctx := testContext(t, 10*time.Second)
	if err := u.Ping(ctx); !errors.Is(err, ErrRefuses) {
		t.Errorf("a wrong password of ours: %v", err)
	}
	gone := upstream(t, testConfig(config.URL{Scheme: "ldap", Address: "127.0.0.1:1", Host: "127.0.0.1"}))
	if err := gone.Ping(ctx); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrRefuses) {
		t.Errorf("nobody there: %v", err)
	}
	if st := gone.Stats().Servers[0]; st.Up || st.NotConnected == 0 {
		t.Errorf("%+v", st)
	}
}
