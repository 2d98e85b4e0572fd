package observe

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "write the table of doc/metrics.md")

const (
	docFile   = "../doc/metrics.md"
	docBegins = "| metric | type | labels | meaning |\n|---|---|---|---|\n"
)

// docTable is the table of doc/metrics.md.
func docTable() string {
	var b strings.Builder
	b.WriteString(docBegins)
	for _, m := range Metrics() {
		b.WriteString("| " + m.Name + " | " + m.Type + " | " + strings.Join(m.Labels, ", ") + " | " + m.Help + " |\n")
	}
	return b.String()
}

// TestDocListsEveryMetric: the table of the manual is the one of the code. go test ./observe -update writes it.
func TestDocListsEveryMetric(t *testing.T) {
	text, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), docBegins)
	if !found {
		t.Fatal("no table")
	}
	for strings.HasPrefix(rest, "|") {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	want := before + docTable() + rest
	if *update {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if string(text) != want && !*update {
		t.Errorf("%s is not what the code exports; run: go test ./observe -update", docFile)
	}
}

// labels are the labels of each series that a query may name.
func labels() map[string][]string {
	series := map[string][]string{
		"process_resident_memory_bytes": nil, "process_cpu_seconds_total": nil, "process_start_time_seconds": nil, "go_goroutines": nil,
	}
	for _, m := range Metrics() {
		if m.Type != "histogram" {
			series[m.Name] = m.Labels
			continue
		}
		series[m.Name+"_bucket"] = append([]string{"le"}, m.Labels...)
		series[m.Name+"_sum"], series[m.Name+"_count"] = m.Labels, m.Labels
	}
	return series
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	selector = regexp.MustCompile(`\b((?:appbind|go|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`by \(([^)]*)\)`)
)

// mistakes are the series and the labels in a query that nobody exports.
func mistakes(query string) (list []string) {
	known := labels()
	query = quoted.ReplaceAllString(query, `""`)
	any := map[string]bool{"job": true, "instance": true, "le": true}
	found := selector.FindAllStringSubmatch(query, -1)
	if len(found) == 0 && !strings.HasPrefix(query, "up") {
		return []string{"no series in " + query}
	}
	for _, m := range found {
		names, exported := known[m[1]]
		if !exported {
			list = append(list, m[1])
		}
		for _, n := range names {
			any[n] = true
		}
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(names, label[1]) && label[1] != "job" && label[1] != "instance" {
				list = append(list, m[1]+"{"+label[1]+"}")
			}
		}
	}
	for _, m := range grouping.FindAllStringSubmatch(query, -1) {
		for name := range strings.SplitSeq(m[1], ",") {
			if !any[strings.TrimSpace(name)] {
				list = append(list, "by ("+name+")")
			}
		}
	}
	return list
}

func TestMistakes(t *testing.T) {
	for query, want := range map[string]int{
		`sum by (reason) (rate(appbind_binds_total{outcome="denied"}[5m]))`:                              0,
		`histogram_quantile(0.9, sum by (le, outcome) (rate(appbind_bind_duration_seconds_bucket[5m])))`: 0,
		`appbind_bind_total`:                             1,
		`appbind_bind_duration_seconds`:                  1,
		`appbind_binds_total{server="a"}`:                1,
		`sum by (server) (appbind_connections)`:          1,
		`vector(1)`:                                      1,
		`appbind_upstream_up{server=~"ldap://a=.*"} > 0`: 0,
	} {
		if got := mistakes(query); len(got) != want {
			t.Errorf("%s: %q", query, got)
		}
	}
}

// TestDashboard: the dashboard is JSON, its panels have ids and places of their own, and it asks for what is exported.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../contrib/grafana/appbind.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title, UID string
		Panels     []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	if board.Title == "" || board.UID == "" || len(board.Panels) == 0 {
		t.Fatal("no dashboard")
	}
	ids, used := map[int]bool{}, map[string]bool{}
	places := map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %q: its id is not its own, or it shows nothing", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := places[[2]int{x, y}]; other != "" || x > 23 {
					t.Fatalf("panel %q lies on %q, or beside the page", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			for _, m := range mistakes(target.Expr) {
				t.Errorf("panel %q: %s", p.Title, m)
			}
			for _, m := range selector.FindAllStringSubmatch(target.Expr, -1) {
				used[m[1]] = true
			}
		}
	}
	for _, name := range []string{"appbind_binds_total", "appbind_bind_duration_seconds_bucket", "appbind_operation_duration_seconds_bucket",
		"appbind_upstream_up", "appbind_upstream_links", "appbind_connections", "appbind_hash_queue_length", "appbind_build_info",
		"appbind_job_runs_total", "appbind_job_last_success_timestamp_seconds", "appbind_expired_passwords_total", "appbind_mails_total", "appbind_history_events_dropped_total",
		"appbind_audit_lines_dropped_total", "appbind_webhook_dropped_total", "appbind_webhook_pending", "appbind_portal_mails_total"} {
		if !used[name] {
			t.Errorf("%s is not shown; only %q", name, slices.Sorted(maps.Keys(used)))
		}
	}
}

// TestAlerts: the rules are YAML as Prometheus takes it, and watch what is exported.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../contrib/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || names[r.Alert] || r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
				t.Errorf("alert %q: a name of its own, a summary and a severity are missing", r.Alert)
			}
			names[r.Alert] = true
			for _, m := range mistakes(r.Expr) {
				t.Errorf("alert %q: %s", r.Alert, m)
			}
		}
	}
	if len(names) < 5 {
		t.Errorf("%d alerts", len(names))
	}
}
