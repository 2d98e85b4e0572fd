package proxy

import (
	"sync/atomic"
	"time"

	"appbind/backend"
	"appbind/wire"
)

// maxOutstanding bounds a client's requests under way; slapd closes a session at 1,000.
const maxOutstanding = 500

// request is one forwarded request, and the Sink of its responses. Its methods
// are called by the reader goroutine of the link, one after the other.
type request struct {
	c    *conn
	w    *wire.Writer
	id   int32 // the client's message ID
	op   wire.Op
	v2   bool
	at   time.Time   // of its receipt
	dead atomic.Bool // given up: nothing more goes to the client

	rewrite rewriter
	tail    *virtualTail // what is added to the answer of a search; nil: nothing

	// Of the client's goroutine:
	link   *backend.Link
	linkID int32 // the message ID on link

	// Of a request over a shared link:
	group     *backend.Group // nil: link is the client's own
	frame     []byte         // as the client sent it, to send it once more; nil: it must not be
	retried   bool           // it was sent once more
	delivered bool           // the client has got something; of the link's reader
	again     bool           // to be sent once more; set before c.late has it
}

var _ backend.Sink = (*request)(nil)

// newRequest is a request as the client's session is now. guarded ones have the
// secrets attribute removed from their responses.
func (c *conn) newRequest(m wire.Message) *request {
	q := &request{c: c, w: c.w, id: m.ID, op: m.Op, v2: c.sess.v2, at: time.Now()}
	if st := c.srv.state.Load(); !c.seesSecrets(st) {
		q.rewrite.guard, q.rewrite.guarded = st.guard(), true
	}
	return q
}

// Deliver forwards one response.
func (q *request) Deliver(m wire.Message, final, more bool) {
	defer q.c.contain()
	err := q.forward(m, final)
	q.delivered = true
	// Also when this one was not written: others before it may wait for the
	// flush. A final one never waits: what is at hand behind it may be responses
	// to requests that were given up, which are dropped without a call.
	if err == nil && (final || !more) {
		err = q.flush()
	}
	if err != nil {
		q.c.kill()
	}
}

// forward appends a response to what the client gets.
func (q *request) forward(m wire.Message, final bool) error {
	if q.dead.Load() || q.v2 && !final && m.Op != wire.OpSearchResultEntry {
		return nil // given up, or a reference or an intermediate response, which v2 does not know
	}
	body, controls, changed, err := q.translate(m, final)
	if err != nil {
		return q.finish(func(dst []byte) []byte {
			return wire.AppendResult(dst, q.id, wire.ResponseTo(q.op), refuseGarbled.code, refuseGarbled.diagnostic)
		})
	}
	build := func(dst []byte) []byte {
		if changed {
			op := m.Op
			if final {
				op = wire.ResponseTo(q.op)
			}
			return wire.AppendMessage(dst, q.id, op, body, controls)
		}
		return m.AppendTo(dst, q.id)
	}
	switch {
	case final && q.tail != nil:
		return q.finish(q.withTail(build, body, controls))
	case final:
		return q.finish(build)
	case q.tail != nil && m.Op == wire.OpSearchResultEntry:
		q.tail.sent++
	}
	return q.put(func(dst []byte) []byte {
		if q.dead.Load() { // asked under the writer's lock: a bind's answer is never overtaken
			return dst
		}
		return build(dst)
	})
}

// withTail is build with the virtual entries before the result.
func (q *request) withTail(build func(dst []byte) []byte, body, controls []byte) func(dst []byte) []byte {
	result, err := wire.DecodeResult(body)
	if err != nil || result.Code != wire.ResultSuccess {
		return build
	}
	return func(dst []byte) []byte {
		dst, r, controls := q.tail.end(dst, result, controls)
		return wire.AppendMessage(dst, q.id, wire.OpSearchResultDone, r.Append(nil), controls)
	}
}

