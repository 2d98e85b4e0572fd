package embedded

import (
	"errors"

	"github.com/jimlambrt/gldap"
)

// The result codes that the directory gives (RFC 4511 appendix A).
const (
	resultSuccess              = gldap.ResultSuccess
	resultOperationsError      = gldap.ResultOperationsError
	resultProtocolError        = gldap.ResultProtocolError
	resultSizeLimit            = gldap.ResultSizeLimitExceeded
	resultUnavailableExtension = gldap.ResultUnavailableCriticalExtension
	resultNoSuchAttribute      = gldap.ResultNoSuchAttribute
	resultUndefinedType        = gldap.ResultUndefinedAttributeType
	resultConstraint           = gldap.ResultConstraintViolation
	resultValueExists          = gldap.ResultAttributeOrValueExists
	resultInvalidSyntax        = gldap.ResultInvalidAttributeSyntax
	resultNoSuchObject         = gldap.ResultNoSuchObject
	resultInvalidDNSyntax      = gldap.ResultInvalidDNSyntax
	resultInvalidCredentials   = gldap.ResultInvalidCredentials
	resultInsufficientAccess   = gldap.ResultInsufficientAccessRights
	resultUnavailable          = gldap.ResultUnavailable
	resultUnwilling            = gldap.ResultUnwillingToPerform
	resultNaming               = gldap.ResultNamingViolation
	resultObjectClass          = gldap.ResultObjectClassViolation
	resultNotAllowedOnNonLeaf  = gldap.ResultNotAllowedOnNonLeaf
	resultNotAllowedOnRDN      = gldap.ResultNotAllowedOnRDN
	resultEntryExists          = gldap.ResultEntryAlreadyExists
	resultOther                = gldap.ResultOther
)

// failure is an LDAP result other than success. Its text goes to the client and
// names attributes and DNs at most, never a value.
type failure struct {
	code    int
	text    string
	matched string
}

func (f *failure) Error() string { return f.text }

func fail(code int, text string) error { return &failure{code: code, text: text} }

// outcome is the result of an error; nil is success. An error of another kind is our own mistake.
func outcome(err error) failure {
	var f *failure
	switch {
	case err == nil:
		return failure{code: resultSuccess}
	case errors.As(err, &f):
		return *f
	}
	return failure{code: resultOther, text: "internal error"}
}
