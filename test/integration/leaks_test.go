package integration

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// balance is what appbind held when it was ready: at the end of each test, when the
// clients are gone, it holds no more, whatever has happened to its directory.
type balance struct {
	watched   bool // appbind has a metrics listener
	added     bool // the harness gave it
	listeners int  // now
	before    holdings
}

// holdings are descriptors and goroutines without those of links to the
// directory, which come and go, each with one of both, and without those of the
// history's database, which is opened when it can be and closed when it is idle: three or so
// files, and the goroutines of database/sql. The jobs, which a reload may switch on, are not counted either.
type holdings struct{ descriptors, goroutines int }

// metricsListener is added to configurations that have none.
const metricsListener = "observe: {listen: 127.0.0.1:0, pprof: true}\n"

// observed is a configuration with a metrics listener.
func (b *balance) observed(yaml string) string {
	b.watched = true
	if strings.Contains(yaml, "observe:") {
		return yaml
	}
	b.added = true
	return yaml + metricsListener
}

// again is a further configuration of the same appbind.
func (b *balance) again(yaml string) string {
	if b.added && !strings.Contains(yaml, "observe:") {
		yaml += metricsListener
	}
	b.watched = strings.Contains(yaml, "observe:")
	return yaml
}

// listenersIn counts the listeners of a configuration.
func listenersIn(yaml string) int { return strings.Count(yaml, "- url:") }

// watch notes what appbind holds, and compares at the end of the test.
func (a *appbind) watch(yaml string) {
	a.listeners = listenersIn(yaml)
	began := a.listeners
	eventually(a.t, "appbind tells what it holds", func() bool {
		if !a.running() {
			a.t.Fatalf("appbind has ended:\n%s", a.output())
		}
		last := a.before
		var ok bool
		a.before, _, ok = a.holds()
		return ok && a.before == last // a link that is being made is counted before it is there
	})
	a.t.Cleanup(func() { // before its end, and after that of its clients
		if a.t.Failed() || !a.watched || !a.running() {
			return
		}
		more := max(0, a.listeners-began)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.After(patience); ; {
			now, clients, ok := a.holds()
			if !a.running() || ok && clients == 0 && now.descriptors <= a.before.descriptors+more && now.goroutines <= a.before.goroutines+2*more {
				return
			}
			select {
			case <-tick.C:
			case <-deadline:
				_, goroutines := httpGet(a.endpoint() + "/debug/pprof/goroutine?debug=2")
				a.t.Errorf("%d clients, %+v; without clients it was %+v\n%s", clients, now, a.before, goroutines)
				return
			}
		}
	})
}

// holds is what appbind holds now, and how many clients it has; not ok: it cannot be told, or links came or went meanwhile.
func (a *appbind) holds() (h holdings, clients int, ok bool) {
	links, scrape := a.links()
	dir := "/proc/" + strconv.Itoa(a.cmd.Process.Pid) + "/fd/"
	names, err := os.ReadDir(dir)
	code, goroutines := httpGet(a.endpoint() + "/debug/pprof/goroutine?debug=2")
	if after, _ := a.links(); err != nil || links < 0 || links != after {
		return h, 0, false
	}
	number := func(name string) int { return int(metric(a.t, scrape, name)) }
	h = holdings{len(names) - links, number("go_goroutines") - links}
	database := 0
	for _, n := range names {
		if file, err := os.Readlink(dir + n.Name()); err == nil && strings.Contains(file, "/history.db") {
			database++
		}
	}
	h.descriptors -= database
	if code != 200 { // the test's own configuration has no profiler
		h.goroutines -= min(database, 1)
		return h, number("appbind_connections"), true
	}
	h.goroutines = -links
	for stack := range strings.SplitSeq(goroutines, "\n\n") {
		if !ofDatabases.MatchString(stack) && !strings.Contains(stack, "jobs.(*Runner).run(") {
			h.goroutines++
		}
	}
	return h, number("appbind_connections"), true
}

// ofDatabases finds the goroutines that databases have begun. Those of appbind that call one count, whatever they do at the moment.
var ofDatabases = regexp.MustCompile(`created by (database/sql|modernc\.org/|github\.com/jackc/)`)

// links are the links to the directory, and the metrics that they are taken from; -1: there are no metrics.
func (a *appbind) links() (n int, scrape string) {
	code, scrape := httpGet(a.endpoint() + "/metrics")
	if code != 200 {
		return -1, scrape
	}
	return int(metric(a.t, scrape, "appbind_upstream_links")), scrape
}
