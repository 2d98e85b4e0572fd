package auth

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"appbind/secrets"
)

// TestIndex: an entry that binds share is judged as one that is a bind's own, whatever its values are: those that can be used, those
// that cannot, and those that only look alike.
func TestIndex(t *testing.T) {
	t.Parallel()
	phone, phoneValue := generated(t, nil)
	laptop, laptopValue := generated(t, func(p *secrets.Params) { p.Label = "laptop" })
	expired, expiredValue := generated(t, func(p *secrets.Params) { p.Expires = newClock().now().Add(-time.Hour).Truncate(time.Second) })
	broken, brokenValue := generated(t, nil)
	unselected, unselectedValue := generated(t, func(p *secrets.Params) { p.ID = "" })
	values := []string{
		phoneValue, laptopValue, expiredValue, strings.Replace(brokenValue, ";id=", ";nonsense=1;id=", 1), unselectedValue,
		strings.Replace(phoneValue, "phone", "the same selector", 1), "$app$own$" + ssha("chosen"), "$app$own$" + ssha("chosen"),
		"$app$clear$clear", "$app$;id=$" + ssha("no selector"), ";id=" + phone[:4], "", "foreign", totpValue,
	}
	passwords := []string{phone, laptop, expired, broken, unselected, "chosen", "no selector", "clear", "wrong", aliceMain, values[6]}
	random := rand.New(rand.NewPCG(3, 4))
	kinds := map[string]int{}
	for range 1500 {
		plain, shared := newSite(t, nil), newSite(t, nil)
		var list []string
		for _, v := range values {
			if random.IntN(3) == 0 {
				list = append(list, v)
			}
		}
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		plain.user("alice", aliceMain, list...)
		shared.user("alice", aliceMain, list...).Index = new(Index)
		for range 4 {
			password := passwords[random.IntN(len(passwords))]
			a, b := plain.bind("alice", password), shared.bind("alice", password)
			if a.Kind != b.Kind || a.Row != b.Row || a.Reason != b.Reason || a.Selector != b.Selector || rawOf(a.App) != rawOf(b.App) || rawOf(a.Denied) != rawOf(b.Denied) {
				t.Fatalf("%q with %q: row %d, %q, %q; shared: row %d, %q, %q", list, password, a.Row, a.Reason, rawOf(a.App), b.Row, b.Reason, rawOf(b.App))
			}
			kinds[fmt.Sprint(a.Row, a.Reason)]++
		}
		if a, b := plain.mem.Hashed(), shared.mem.Hashed(); a != b {
			t.Fatalf("%q: %d hashes, shared %d", list, a, b)
		}
	}
	if len(kinds) < 7 {
		t.Errorf("too little was tried: %v", kinds)
	}
}

func rawOf(v *secrets.Value) string {
	if v == nil {
		return ""
	}
	return v.Raw
}

// TestIndexOfAnotherList: what was found out about one list says nothing about another, as long or with the same array.
func TestIndexOfAnotherList(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	phone, phoneValue := generated(t, nil)
	laptop, laptopValue := generated(t, nil)
	e := s.user("alice", aliceMain, phoneValue, laptopValue)
	e.Index = new(Index)
	s.expect(t, "phone", s.bind("alice", phone), 10, Accepted, ReasonAppPassword)
	e.Values = e.Values[1:]
	s.expect(t, "a shorter list", s.bind("alice", laptop), 10, Accepted, ReasonAppPassword)
	s.expect(t, "a shorter list", s.bind("alice", phone), 11, InvalidCredentials, ReasonNoAppPassword)
	room := make([][]byte, 1, 2)
	room[0] = []byte(phoneValue)
	e.Values = room
	s.expect(t, "another list", s.bind("alice", phone), 10, Accepted, ReasonAppPassword)
	s.expect(t, "another list", s.bind("alice", laptop), 11, InvalidCredentials, ReasonNoAppPassword)
	e.Values = append(room, []byte(laptopValue))
	s.expect(t, "a longer list in the same array", s.bind("alice", laptop), 10, Accepted, ReasonAppPassword)
}

// TestIndexAtOnce: binds that share an entry make its index at one time.
func TestIndexAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	phone, phoneValue := generated(t, nil)
	s.user("alice", aliceMain, phoneValue).Index = new(Index)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if d := s.bind("alice", phone); d.Kind != Accepted {
				t.Errorf("row %d, %q, %v", d.Row, d.Reason, d.Err)
			}
		})
	}
	all.Wait()
}

// TestIndexAllocations: fifty app passwords of an entry that binds share cost no more than ten of one that is a bind's own.
func TestIndexAllocations(t *testing.T) {
	s, bind := benchSite(t, 50, "generated")
	s.entries["alice"].Index = new(Index)
	v := New(s.cfg, instant{s.upstream, s.entries["alice"]}, s.mem, discard())
	if n := testing.AllocsPerRun(1000, func() { v.Verify(t.Context(), bind, s.upstream) }); n > 4 && !raceDetector {
		t.Errorf("%.0f allocations, at most 4", n)
	}
}
