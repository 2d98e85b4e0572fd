package proxy

import (
	"encoding/asn1"

	"appbind/wire"
)

// register puts a request on the list of those under way.
func (c *conn) register(q *request) *refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) >= maxOutstanding {
		return refuseBusy
	}
	if c.pending == nil {
		c.pending = map[int32]*request{}
	}
	c.pending[q.id] = q
	return nil
}

// take takes a request off the list; false: it was off already, and nothing may be sent for it.
func (c *conn) take(q *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[q.id] != q {
		return false
	}
	c.remove(q)
	return true
}

// remove takes q off the list. The caller holds c.mu.
func (c *conn) remove(q *request) {
	q.dead.Store(true)
	delete(c.pending, q.id)
	if len(c.pending) == 0 && c.emptied != nil {
		close(c.emptied)
		c.emptied = nil
	}
	if len(c.pending) < maxPipelined && c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// giveUp takes all requests off the list and returns them.
func (c *conn) giveUp() []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var given []*request
	for _, q := range c.pending {
		c.remove(q)
		given = append(given, q)
	}
	return given
}

// wakeFor has the client's goroutine answer a request that timed out.
func (c *conn) wakeFor(q *request) {
	c.mu.Lock()
	ours := c.pending[q.id] == q
	if ours {
		c.late = append(c.late, q)
	}
	c.mu.Unlock()
	if ours {
		c.woken.Store(true)
		c.wake()
	}
}

// answerLate answers the requests that timed out, or were lost with a shared
// link; those of which nothing has come may be sent once more.
func (c *conn) answerLate() error {
	c.mu.Lock()
	late := c.late
	c.late = nil
	c.mu.Unlock()
	for _, q := range late {
		if q.again {
			if err := c.sendAgain(q); err != nil {
				return err
			}
			continue
		}
		err := q.finish(func(dst []byte) []byte {
			return wire.AppendResult(dst, q.id, wire.ResponseTo(q.op), refuseUnavailable.code, refuseUnavailable.diagnostic)
		})
		if err != nil {
			return err
		}
	}
	return c.w.Flush()
}

// inUse reports whether a message ID belongs to a request under way.
func (c *conn) inUse(id int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending[id] != nil
}

// outstanding reports whether anything is under way.
func (c *conn) outstanding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) > 0
}

// abandon gives up a request (RFC 4511 4.11). There is no response, and an
// unknown message ID is no error.
func (c *conn) abandon(m wire.Message) (*refusal, error) {
	id, err := wire.DecodeAbandon(m.Body)
	if err != nil {
		return nil, malformed(err)
	}
	c.mu.Lock()
	q := c.pending[id]
	if q != nil {
		c.remove(q)
	}
	c.mu.Unlock()
	if q != nil {
		q.link.Abandon(q.linkID)
	}
	return nil, nil
}

// cancelValue is the requestValue of Cancel (RFC 3909 2.1).
type cancelValue struct{ ID int32 }

// cancel forwards a Cancel with the message ID that the request has upstream.
// Cancel and the cancelled request are both answered by the upstream.
func (c *conn) cancel(m wire.Message, x wire.ExtendedRequest) (*refusal, error) {
	var v cancelValue
	if rest, err := asn1.Unmarshal(x.Value, &v); err != nil || len(rest) != 0 || v.ID < 1 {
		return refuseCancelValue, nil
	}
	c.mu.Lock()
	target := c.pending[v.ID]
	c.mu.Unlock()
	if target == nil {
		return refuseNothingToCancel, nil
	}
	value, err := asn1.Marshal(cancelValue{target.linkID})
	if err != nil {
		return refuseCancelValue, nil // unreachable: an integer can be encoded
	}
	q, body := c.newRequest(m), wire.AppendExtended(nil, oidCancel, value)
	if target.group != nil {
		// Its message ID means something on its own link only.
		return c.cancelShared(m, q, target, body)
	}
	return c.send(m, q, body, m.Controls)
}

// cancelShared sends a Cancel over the shared link of the request that it cancels.
func (c *conn) cancelShared(m wire.Message, q, target *request, body []byte) (*refusal, error) {
	if m.Controls != nil {
		return refuseCannotCancel, nil
	}
	q.group, q.link = target.group, target.link
	if r := c.register(q); r != nil {
		return r, nil
	}
	var err error
	q.linkID, err = q.group.Send(q.link, m.Op, body, nil, q, true)
	if err == nil || !c.take(q) {
		return nil, nil
	}
	return refuseNothingToCancel, nil // its link is gone, and so is the request
}
