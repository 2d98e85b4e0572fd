package proxy

import (
	"errors"
	"time"

	"appbind/backend"
	"appbind/wire"
)

// recall answers a search of a service account whose bind was accepted in an
// outage, from memory. The session has no identity upstream: when a server
// answers again it ends, and the client binds anew.
func (c *conn) recall(m wire.Message, s wire.SearchRequest) (*refusal, error) {
	if err := c.stillOutage(); err != nil {
		return nil, err
	}
	// Nothing is served that a control could ask for, and a critical one must be.
	if hasCritical(m.Controls) {
		return refuseUnavailable, nil
	}
	if r := c.guarded(m); r != nil {
		return r, nil
	}
	st := c.srv.state.Load()
	x := rewriter{guard: st.guard(), guarded: true}
	if _, r := c.stripSearch(&s, &x); r != nil {
		return r, nil
	}
	return nil, c.answerRecalled(m, c.sess.home, &s, &x, "")
}

// stillOutage ends a recalled session whose time is over: a server may answer
// again, the configuration has changed, or its password was verified too long ago.
func (c *conn) stillOutage() error {
	home := c.sess.home
	if c.srv.state.Load().Upstream != home || !time.Now().Before(c.sess.until) || !home.Down() {
		return disconnected(resultLinkLost, nil)
	}
	return nil
}

// answerRecalled answers a search with what memory holds; own as for backend.Recall.
// What memory cannot answer exactly is answered 52.
func (c *conn) answerRecalled(m wire.Message, u *backend.Upstream, s *wire.SearchRequest, x *rewriter, own string) error {
	bodies, code, err := u.Recall(s, own)
	if errors.Is(err, backend.ErrNoMatch) && own != "" {
		err = nil // of the own entry alone it is certain that the filter does not match
	}
	if err != nil {
		c.debug("search not answered from memory", err)
		return c.answer(m, refuseUnavailable)
	}
	var entries []byte
	for _, body := range bodies {
		if body, _, err = x.entry(body); err != nil {
			return c.answer(m, refuseGarbled)
		}
		entries = wire.AppendMessage(entries, m.ID, wire.OpSearchResultEntry, body, nil)
	}
	return c.w.Write(func(dst []byte) []byte {
		return wire.AppendResult(append(dst, entries...), m.ID, wire.OpSearchResultDone, code, "")
	})
}