// translate tells what of a response must change for this client.
func (q *request) translate(m wire.Message, final bool) (body, controls []byte, changed bool, err error) {
	body, controls = m.Body, m.Controls
	if controls != nil && q.v2 {
		controls, changed = nil, true
	}
	if controls != nil && q.rewrite.guarded {
		clean, ch, err := q.rewrite.guard.responseControls(nil, controls)
		if err != nil {
			return nil, nil, false, err
		}
		if ch {
			controls, changed = clean, true
		}
	}
	switch {
	case final && m.Op != wire.ResponseTo(q.op):
		body, err = plainResult(body)
		changed = true
	case m.Op == wire.OpSearchResultEntry:
		var ch bool
		body, ch, err = q.rewrite.entry(body)
		changed = changed || ch
	}
	if final && q.v2 && err == nil {
		body, err = v2Result(body)
		changed = true
	}
	return body, controls, changed, err
}

// finish ends the request with the response that build appends, unless it was
// given up. The message ID is free again before the client can have seen the
// response, and draining ends only after the response is queued.
func (q *request) finish(build func(dst []byte) []byte) error {
	return q.put(func(dst []byte) []byte {
		if !q.c.take(q) {
			return dst
		}
		q.c.srv.counts.answered(q.op, time.Since(q.at))
		return build(dst)
	})
}

// Lost ends the request without a response of the upstream. A lost link of its
// own ends the client; a timeout, or a lost shared link, is the request's own. Nothing is written here: whoever
// calls must not wait for a client that does not read.
func (q *request) Lost(err error) {
	defer q.c.contain()
	if q.group != nil {
		// The client is not tied to a shared link.
		q.again = isLost(q.link) && !q.delivered && !q.retried && q.frame != nil
		q.c.wakeFor(q)
		return
	}
	if isLost(q.link) {
		if q.c.take(q) {
			q.c.stop(disconnected(resultLinkLost, err))
		}
		return
	}
	q.c.wakeFor(q)
}

// rewriter is what happens to the entries of one search on their way to the client.
type rewriter struct {
	guard   guard
	guarded bool
	own     *ownEntry // set for an app-password session
	suffix  []byte    // the context that is put back behind each entry's DN
	// Of a search of the root DSE: the search, and what the listener offers.
	root               *wire.SearchRequest
	external, startTLS bool
	schema             bool // of the subschema: the definitions of virtual entries are added

	clean, renamed []byte // buffers for the next entry
}

// entry rewrites the body of an entry; not changed: it can be forwarded as it is.
func (x *rewriter) entry(body []byte) (out []byte, changed bool, err error) {
	if x.guarded {
		clean, ch, err := x.guard.entry(x.clean[:0], body)
		if err != nil {
			return nil, false, err
		}
		if ch {
			x.clean, body, changed = clean, clean, true
		}
	}
	if x.own != nil && x.root == nil {
		clean, ch, err := x.own.entry(nil, body)
		if err != nil {
			return nil, false, err
		}
		if ch {
			body, changed = clean, true
		}
	}
	if x.root != nil {
		if body, err = rewriteRootDSE(nil, body, x.external, x.startTLS, x.root); err != nil {
			return nil, false, err
		}
		changed = true
	}
	if x.schema {
		clean, ch, err := withDefinitions(body)
		if err != nil {
			return nil, false, err
		}
		body, changed = clean, changed || ch
	}
	if x.suffix == nil {
		return body, changed, nil
	}
	e, err := wire.DecodeEntry(body)
	if err != nil {
		return nil, false, err
	}
	e.DN = joinContext(e.DN, x.suffix)
	x.renamed = e.Append(x.renamed[:0])
	return x.renamed, true, nil
}

// joinContext puts the context back behind a DN.
func joinContext(dn, suffix []byte) []byte {
	joined := make([]byte, 0, len(dn)+1+len(suffix))
	if len(dn) > 0 {
		joined = append(append(joined, dn...), ',')
	}
	return append(joined, suffix...)
}
