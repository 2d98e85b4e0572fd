package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"appbind/config"
)

// bubble runs a test in a time of its own.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

const secret = "canary-secret-0123456789abcdef"

// receiver is the other side, without a network.
type receiver struct {
	mu     sync.Mutex // guards all fields
	status int        // the answer; 0: none, an error
	hangs  bool       // it never answers
	posts  []posted
}

// posted is one attempt.
type posted struct {
	at               time.Time
	id, stamp, signs string
	body             string
	label            string
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	var l Line
	if err := json.Unmarshal(body, &l); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.posts = append(r.posts, posted{time.Now(), q.Header.Get("webhook-id"), q.Header.Get("webhook-timestamp"), q.Header.Get("webhook-signature"), string(body), l.Label})
	status, hangs := r.status, r.hangs
	r.mu.Unlock()
	switch {
	case hangs:
		<-q.Context().Done()
		return nil, q.Context().Err()
	case status == 0:
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Location": {"https://elsewhere.example/"}}, Body: io.NopCloser(strings.NewReader("x")), Request: q}, nil
}

func (r *receiver) set(status int, hangs bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status, r.hangs = status, hangs
}

// got is a copy of the attempts.
func (r *receiver) got() []posted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

func hooked(t *testing.T, r http.RoundTripper, log io.Writer, change ...func(*config.Config)) *Journal {
	t.Helper()
	cfg := config.Default()
	cfg.Webhook.URL, cfg.Webhook.Secret = "https://portal.example.org/hook?token=canary-token", secret
	for _, f := range change {
		f(cfg)
	}
	j, err := open(cfg, Options{Counts: &Counts{}, Log: slog.New(slog.NewTextHandler(log, nil))}, r)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// now is an event of the moment.
func now(kind Kind, label string) Event { return Event{Time: time.Now(), Kind: kind, Label: label} }

// TestSignature: the vector of Standard Webhooks' own documentation.
func TestSignature(t *testing.T) {
	t.Parallel()
	got := Sign(Key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if string(Key("plain-text")) != "plain-text" {
		t.Error("a key that is no base64 is another one")
	}
}

// TestWebhookDelivers: what is wanted, in order, signed, over a real connection; a redirection is not followed.
func TestWebhookDelivers(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 10)
	bodies := make(chan []byte, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r
		bodies <- body
		if r.URL.Path == "/hook" {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(map[bool]int{true: http.StatusFound, false: http.StatusNoContent}[len(got) == 2])
		}
	}))
	defer server.Close()
	cfg := config.Default()
	cfg.Webhook.URL, cfg.Webhook.Secret = server.URL+"/hook", secret
	j, err := Open(cfg, Options{Counts: &Counts{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	j.Emit(full())
	j.Emit(Event{Time: noon, Kind: Refused}) // not asked for
	j.Emit(Event{Time: time.Now(), Kind: Revoked})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	j.Close(ctx)
	if st := j.Stats(); st.Delivered != 1 || st.WebhookDropped["refused"] != 1 || st.Failed != 1 || st.WebhookPending != 0 || len(got) != 2 {
		t.Fatalf("%+v, %d requests", st, len(got))
	}
	r, body := <-got, <-bodies
	stamp, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(stamp, 0)).Abs() > time.Minute {
		t.Errorf("timestamp %q", r.Header.Get("webhook-timestamp"))
	}
	id := r.Header.Get("webhook-id")
	if want := Sign([]byte(secret), id, time.Unix(stamp, 0), body); r.Header.Get("webhook-signature") != want || id == "" {
		t.Errorf("signature %q, want %q", r.Header.Get("webhook-signature"), want)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || !bytes.Contains(body, []byte(`"event_id":"`+id+`"`)) {
		t.Errorf("%s %v %s", r.Method, r.Header, body)
	}
}

// TestWebhookRetries: ever less often, with the same id and a timestamp of each attempt, in order, and told once.
func TestWebhookRetries(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r, log := &receiver{}, &collected{}
		j := hooked(t, r, log)
		begun := time.Now()
		j.Emit(now(Issued, "a"))
		j.Emit(now(Revoked, "b"))
		pass(20 * time.Second)
		var at []time.Duration
		for _, p := range r.got() {
			at = append(at, p.at.Sub(begun))
		}
		if want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("attempts at %v", at)
		}
		r.set(503, false)
		pass(time.Minute)
		r.set(429, false)
		pass(time.Minute)
		if st := j.Stats(); st.WebhookPending != 2 || st.Delivered != 0 {
			t.Errorf("%+v", st)
		}
		r.set(204, false)
		pass(webhookLongest)
		if st := j.Stats(); st.WebhookPending != 0 || st.Delivered != 2 {
			t.Errorf("%+v", st)
		}
		all := r.got()
		last := all[len(all)-2:]
		if last[0].label != "a" || last[1].label != "b" || last[0].id != all[0].id || last[0].stamp == all[0].stamp || last[0].signs == all[0].signs || last[1].id == last[0].id {
			t.Errorf("%+v", last)
		}
		j.Close(t.Context())
		if n := strings.Count(log.String(), "level=WARN"); n != 1 || strings.Count(log.String(), "works again") != 1 || strings.Contains(log.String(), "canary") {
			t.Errorf("told: %s", log)
		}
	})
}

