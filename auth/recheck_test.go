package auth

import (
	"context"
	"errors"
	"testing"
	"time"

	"appbind/secrets"
)

func TestRecheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*site, *Entry)
		want   error
	}{
		{"unchanged", func(*site, *Entry) {}, nil},
		{"a value more", func(_ *site, e *Entry) { e.Values = append([][]byte{[]byte("$app$x$y")}, e.Values...) }, nil},
		{"revoked", func(_ *site, e *Entry) { e.Values = nil }, ErrRevoked},
		{"rewritten", func(_ *site, e *Entry) { e.Values[0] = append([]byte{}, "$app$phone$"+ssha("x")...) }, ErrRevoked},
		{"disabled", func(_ *site, e *Entry) { e.Eligible = false }, ErrRevoked},
		{"account over", func(s *site, e *Entry) { e.Ends = s.clock.now() }, ErrRevoked},
		{"moved out", func(_ *site, e *Entry) { e.User = false }, ErrRevoked},
		{"another entry of that name", func(_ *site, e *Entry) { e.Key = "entryUUID:other" }, ErrRevoked},
		{"deleted", func(s *site, e *Entry) { delete(s.entries, e.DN) }, ErrRevoked},
		{"an instant before it expires", func(s *site, _ *Entry) { s.clock.add(time.Hour - time.Second) }, nil},
		{"expired", func(s *site, _ *Entry) { s.clock.add(time.Hour) }, ErrRevoked},
		{"trouble", func(s *site, _ *Entry) { s.findErr = errTest }, errTest},
	} {
		s := newSite(t, nil)
		phone, phoneValue := generated(t, func(p *secrets.Params) {
			p.Expires = s.clock.now().Add(time.Hour).Truncate(time.Second)
		})
		e := s.user("alice", aliceMain, phoneValue)
		d := s.bind("alice", phone)
		if d.Kind != Accepted || d.App == nil {
			t.Fatalf("row %d, %q", d.Row, d.Reason)
		}
		tt.change(s, e)
		if err := s.v.Recheck(context.Background(), d.Login()); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	s := newSite(t, nil)
	s.user("alice", aliceMain)
	d := s.bind("alice", aliceMain)
	s.findErr = errTest
	if err := s.v.Recheck(context.Background(), d.Login()); err != nil {
		t.Errorf("passed through: %v", err)
	}
}
