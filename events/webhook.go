package events

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"appbind/config"
)

const (
	// webhookQueued is how many events wait for the receiver.
	webhookQueued = 1000
	// webhookTime bounds one attempt.
	webhookTime = 10 * time.Second
	// The pause after a failed attempt grows from webhookPause to webhookLongest.
	webhookPause   = time.Second
	webhookLongest = 5 * time.Minute
	// webhookAge is when an event is given up.
	webhookAge = 24 * time.Hour
	// maxAnswer is how much of an answer is read, so that the connection can be used again.
	maxAnswer = 64 << 10
)

// message is one event on its way.
type message struct {
	id   string
	body []byte
	at   time.Time
}

// webhook posts events, one after the other.
type webhook struct {
	url    string
	key    []byte
	wants  map[Kind]bool
	client *http.Client
	counts *Counts
	log    *slog.Logger
	gone   atomic.Bool // close was called
	busy   atomic.Bool // one is on its way

	queue  chan message
	ending chan struct{} // closed by close
	done   chan struct{} // closed when all is delivered, or given up
	base   context.Context
	giveUp context.CancelFunc

	failing bool // the goroutine's own: the last attempt failed
}

// startWebhook starts the goroutine that delivers.
func startWebhook(cfg config.Webhook, o Options, transport http.RoundTripper) *webhook {
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxConnsPerHost = 1, 1
		transport = t
	}
	w := &webhook{
		url: cfg.URL, key: Key(string(cfg.Secret)), wants: map[Kind]bool{}, counts: o.Counts, log: o.Log,
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		queue: make(chan message, webhookQueued), ending: make(chan struct{}), done: make(chan struct{}),
	}
	for _, kind := range cfg.Events {
		w.wants[Kind(kind)] = true
	}
	w.base, w.giveUp = context.WithCancel(context.Background())
	go w.run()
	return w
}

// Key is the key of a webhook's secret: what follows whsec_ in base64, by Standard Webhooks, or else the text itself.
func Key(secret string) []byte {
	if text, is := strings.CutPrefix(secret, "whsec_"); is {
		if key, err := base64.StdEncoding.DecodeString(text); err == nil {
			return key
		}
	}
	return []byte(secret)
}

// Sign is the signature of a message for the header webhook-signature, by Standard Webhooks.
func Sign(key []byte, id string, at time.Time, body []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// put takes a message.
func (w *webhook) put(m message) {
	if w.gone.Load() {
		w.counts.webhookStopped.Add(1)
		return
	}
	select {
	case w.queue <- m:
	default:
		w.counts.webhookQueue.Add(1)
	}
}

// pending is how many wait.
func (w *webhook) pending() int {
	n := len(w.queue)
	if w.busy.Load() {
		n++
	}
	return n
}

// run delivers until close, and what is in the queue then, once each.
func (w *webhook) run() {
	defer close(w.done)
	defer w.client.CloseIdleConnections()
	for {
		select {
		case m := <-w.queue:
			w.deliver(m)
		case <-w.ending:
			for {
				select {
				case m := <-w.queue:
					w.deliver(m)
				default:
					return
				}
			}
		}
	}
}

// errNotTaken says that the receiver will never take the message.
var errNotTaken = errors.New("the receiver refused the event")

// deliver posts a message until it is taken or given up.
func (w *webhook) deliver(m message) {
	w.busy.Store(true)
	defer w.busy.Store(false)
	for pause := webhookPause; ; pause = min(2*pause, webhookLongest) {
		err := w.post(m)
		switch {
		case err == nil:
			w.counts.delivered.Add(1)
			if w.failing {
				w.failing = false
				w.log.Info("the webhook works again")
			}
			return
		case errors.Is(err, errNotTaken):
			w.counts.refused.Add(1)
			w.tell(err)
			return
		case time.Since(m.at) >= webhookAge:
			w.counts.outdated.Add(1)
			w.tell(err)
			return
		}
		w.tell(err)
		if !w.wait(pause) {
			w.counts.webhookStopped.Add(1)
			return
		}
	}
}

// tell logs the first of several failures.
func (w *webhook) tell(err error) {
	w.counts.failed.Add(1)
	if !w.failing {
		w.failing = true
		w.log.Warn("the webhook does not work; events wait", "err", err)
	}
}

// post makes one attempt.
func (w *webhook) post(m message) error {
	ctx, cancel := context.WithTimeout(w.base, webhookTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(m.body))
	if err != nil {
		return errNotTaken // unreachable: config has read the URL
	}
	now := time.Now()
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "appbind")
	r.Header.Set("webhook-id", m.id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", Sign(w.key, m.id, now, m.body))
	answer, err := w.client.Do(r)
	if err != nil {
		return withoutURL(err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // its status is the answer
	switch code := answer.StatusCode; {
	case code >= 200 && code <= 299:
		return nil
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		return fmt.Errorf("the receiver answered %d", code)
	default:
		return fmt.Errorf("%w: it answered %d", errNotTaken, code)
	}
}

// withoutURL is an error of net/http without the URL, whose path or query may be a secret.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// wait waits for the next attempt; false: appbind ends.
func (w *webhook) wait(pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ending:
		return false
	}
}

// close delivers what waits, one attempt each, until ctx ends.
func (w *webhook) close(ctx context.Context) {
	w.gone.Store(true)
	close(w.ending)
	before := w.counts.webhookStopped.Load()
	stop := context.AfterFunc(ctx, w.giveUp)
	defer stop()
	<-w.done
	w.giveUp()
	for len(w.queue) > 0 { // of those who emitted at the same moment; nobody else takes from it any more
		<-w.queue
		w.counts.webhookStopped.Add(1)
	}
	if n := w.counts.webhookStopped.Load() - before; n > 0 {
		w.log.Error("events are lost to the webhook: its receiver did not take them before the end", "events", n)
	}
}
