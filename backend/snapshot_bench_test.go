package backend

import (
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkSnapshot writes and reads the snapshot of 100,000 users with three app passwords each.
func BenchmarkSnapshot(b *testing.B) {
	const users = 100_000
	m, file := newMachine(), filepath.Join(b.TempDir(), "replica.snapshot")
	u := m.process(b, file)
	t := newTable(newCopied(u.replica.wanted, u.survey.Load().schema))
	for i := range users {
		id, r := generatedUser(i, t.copied)
		t.put(id, r, people)
	}
	t.prove(m.wall)
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			if err := u.saveUsers(t, nil, m.wall); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("mark", func(b *testing.B) {
		t.remove("none")
		for b.Loop() {
			if err := u.saveMark(t, nil, m.wall); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		m.pass(time.Minute)
		for b.Loop() {
			r, err := u.readSnapshot(m.wall)
			if err != nil || len(r.table.byID) != users {
				b.Fatal(err)
			}
		}
		content, err := readPrivate(file, maxSnapshot)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(content))/users, "B/user")
	})
}
