package backend

import (
	"errors"
	"math"

	"appbind/wire"
)

// request is one outstanding request of a link.
type request struct {
	sink  Sink
	op    wire.Op
	watch bool
	heard int64    // the caretaker's round in which it was sent or last answered
	next  *request // in the free list
}

// pending is the outstanding requests of one link by message ID. The link's
// mutex guards it. Entries are used again, so that a request costs nothing.
type pending struct {
	byID    map[int32]*request
	last    int32 // the ID given last
	wrapped bool  // every ID was given once
	free    *request
}

// add enters a request and returns its ID: the next one after the last, from 1
// again after 2^31-1, without those outstanding. So the ID of a request that
// was given up comes back only after two thousand million others.
func (p *pending) add(r request) int32 {
	id := p.nextID()
	e := p.free
	if e == nil {
		e = new(request)
	} else {
		p.free = e.next
	}
	*e = r
	p.byID[id] = e
	return id
}

// nextID takes an ID without entering it; Abandon has no response.
func (p *pending) nextID() int32 {
	for {
		if p.last == math.MaxInt32 {
			p.last, p.wrapped = 0, true
		}
		p.last++
		if p.byID[p.last] == nil {
			return p.last
		}
	}
}

// used reports whether an ID was ever given.
func (p *pending) used(id int32) bool { return p.wrapped || id <= p.last }

// remove takes a request out and reports its sink; nil when it is not outstanding.
func (p *pending) remove(id int32) Sink {
	e := p.byID[id]
	if e == nil {
		return nil
	}
	sink := e.sink
	delete(p.byID, id)
	*e = request{next: p.free}
	p.free = e
	return sink
}

// Reasons for which a message from upstream loses the link.
var (
	errUnknownID  = errors.New("response with a message ID that was never used")
	errWrongOp    = errors.New("response that does not fit its request")
	errDisconnect = errors.New("server announced that it disconnects")
	errNotNotice  = errors.New("message ID 0 on something else than a notice")
)

// classify reports whether a response of type got may answer a request of type
// op, and whether it ends it.
func classify(op, got wire.Op) (final, ok bool) {
	switch got {
	case wire.ResponseTo(op), wire.OpExtendedResponse:
		return true, true
	case wire.OpIntermediateResponse:
		return false, true
	case wire.OpSearchResultEntry, wire.OpSearchResultReference:
		return false, op == wire.OpSearchRequest
	}
	return false, false
}