// TestWebhookAtTheEnd: an event that came between the last delivery and the end is counted, and told.
func TestWebhookAtTheEnd(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	counts := &Counts{}
	w := startWebhook(config.Webhook{URL: "http://127.0.0.1:1"}, Options{Counts: counts, Log: slog.New(slog.NewTextHandler(&log, nil))}, &receiver{})
	close(w.ending)
	<-w.done
	w.put(message{})
	w.put(message{})
	w.ending = make(chan struct{})
	w.close(t.Context())
	if n := counts.webhookStopped.Load(); n != 2 || !strings.Contains(log.String(), "events=2") {
		t.Errorf("%d are counted\n%s", n, log.String())
	}
	w.put(message{})
	if n := counts.webhookStopped.Load(); n != 3 || w.pending() != 0 {
		t.Errorf("after the end %d, %d wait", n, w.pending())
	}
}

// TestWebhookHangs: an attempt has an end, and nobody waits for it.
func TestWebhookHangs(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := &receiver{hangs: true}
		var log bytes.Buffer
		j := hooked(t, r, &log)
		begun := time.Now()
		j.Emit(now(Issued, "a"))
		if time.Since(begun) != 0 {
			t.Error("Emit waited")
		}
		pass(webhookTime + webhookPause + time.Second)
		if n := len(r.got()); n != 2 {
			t.Errorf("%d attempts", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begun = time.Now()
		j.Close(ctx)
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("Close took %v", took)
		}
		if st := j.Stats(); st.WebhookDropped["stopped"] != 1 || !strings.Contains(log.String(), "events are lost to the webhook") || !strings.Contains(log.String(), "events=1") {
			t.Errorf("%+v\n%s", st, log.String())
		}
	})
}

// TestWebhookGivesUp: what the receiver refuses, what is a day old, and what finds no room, each counted by its reason.
func TestWebhookGivesUp(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := &receiver{}
		j := hooked(t, r, io.Discard)
		for _, status := range []int{400, 401, 404, 410, 301, 307, 204} {
			r.set(status, false)
			j.Emit(now(Issued, fmt.Sprint(status)))
			pass(time.Minute)
		}
		if st := j.Stats(); st.WebhookDropped["refused"] != 6 || st.Delivered != 1 || len(r.got()) != 7 {
			t.Fatalf("%+v, %d attempts", st, len(r.got()))
		}
		r.set(500, false)
		for i := range webhookQueued + 10 {
			j.Emit(now(Revoked, fmt.Sprint(i)))
			if i == 0 {
				synctest.Wait() // the first is on its way
			}
		}
		if st := j.Stats(); st.WebhookDropped["queue"] != 9 || st.WebhookPending != webhookQueued+1 {
			t.Errorf("%+v", st)
		}
		pass(webhookAge - time.Hour)
		if st := j.Stats(); st.WebhookDropped["outdated"] != 0 {
			t.Errorf("%+v", st)
		}
		pass(2 * time.Hour)
		if st := j.Stats(); st.WebhookDropped["outdated"] != webhookQueued+1 || st.WebhookPending != 0 {
			t.Errorf("%+v", st)
		}
		j.Close(t.Context())
	})
}

// TestWebhookClose: at the end each event that waits has one attempt.
func TestWebhookClose(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := &receiver{status: 500}
		j := hooked(t, r, io.Discard)
		for i := range 5 {
			j.Emit(now(Issued, fmt.Sprint(i)))
		}
		synctest.Wait()
		r.set(200, false)
		j.Close(t.Context())
		if st := j.Stats(); st.Delivered+st.WebhookDropped["stopped"] != 5 || st.Delivered < 4 {
			t.Errorf("%+v", st)
		}
		j.Emit(now(Issued, "late"))
		if st := j.Stats(); st.WebhookDropped["stopped"] != 2 {
			t.Errorf("%+v", st)
		}
	})
}
