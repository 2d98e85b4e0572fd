package embedded

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/jimlambrt/gldap"
)

// handlers answer the operations that gldap carries.
type handlers struct {
	store     *store
	verifying verifying
	log       *slog.Logger
	sessions  sessions
}

// session is one connection of a gldap server.
type session struct {
	bind     int    // number of the last bind request
	identity string // key of the entry that the connection is bound as; "" is anonymous
	dn       string
}

// sessions are the connections that have asked for a bind, by gldap's number.
type sessions struct {
	mu     sync.Mutex // guards byConn
	byConn map[int]session
}

// begin makes the connection anonymous until the bind has succeeded (RFC 4511 4.2.1).
func (s *sessions) begin(r *gldap.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byConn[r.ConnectionID()].bind < r.ID {
		s.byConn[r.ConnectionID()] = session{bind: r.ID}
	}
}

// bound gives the connection an identity, unless a later bind has begun: gldap
// runs the requests of a connection side by side.
func (s *sessions) bound(r *gldap.Request, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byConn[r.ConnectionID()].bind == r.ID {
		s.byConn[r.ConnectionID()] = session{bind: r.ID, identity: e.key, dn: e.dn}
	}
}

func (s *sessions) of(r *gldap.Request) session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byConn[r.ConnectionID()]
}

// closed forgets a connection.
func (s *sessions) closed(connection int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byConn, connection)
}

// newHandlers serve a store on one gldap server.
func newHandlers(st *store, v verifying, log *slog.Logger) *handlers {
	return &handlers{store: st, verifying: v, log: log, sessions: sessions{byConn: make(map[int]session)}}
}

// route is the dispatch table.
func (h *handlers) route() (*gldap.Mux, error) {
	mux, err := gldap.NewMux()
	if err != nil {
		return nil, err
	}
	return mux, errors.Join(
		mux.Bind(h.guarded(gldap.ApplicationBindResponse, h.bind)),
		mux.Search(h.guarded(gldap.ApplicationSearchResultDone, h.search)),
		mux.Add(h.guarded(gldap.ApplicationAddResponse, h.add)),
		mux.Modify(h.guarded(gldap.ApplicationModifyResponse, h.modify)),
		mux.Delete(h.guarded(gldap.ApplicationDelResponse, h.delete)),
		mux.ExtendedOperation(h.guarded(gldap.ApplicationExtendedResponse, h.refused), refusedOID),
		mux.DefaultRoute(h.guarded(gldap.ApplicationExtendedResponse, h.extended)),
	)
}

// errAnswered says that a handler has written its final response itself.
var errAnswered = errors.New("answered")

// guarded turns what a handler returns into the response, here and nowhere
// else. A panic would end the process, since gldap runs handlers on goroutines
// of their own: it is our mistake, and costs its request only.
func (h *handlers) guarded(response int, f func(*gldap.ResponseWriter, *gldap.Request) error) gldap.HandlerFunc {
	return func(w *gldap.ResponseWriter, r *gldap.Request) {
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					h.log.Error("appbind: internal error: panic in the embedded directory", "panic", p, "stack", string(debug.Stack()))
					err = errors.New("panic")
				}
			}()
			return f(w, r)
		}()
		if err == errAnswered {
			return
		}
		out := outcome(err)
		// A client that is gone cannot be told.
		_ = w.Write(r.NewResponse(gldap.WithApplicationCode(response), gldap.WithResponseCode(out.code),
			gldap.WithDiagnosticMessage(out.text), gldap.WithMatchedDN(out.matched)))
	}
}

// controlPermissiveModify makes a modify leave alone what is as it should be already.
const controlPermissiveModify = "1.2.840.113556.1.4.1413"

// takePermissive takes that control out of those of a modify and reports whether it was there.
func takePermissive(controls []gldap.Control) (others []gldap.Control, was bool) {
	for _, c := range controls {
		if c.GetControlType() == controlPermissiveModify {
			was = true
		} else {
			others = append(others, c)
		}
	}
	return others, was
}

// critical refuses controls that the directory does not know and must not ignore (RFC 4511 4.1.11).
func critical(controls []gldap.Control) error {
	for _, c := range controls {
		if s, ok := c.(*gldap.ControlString); ok && s.Criticality {
			return fail(resultUnavailableExtension, "critical control is not supported: "+s.ControlType)
		}
	}
	return nil
}

// bind answers success only to an anonymous bind and to a password that it has verified.
func (h *handlers) bind(_ *gldap.ResponseWriter, r *gldap.Request) error {
	h.sessions.begin(r)
	m, err := r.GetSimpleBindMessage()
	if err != nil {
		return err
	}
	if err := critical(m.Controls); err != nil {
		return err
	}
	if m.Password == "" {
		if m.UserName == "" {
			return nil // anonymous, RFC 4513 5.1.1
		}
		return fail(resultUnwilling, "a bind with a name wants a password") // RFC 4513 5.1.2
	}
	e, _, err := h.store.current.Load().find(m.UserName)
	if err != nil {
		return err
	}
	var stored []string
	if e != nil {
		stored = e.get(keyUserPassword)
	}
	if !h.verifying.any(stored, string(m.Password)) {
		return fail(resultInvalidCredentials, "")
	}
	h.sessions.bound(r, e)
	return nil
}

