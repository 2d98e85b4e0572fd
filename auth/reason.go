package auth

// Reasons are the fixed words of Decision.Reason, for the log and for people who
// count log lines. None of them reaches a client.
const (
	ReasonMechanism        = "sasl mechanism not supported"
	ReasonExternalUnknown  = "external identity not mapped"
	ReasonExternal         = "external identity passed through"
	ReasonEmptyPassword    = "empty password"
	ReasonAnonymous        = "anonymous"
	ReasonAnonymousRefused = "anonymous refused"
	ReasonClearText        = "clear text refused"
	ReasonContext          = "context in the name not believed"
	ReasonTooLong          = "password too long"
	ReasonListed           = "listed account passed through"
	ReasonLookup           = "lookup failed"
	ReasonNotFound         = "no such user"
	ReasonAmbiguous        = "name is ambiguous"
	ReasonNotUser          = "not a user, passed through"
	ReasonIneligible       = "not eligible or disabled"
	ReasonStoredSecret     = "password is a stored secret"
	ReasonAppPassword      = "app password"
	ReasonExpired          = "app password expired"
	ReasonService          = "app password not for this service"
	ReasonNetwork          = "app password not for this address"
	ReasonDenied           = "app password not allowed"
	ReasonOff              = "app passwords are switched off"
	ReasonHashing          = "no room for hashing"
	ReasonGuesses          = "too many guesses at app passwords"
	ReasonNoAppPassword    = "no such app password"
	ReasonMistyped         = "app password mistyped"
	ReasonAppWithCode      = "app password with a one-time code"
	ReasonAppSignIn        = "app password where only the main password counts"
	ReasonFallbackDenied   = "main password not allowed here"
	ReasonFallbackFilter   = "main password not allowed for this user"
	ReasonFilterFailed     = "fallback filter failed"
	ReasonTOTPMissing      = "one-time code required, none enrolled"
	ReasonTOTPMalformed    = "stored one-time code value malformed"
	ReasonCodeMissing      = "one-time code missing"
	ReasonCodeWrong        = "one-time code wrong"
	ReasonCodeUsed         = "one-time code used before"
	ReasonCodesThrottled   = "too many wrong one-time codes"
	ReasonCodesBusy        = "no room to remember one-time codes"
	ReasonKnownBad         = "password known to be wrong"
	ReasonBudget           = "failure budget used up"
	ReasonMain             = "main password"
	ReasonUpstreamRefused  = "refused by the upstream"
	ReasonLocked           = "account locked"
	ReasonAccount          = "account not usable" // disabled, expired, must change its password ...: not the password's fault
	ReasonUpstream         = "upstream in trouble"
	ReasonAppPasswordStale = "app password, no server answers"
	ReasonRemembered       = "listed account remembered, no server answers"
	ReasonOutage           = "no server answers"
	ReasonInternal         = "internal error"
)

// Reasons lists all of them.
func Reasons() []string {
	return []string{
		ReasonMechanism, ReasonExternalUnknown, ReasonExternal, ReasonEmptyPassword, ReasonAnonymous, ReasonAnonymousRefused,
		ReasonClearText, ReasonContext, ReasonTooLong, ReasonListed, ReasonLookup, ReasonNotFound, ReasonAmbiguous, ReasonNotUser,
		ReasonIneligible, ReasonStoredSecret, ReasonAppPassword, ReasonExpired, ReasonService, ReasonNetwork, ReasonDenied, ReasonOff,
		ReasonHashing, ReasonGuesses, ReasonNoAppPassword, ReasonMistyped, ReasonAppWithCode, ReasonAppSignIn, ReasonFallbackDenied,
		ReasonFallbackFilter, ReasonFilterFailed, ReasonTOTPMissing, ReasonTOTPMalformed, ReasonCodeMissing, ReasonCodeWrong,
		ReasonCodeUsed, ReasonCodesThrottled, ReasonCodesBusy, ReasonKnownBad, ReasonBudget, ReasonMain, ReasonUpstreamRefused,
		ReasonLocked, ReasonAccount, ReasonUpstream, ReasonAppPasswordStale, ReasonRemembered,
		ReasonOutage, ReasonInternal,
	}
}
