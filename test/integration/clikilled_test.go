package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// byCommand is the command itself, which is killed now and then.
type byCommand struct {
	file string
	kill time.Duration // within which; 0: never
}

// run runs it. A process that was killed may have done anything, or nothing.
func (b *byCommand) run(args ...string) (out []byte, o outcome, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	if b.kill > 0 && rand.N(3) > 0 {
		ctx, cancel = context.WithTimeout(ctx, rand.N(b.kill))
	}
	defer cancel()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, append(args, "-c", b.file)...)
	cmd.Stderr = &errs
	out, err = cmd.Output()
	switch {
	case err == nil:
		return out, done, nil
	case ctx.Err() != nil:
		return out, maybe, nil
	}
	return out, no, fmt.Errorf("%w: %s", err, errs.String())
}

func (b *byCommand) create(uid, label string) (string, outcome, error) {
	out, o, err := b.run("passwords", "create", "--json", "--user", userDN(uid), "--label", label)
	var made struct{ Password string }
	if json.Unmarshal(out, &made) == nil && made.Password != "" {
		o = done // whoever has read it believes it
	}
	return made.Password, o, err
}

func (b *byCommand) revoke(uid, label string) (outcome, error) {
	_, o, err := b.run("passwords", "revoke", "--yes", "--user", userDN(uid), "--label", label)
	return o, err
}

func (b *byCommand) close() {}

// TestCommandKilled: the command is killed at any moment. What it has shown is stored, what it has not done is not
// there, and it leaves nothing behind that is in the way of the next one.
func TestCommandKilled(t *testing.T) {
	t.Parallel()
	const each = 12
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, managing(t, s, "", "max_per_user: 1000"))
	began := time.Now()
	calm := &byCommand{file: a.file}
	if _, _, err := calm.create("alice", "calm"); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	wild := &byCommand{file: a.file, kill: 3 * took / 2}
	var mu sync.Mutex
	model := []*life{}
	var writers sync.WaitGroup
	for w, uid := range []string{"bob", "dave"} {
		writers.Go(func() {
			for n := range each {
				e := &life{uid: uid, label: fmt.Sprintf("d%d", w*each+n)}
				e.live(t, wild, n)
				mu.Lock()
				model = append(model, e)
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	checkModel(t, s.stored, []string{"bob", "dave"}, model)
	for _, e := range model {
		if e.created == done && e.revoked == no {
			expectBind(t, a.uri(), userDN(e.uid), e.password, 0)
		}
	}
	if _, _, err := calm.create("bob", "after all"); err != nil {
		t.Error(err)
	}
}
