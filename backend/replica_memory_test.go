package backend

import (
	"fmt"
	"runtime"
	"testing"

	"appbind/auth"
	"appbind/wire"
)

// BenchmarkReplicaMemory tells the bytes that a user with three app passwords takes
// in the table, without and with the attributes for an outage, 100,000 of them.
func BenchmarkReplicaMemory(b *testing.B) {
	const users = 100_000
	for _, outage := range []bool{false, true} {
		b.Run(fmt.Sprintf("outage=%v", outage), func(b *testing.B) {
			var wanted []string
			if outage {
				wanted = []string{"objectclass", "uid", "cn", "sn", "givenname", "displayname", "mail"}
			}
			copied := newCopied(wanted, newSchema("appPassword", nil))
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				t := newTable(copied)
				for i := range users {
					id, r := generatedUser(i, copied)
					t.put(id, r, people)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/users, "B/user")
				runtime.KeepAlive(t)
			}
		})
	}
}

// generatedUser is a user as a server tells of it, with three values of the usual length.
func generatedUser(i int, copied *copiedAttributes) (string, *record) {
	uid := fmt.Sprintf("user%06d", i)
	var values, list []byte
	for v := range 3 {
		text := fmt.Sprintf("$app$device%d;id=%04d;exp=20270101000000Z;crt=20260101000000Z${SSHA256}%064d", v, i%10000, i)
		values = wire.AppendStrings(values, text)
	}
	for _, a := range [][2]string{{"uid", uid}, {"cn", "User Number " + uid}, {"sn", uid}, {"givenName", "User"},
		{"displayName", "User Number " + uid}, {"mail", uid + "@example.org"}} {
		list = wire.AppendAttribute(list, a[0], []byte(a[1]))
	}
	list = wire.AppendAttribute(list, "objectClass", []byte("inetOrgPerson"), []byte("appPasswordAccount"))
	e := &auth.Entry{Key: fmt.Sprintf("entryuuid:6f2b7c1e-0000-4000-8000-%012d", i), DN: "uid=" + uid + "," + people,
		User: true, Eligible: true, Copied: true, Values: appendValues(nil, values)}
	return fmt.Sprintf("%016d", i), &record{entry: e, parent: people, names: []string{uid, uid + "@example.org"}, copied: copied.take(list)}
}
