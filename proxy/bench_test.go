package proxy

import (
	"net"
	"strings"
	"testing"
	"time"

	"appbind/backend/fakeldap"
	"appbind/wire"
)

// sinkhole is a connection that takes everything.
type sinkhole struct{ net.Conn }

func (sinkhole) Write(b []byte) (int, error)      { return len(b), nil }
func (sinkhole) SetWriteDeadline(time.Time) error { return nil }

// plainSchema knows no other name of the attribute.
type plainSchema struct{}

func (plainSchema) Secrets(d []byte) bool         { return strings.EqualFold(string(d), "appPassword") }
func (plainSchema) SecretsInFilter(d []byte) bool { return plainSchema{}.Secrets(d) }

// sinkFor is a sink whose client takes everything.
func sinkFor() (*request, wire.Message) {
	q := &request{c: &conn{}, w: wire.NewWriter(sinkhole{}, writeBacklog, time.Second), id: 5, op: wire.OpSearchRequest}
	q.rewrite.guard, q.rewrite.guarded = guard{schema: plainSchema{}}, true
	entry, err := wire.Parse(fakeldap.EntryMessage(900, aliceUser, "objectClass", "inetOrgPerson", "cn", "Alice",
		"mail", "alice@example.org", "homeDirectory", "/home/alice", "uidNumber", "1000", "memberOf", "cn=staff,dc=example,dc=org"))
	if err != nil {
		panic("appbind: internal error: " + err.Error())
	}
	return q, entry
}

// BenchmarkDeliver is an entry without secrets on its way to a client that may see none.
func BenchmarkDeliver(b *testing.B) {
	q, entry := sinkFor()
	b.ReportAllocs()
	for b.Loop() {
		q.Deliver(entry, false, false)
	}
}

func TestDeliverDoesNotAllocate(t *testing.T) {
	q, entry := sinkFor()
	if n := testing.AllocsPerRun(1000, func() { q.Deliver(entry, false, false) }); n > 0 {
		t.Errorf("%v allocations for an entry that is forwarded as it is", n)
	}
}
