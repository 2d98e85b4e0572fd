package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// metricsAt finds where metrics are served, the last line counts.
var metricsAt = regexp.MustCompile(`msg"?[=:]"?serving metrics"?[ ,]"?address"?[=:]"?([^\s"]+)`)

func (a *appbind) endpoint() string {
	a.t.Helper()
	all := metricsAt.FindAllStringSubmatch(a.output(), -1)
	if len(all) == 0 {
		a.t.Fatalf("metrics are not served:\n%s", a.output())
	}
	return "http://" + all[len(all)-1][1]
}

// httpGet is the status and the body of one request; 0 when the connection failed.
func httpGet(url string) (int, string) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	r, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err.Error()
	}
	return r.StatusCode, string(body)
}

// metric is the sum of the series of a scrape whose name and labels hold all parts.
func metric(t testing.TB, scrape, name string, labels ...string) float64 {
	t.Helper()
	sum := 0.0
	for line := range strings.Lines(scrape) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") || line[:at] != name && !strings.HasPrefix(line, name+"{") {
			continue
		}
		fits := true
		for _, l := range labels {
			fits = fits && strings.Contains(line[:at], l)
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); fits && err == nil {
			sum += v
		}
	}
	return sum
}

// TestMetrics: the figures move with what clients do, over a reload too, and tell nothing of who they are.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	phone := newPassword(t, "phone")
	s.addSecret("alice", phone.Value)
	yaml := baseConfig(s, "", "observe: {listen: 127.0.0.1:0}\n")
	a := startAppbind(t, yaml)
	scrape := func() string {
		t.Helper()
		code, body := httpGet(a.endpoint() + "/metrics")
		if code != 200 {
			t.Fatalf("%d %s", code, body)
		}
		return body
	}
	const wrong = "canary-wrong-password"
	expectBind(t, a.uri(), userDN("alice"), phone.Password, 0)
	expectBind(t, a.uri(), userDN("bob"), "bob-main", 0)
	expectBind(t, a.uri(), userDN("bob"), wrong, 49)
	expectBind(t, a.uri(), userDN("canary-nobody"), wrong, 49)
	client := bound(t, a.uri(), adminDN, adminPW)
	if _, err := search(client, people, "(uid=alice)", []string{"cn"}); err != nil {
		t.Fatal(err)
	}
	check := func(what string) string {
		t.Helper()
		body := scrape()
		for _, c := range []struct {
			want   float64
			name   string
			labels []string
		}{
			{1, "appbind_binds_total", []string{`outcome="accepted"`, `reason="app password"`, `service=""`}},
			{1, "appbind_binds_total", []string{`outcome="accepted"`, `reason="main password"`}},
			{1, "appbind_binds_total", []string{`outcome="accepted"`, `reason="listed account passed through"`}},
			{1, "appbind_binds_total", []string{`outcome="denied"`, `reason="refused by the upstream"`}},
			{1, "appbind_binds_total", []string{`outcome="denied"`, `reason="no such user"`}},
			{5, "appbind_bind_duration_seconds_count", nil},
			{1, "appbind_operation_duration_seconds_count", []string{`operation="search"`}},
			{5, "appbind_connections_accepted_total", nil},
			{1, "appbind_connections", nil},
			{1, "appbind_upstream_up", []string{s.uri()}},
			{1, "appbind_upstream_links", []string{`kind="client"`}},
			{4, "appbind_upstream_requests_total", []string{`operation="bind"`}},
			{1, "appbind_build_info", nil},
			{0, "appbind_panics_total", nil},
		} {
			got := metric(t, body, c.name, c.labels...)
			if c.name == "appbind_upstream_requests_total" && got >= c.want {
				continue // service links bind too, as many as are needed
			}
			if got != c.want {
				t.Errorf("%s: %s%v is %v, want %v", what, c.name, c.labels, got, c.want)
			}
		}
		canaryFree(t, body, phone.Password, phone.Value, phone.ID, wrong, "canary-nobody", "bob-main", mailPW, servicePW, "uid=", "alice")
		return body
	}
	eventually(t, "the clients that left are not counted", func() bool { return metric(t, scrape(), "appbind_connections") == 1 })
	first := check("before")
	at := a.endpoint()
	a.hangup(replaceOnce(t, yaml, "{listen: 127.0.0.1:0}", "{listen: '127.0.0.2:0', pprof: true}"), reloaded)
	if a.endpoint() == at {
		t.Error("the address is the old one")
	}
	eventually(t, "the old address is closed", func() bool { code, _ := httpGet(at + "/healthz"); return code == 0 })
	second := check("after a reload")
	if x, y := metric(t, first, "appbind_upstream_requests_total"), metric(t, second, "appbind_upstream_requests_total"); y < x {
		t.Errorf("upstream requests fell from %v to %v", x, y)
	}
	if code, _ := httpGet(a.endpoint() + "/debug/pprof/cmdline"); code != 200 {
		t.Errorf("pprof: %d", code)
	}
	// A busy address leaves all as it was.
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	a.hangup(replaceOnce(t, yaml, "127.0.0.1:0}", busy.Addr().String()+"}"), refused)
	check("after a reload that failed")
	at = a.endpoint()
	a.hangup(strings.Replace(yaml, "observe: {listen: 127.0.0.1:0}\n", "", 1), reloaded)
	eventually(t, "metrics are off", func() bool { code, _ := httpGet(at + "/healthz"); return code == 0 })
}

// TestReady: readyz follows the directory, healthz does not.
func TestReady(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	a := startAppbind(t, baseConfig(s, "", "observe: {listen: 127.0.0.1:0}\n"))
	at := a.endpoint()
	becomes := func(want int, reason string) {
		t.Helper()
		eventually(t, fmt.Sprintf("readyz says %d %s", want, reason), func() bool {
			code, body := httpGet(at + "/readyz")
			return code == want && strings.TrimSpace(body) == reason
		})
		if code, _ := httpGet(at + "/healthz"); code != 200 {
			t.Errorf("healthz: %d", code)
		}
	}
	const gone = "upstream: no server answers"
	becomes(200, "ready")
	s.stop(syscall.SIGTERM)
	becomes(503, gone)
	eventually(t, "the server counts as down", func() bool {
		_, body := httpGet(at + "/metrics")
		return metric(t, body, "appbind_upstream_up") == 0 && metric(t, body, "appbind_upstream_connects_failed_total") > 0
	})
	s.run()
	becomes(200, "ready")
	s.signal(syscall.SIGSTOP)
	becomes(503, gone)
	s.signal(syscall.SIGCONT)
	becomes(200, "ready")

	wrong := startAppbind(t, replaceOnce(t, baseConfig(s, "", "observe: {listen: 127.0.0.1:0}\n"), servicePW, "another"))
	at = wrong.endpoint()
	becomes(503, "upstream: the bind as upstream.bind_dn is refused")
}

// TestMetricsBusy: an address in use at the start is one line and status 1.
func TestMetricsBusy(t *testing.T) {
	t.Parallel()
	s := startSlapd(t, slapdOptions{})
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := shortDir(t) + "/appbind.yaml"
	write(t, file, baseConfig(s, "", fmt.Sprintf("observe: {listen: '%s'}\n", busy.Addr())))
	r := command(t, "", binary, "serve", "-c", file)
	if text := strings.TrimSpace(r.err); r.code != 1 || strings.Count(text, "\n") > 0 || !strings.Contains(text, "observe.listen") || !strings.Contains(text, "in use") {
		t.Errorf("status %d: %q", r.code, text)
	}
}
