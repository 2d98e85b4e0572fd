package proxy

import (
	"bytes"

	"appbind/auth"
	"appbind/wire"
)

// bindCodes is the one map from the end of a bind to its result code. A code
// other than 49 says that the password was not judged.
var bindCodes = map[auth.Kind]int32{
	auth.Accepted:                wire.ResultSuccess,
	auth.Anonymous:               wire.ResultSuccess,
	auth.InvalidCredentials:      wire.ResultInvalidCredentials,
	auth.EmptyPassword:           wire.ResultUnwillingToPerform, // RFC 4513 5.1.2
	auth.AnonymousRefused:        wire.ResultInappropriateAuthentication,
	auth.ConfidentialityRequired: wire.ResultConfidentialityRequired,
	auth.MechanismNotSupported:   wire.ResultAuthMethodNotSupported,
	auth.Busy:                    wire.ResultBusy,
	auth.Unavailable:             wire.ResultUnavailable,
}

// bindDiagnostics are the texts that go with a bind's result, where one helps
// the administrator and tells nothing of the user. A 49 has none, so that all
// are the same bytes.
var bindDiagnostics = map[auth.Kind]string{
	auth.EmptyPassword:           "a name without a password is no login",
	auth.AnonymousRefused:        "anonymous binds are not accepted here",
	auth.ConfidentialityRequired: "use TLS: passwords are not accepted in clear here",
	auth.MechanismNotSupported:   "only simple binds and SASL EXTERNAL are supported",
	auth.Busy:                    "try again later",
	auth.Unavailable:             "the directory does not answer",
}

// Refusals: results that we give instead of forwarding.
var (
	refuseDuplicateID     = &refusal{wire.ResultProtocolError, "message ID is in use"}
	refuseVersion         = &refusal{wire.ResultProtocolError, "only LDAP versions 2 and 3 are supported"}
	refuseUnauthenticated = &refusal{wire.ResultStrongerAuthRequired, "bind first"}
	refuseFailedBind      = &refusal{wire.ResultInsufficientAccessRights, "the last bind failed"}
	refuseBusy            = &refusal{wire.ResultBusy, "too many requests outstanding"}
	refuseUnavailable     = &refusal{wire.ResultUnavailable, "the directory does not answer"}
	refuseGarbled         = &refusal{wire.ResultUnavailable, "the directory's answer was not understood"}
	refuseContext         = &refusal{wire.ResultInvalidDNSyntax, "a context in this DN is malformed, or not accepted on this listener"}
	refuseAppPassword     = &refusal{wire.ResultInsufficientAccessRights, "not allowed with an app password"}
	refuseOperation       = &refusal{wire.ResultUnwillingToPerform, "this operation is not supported here"}
	refuseControl         = &refusal{wire.ResultUnavailableCriticalExtension, "critical control not supported"}
	refuseNoTLS           = &refusal{wire.ResultProtocolError, "StartTLS is not configured"}
	refuseTLSActive       = &refusal{wire.ResultOperationsError, "TLS is active already"}
	refuseTLSPipelined    = &refusal{wire.ResultOperationsError, "StartTLS with requests outstanding"}
	refuseCancelValue     = &refusal{wire.ResultProtocolError, "cancelRequestValue is malformed"}
	refuseCannotCancel    = &refusal{wire.ResultCannotCancel, ""}
	refuseNothingToCancel = &refusal{wire.ResultNoSuchOperation, ""}
)

// Reasons of a Notice of Disconnection.
var (
	resultMalformed = refusal{wire.ResultProtocolError, "malformed message"}
	resultDraining  = refusal{wire.ResultUnavailable, "shutting down"}
	resultLinkLost  = refusal{wire.ResultUnavailable, "connection to the directory lost"}
	// A security association has ended unexpectedly (RFC 4511 4.4.1).
	resultRevoked = refusal{wire.ResultStrongerAuthRequired, "this login is no longer valid"}
)

func disconnected(r refusal, err error) *disconnect { return &disconnect{refusal: r, err: err} }

// malformed is the end of a client whose bytes are no LDAP.
func malformed(err error) error { return disconnected(resultMalformed, err) }

// answer writes a refusal as the result of the request m.
func (c *conn) answer(m wire.Message, r *refusal) error {
	op := wire.ResponseTo(m.Op)
	return c.w.Write(func(dst []byte) []byte { return wire.AppendResult(dst, m.ID, op, r.code, r.diagnostic) })
}

// answerBind writes the result of a bind. It is the only place where a bind is
// answered, so that nothing that happens beside the decision can change it.
func (c *conn) answerBind(id int32, d *auth.Decision, controls []byte) error {
	code, ok := bindCodes[d.Kind]
	if !ok {
		panic("appbind: internal error: bind ended in a kind without a result code")
	}
	diagnostic := bindDiagnostics[d.Kind]
	if d.Kind == auth.Accepted && d.Answer != nil {
		diagnostic = d.Answer.Diagnostic
	}
	return c.w.Write(func(dst []byte) []byte {
		if controls == nil {
			return wire.AppendResult(dst, id, wire.OpBindResponse, code, diagnostic)
		}
		r := wire.Result{Code: code, Diagnostic: []byte(diagnostic)}
		return wire.AppendMessage(dst, id, wire.OpBindResponse, r.Append(nil), controls)
	})
}

// resultPartialResults is code 9 of LDAPv2 (RFC 1777), where v3 has referral.
const resultPartialResults = 9

// v2Result turns the body of a result into what an LDAPv2 client knows: it has
// no referrals. Their URLs go into the diagnostic, as v2 servers wrote them.
func v2Result(body []byte) ([]byte, error) {
	r, err := wire.DecodeResult(body)
	if err != nil {
		return nil, err
	}
	if r.Code != wire.ResultReferral && r.Referral == nil {
		return body, nil
	}
	if r.Code == wire.ResultReferral {
		r.Code = resultPartialResults
		text := append(bytes.Clone(r.Diagnostic), "Referral:"...)
		err = wire.EachString(r.Referral, func(url []byte) bool {
			text = append(append(text, '\n'), url...)
			return true
		})
		r.Diagnostic = text
	}
	r.Referral = nil
	return r.Append(nil), err
}

// plainResult is the body of a result with code, matched DN, diagnostic and
// referral of a response of another type. Samba, for one, answers an
// unsupported critical control with an ExtendedResponse, whatever was asked.
func plainResult(body []byte) ([]byte, error) {
	r, err := wire.DecodeResult(body)
	r.Tail = nil
	return r.Append(nil), err
}

// searchCode is the code that an app-password session sees of the search in its
// place: what says something of the search, and else that we could not do it.
func searchCode(code int32) int32 {
	switch code {
	case wire.ResultSuccess, wire.ResultTimeLimitExceeded, wire.ResultSizeLimitExceeded, wire.ResultAdminLimitExceeded, wire.ResultNoSuchObject:
		return code
	}
	return wire.ResultUnavailable
}
