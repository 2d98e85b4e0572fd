package secrets

import (
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Why a value that fits is not allowed. None of them says anything about the password.
var (
	// ErrExpired says that the value's time is over.
	ErrExpired = errors.New("the app password has expired")
	// ErrService says that the value is for other services, or that the service is not known.
	ErrService = errors.New("the app password is not for this service")
	// ErrNetwork says that the value is for other addresses, or that the address is not known.
	ErrNetwork = errors.New("the app password is not for this address")
)

// Allows judges the restrictions of a value: now, the user's service in any of its
// names ("" = unknown) and the user's address (invalid = unknown). A restriction on what is
// unknown denies. The instant of expiry is the first one at which the value is no longer
// allowed. The error is ErrExpired, ErrService or ErrNetwork, or says that the value is unusable.
func (v *Value) Allows(now time.Time, service string, addr netip.Addr) error {
	if v.Err != nil {
		return v.Err
	}
	if !v.Expires.IsZero() && !now.Before(v.Expires) {
		return ErrExpired
	}
	if v.Services != nil && !v.allowsService(service) {
		return ErrService
	}
	if v.Networks != nil && !v.allowsAddr(addr) {
		return ErrNetwork
	}
	return nil
}

func (v *Value) allowsService(service string) bool {
	if service == "" {
		return false
	}
	service = CanonicalService(service)
	for _, s := range v.Services {
		if CanonicalService(s) == service {
			return true
		}
	}
	return false
}

// allowsAddr takes an IPv4 address that came over an IPv6 socket (::ffff:192.0.2.1) for what it is.
func (v *Value) allowsAddr(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, p := range v.Networks {
		if p.Contains(addr) { // false for the invalid address
			return true
		}
	}
	return false
}

// CanonicalService is the one name of a service: lower case, and for the names under
// which mail servers announce the same protocol the common one. Unknown names are their own.
func CanonicalService(name string) string {
	name = strings.ToLower(name)
	switch name {
	case "submission", "submissions", "smtps", "ssmtp", "esmtp":
		return "smtp"
	case "managesieve":
		return "sieve"
	case "imaps", "imap4":
		return "imap"
	case "pop3s", "pop":
		return "pop3"
	case "https":
		return "http"
	default:
		return name
	}
}