func (h *handlers) search(w *gldap.ResponseWriter, r *gldap.Request) error {
	m, err := r.GetSearchMessage()
	if err != nil {
		return err
	}
	if err := critical(m.Controls); err != nil {
		return err
	}
	t := h.store.current.Load()
	q, err := newQuery(t, m, t.roleOf(h.sessions.of(r).identity))
	if err != nil {
		return err
	}
	cookie, err := q.run(t, func(e *entry) error {
		out := r.NewSearchResponseEntry(e.dn)
		for _, a := range q.visible(t, e) {
			out.AddAttribute(a.name, a.values)
		}
		return w.Write(out)
	})
	var f *failure
	switch {
	case errors.As(err, &f) || err == nil && q.page == 0:
		return err
	case err != nil:
		return errAnswered // the connection is lost
	}
	done := r.NewSearchDoneResponse(gldap.WithResponseCode(resultSuccess))
	paging := &gldap.ControlPaging{}
	paging.SetCookie(cookie)
	done.SetControls(paging)
	_ = w.Write(done)
	return errAnswered
}

// writer is who asks for a change, if that one may make it.
func (h *handlers) writer(r *gldap.Request, controls []gldap.Control) (dn string, err error) {
	s := h.sessions.of(r)
	if !rights[h.store.current.Load().roleOf(s.identity)].write {
		return "", fail(resultInsufficientAccess, "only cn=admin below the suffix may write")
	}
	return s.dn, critical(controls)
}

func (h *handlers) add(_ *gldap.ResponseWriter, r *gldap.Request) error {
	m, err := r.GetAddMessage()
	if err != nil {
		return err
	}
	by, err := h.writer(r, m.Controls)
	if err != nil {
		return err
	}
	attrs := make([]attribute, len(m.Attributes))
	for i, a := range m.Attributes {
		values, err := storable(a.Type, a.Vals)
		if err != nil {
			return err
		}
		attrs[i] = attribute{name: a.Type, values: values}
	}
	return h.store.do(by, func(t *tree, s stamp) (*tree, error) { return t.add(m.DN, attrs, s) })
}

func (h *handlers) modify(_ *gldap.ResponseWriter, r *gldap.Request) error {
	m, err := r.GetModifyMessage()
	if err != nil {
		return err
	}
	controls, lenient := takePermissive(m.Controls)
	by, err := h.writer(r, controls)
	if err != nil {
		return err
	}
	changes := make([]modification, len(m.Changes))
	for i, c := range m.Changes {
		values, err := setValues(c.Modification.Vals)
		if err != nil {
			return err
		}
		if c.Operation != modifyDelete {
			if values, err = storable(c.Modification.Type, values); err != nil {
				return err
			}
		}
		changes[i] = modification{kind: c.Operation, name: c.Modification.Type, values: values, permissive: lenient}
	}
	return h.store.do(by, func(t *tree, s stamp) (*tree, error) { return t.modified(m.DN, changes, s) })
}

// storable is the values as they are stored: passwords hashed. It is slow and so stands before the change.
func storable(name string, values []string) ([]string, error) {
	if !covers(keyUserPassword, canonical(name)) {
		return values, nil
	}
	out, _, err := hashed(values)
	return out, err
}

func (h *handlers) delete(_ *gldap.ResponseWriter, r *gldap.Request) error {
	m, err := r.GetDeleteMessage()
	if err != nil {
		return err
	}
	by, err := h.writer(r, m.Controls)
	if err != nil {
		return err
	}
	return h.store.do(by, func(t *tree, _ stamp) (*tree, error) { return t.remove(m.DN) })
}

// extended answers all extended requests: gldap cannot write a response value, so
// that not even Who am I can be answered. Unknown ones are a protocol error (RFC 4511 4.12).
// The gate asks for one in the place of what gldap cannot decode.
func (h *handlers) extended(_ *gldap.ResponseWriter, _ *gldap.Request) error {
	return fail(resultProtocolError, "the embedded directory knows no extended operation")
}

// refused answers what the gate has replaced.
func (h *handlers) refused(_ *gldap.ResponseWriter, _ *gldap.Request) error {
	return fail(resultUnwilling, "the embedded directory does not support this operation or filter")
}

// setValues takes the values of a modification apart. gldap hands over the
// contents of the SET in one string, as asn1-ber has re-encoded them: OCTET
// STRINGs with definite lengths, one after the other.
func setValues(vals []string) ([]string, error) {
	malformed := fail(resultProtocolError, "malformed modification")
	if len(vals) != 1 {
		return nil, malformed
	}
	var out []string
	for rest := vals[0]; rest != ""; {
		if len(rest) < 2 || rest[0] != 0x04 {
			return nil, malformed
		}
		n, head := int(rest[1]), 2
		if n >= 0x80 {
			octets := n & 0x7f
			if octets == 0 || octets > 4 || len(rest) < 2+octets {
				return nil, malformed
			}
			n = 0
			for i := 2; i < 2+octets; i++ {
				n = n<<8 | int(rest[i])
			}
			head += octets
		}
		if n > len(rest)-head {
			return nil, malformed
		}
		out = append(out, rest[head:head+n])
		rest = rest[head+n:]
	}
	return out, nil
}
