package manage

import (
	"context"
	"errors"
	"testing"

	"appbind/config"
)

// queue gives turns, or none.
type queue struct {
	given, back int
	entry       string
	full        bool
}

func (q *queue) Turn(_ context.Context, entry string, memory int64) (func(), error) {
	if q.full || memory <= 0 {
		return nil, errors.New("no room")
	}
	q.given, q.entry = q.given+1, entry
	return func() { q.back++ }, nil
}

// TestTurns: a slow hash waits for its turn among those of binds; without one nothing is made. The fast one waits for nobody.
func TestTurns(t *testing.T) {
	t.Parallel()
	q := &queue{}
	r := newRig(t, controlAssertion, func(c *config.Config) { c.AppPasswords.Algorithm = "argon2id" })
	r.WithTurns(q)
	if _, err := r.Managing().Create(r.ctx(), r.alice(), Request{Label: "phone"}); err != nil || q.given != 1 || q.back != 1 || q.entry != r.alice().Key {
		t.Errorf("%v, %+v", err, q)
	}
	if _, err := r.Managing().Add(r.ctx(), aliceDN, [][]byte{[]byte("$app$chosen$a chosen password")}); err != nil || q.given != 2 || q.back != 2 {
		t.Errorf("in clear: %v, %+v", err, q)
	}
	q.full = true
	if made, err := r.Managing().Create(r.ctx(), r.alice(), Request{Label: "tablet"}); !errors.Is(err, ErrContention) || made.Password != "" || len(r.stored().Values) != 2 {
		t.Errorf("without a turn: %v, %d values", err, len(r.stored().Values))
	}
	if len(r.hashing) != 0 {
		t.Error("the right to hash is kept by who has got no turn")
	}
	fast := newRig(t, controlAssertion)
	fast.WithTurns(q)
	if _, err := fast.Managing().Create(fast.ctx(), fast.alice(), Request{Label: "phone"}); err != nil {
		t.Errorf("a fast hash: %v", err)
	}
}
