package proxy

import (
	"errors"
	"log/slog"
	"time"

	"appbind/config"
	"appbind/manage"
	"appbind/wire"
)

// state is a Core with what is derived from it once. It never changes, but for what unlisted remembers.
type state struct {
	Core
	certs    *certificates   // nil: no TLS is configured
	own      *ownEntry       // what app-password sessions may see
	shared   bool            // see guard.shared
	visible  map[string]bool // the keys of secrets_visible_to
	external []externalRule
	spelled  map[string]bool // service_accounts as they are spelled there, which is how they are bound
	listed   map[string]bool // the keys of service_accounts (true), whose clients may share links, and of passthrough
	unlisted *wire.Names     // what listing found nowhere: the users who log in again and again
	manager  *manage.Manager
	virtual  bool            // app passwords are shown as entries
	managers map[string]bool // the keys of managers
	roster   *roster         // who was found to be one
	bases    []wire.DN       // users.bases
}

// newState derives the state of a core. previous lends its certificates where
// the new files cannot be read.
func newState(core Core, previous *state, log *slog.Logger) (*state, error) {
	cfg := core.Config
	st := &state{
		Core:     core,
		own:      newOwnEntry(cfg.OwnEntryAttributes, cfg.AppPasswords.Attribute),
		shared:   sharedAttribute(cfg.AppPasswords.Attribute),
		unlisted: new(wire.Names), visible: map[string]bool{}, listed: map[string]bool{}, spelled: map[string]bool{}, managers: map[string]bool{},
		virtual: cfg.AppPasswords.VirtualEntries == "show", roster: &roster{known: map[string]membership{}},
	}
	for _, dn := range cfg.Managers {
		parsed, err := wire.ParseDN(dn)
		if err != nil {
			return nil, errors.New("managers: not a DN: " + dn)
		}
		st.managers[parsed.Key()] = true
	}
	for _, dn := range cfg.Users.Bases {
		parsed, err := wire.ParseDN(dn)
		if err != nil {
			return nil, errors.New("users.bases: not a DN: " + dn)
		}
		st.bases = append(st.bases, parsed)
	}
	for _, dn := range cfg.Passthrough {
		parsed, err := wire.ParseDN(dn)
		if err != nil {
			return nil, errors.New("passthrough: not a DN: " + dn)
		}
		st.listed[parsed.Key()] = false
	}
	for _, dn := range cfg.ServiceAccounts {
		parsed, err := wire.ParseDN(dn)
		if err != nil {
			return nil, errors.New("service_accounts: not a DN: " + dn)
		}
		st.listed[parsed.Key()], st.spelled[dn] = true, true
	}
	st.manager = manage.New(cfg, core.Upstream, st.shared, time.Now).WithJournal(core.Journal).WithTurns(core.Verifier)
	for _, dn := range cfg.SecretsVisibleTo {
		parsed, err := wire.ParseDN(dn)
		if err != nil {
			return nil, errors.New("secrets_visible_to: not a DN: " + dn)
		}
		st.visible[parsed.Key()] = true
	}
	var err error
	if st.external, err = newExternalRules(cfg.External); err != nil {
		return nil, err
	}
	if st.certs, err = newCertificates(cfg.TLS, previous.certs, log); err != nil {
		return nil, err
	}
	for _, l := range cfg.Listeners {
		if l.URL.Scheme == "ldaps" && st.certs == nil {
			return nil, errors.New("listener " + listenerName(l) + " needs tls.certificate and tls.key")
		}
	}
	return st, nil
}

// seesSecrets reports whether dn, as which the client has bound upstream, is
// listed in secrets_visible_to. The upstream has verified the bind, so the
// comparable form is enough here.
func (st *state) seesSecrets(dn string) bool {
	if len(st.visible) == 0 {
		return false
	}
	parsed, err := wire.ParseDN(dn)
	return err == nil && st.visible[parsed.Key()]
}

// seesSecrets reports whether the client may see the secrets attribute, by the
// configuration of its bind and by that of the moment.
func (c *conn) seesSecrets(st *state) bool { return c.sess.visible && st.seesSecrets(c.sess.dn) }

// isService reports whether dn is listed in service_accounts.
func (st *state) isService(dn string) bool {
	service, _ := st.listing(dn)
	return service
}

// listing reports whether dn is listed in service_accounts, and whether in these or in passthrough.
func (st *state) listing(dn string) (service, listed bool) {
	if st.spelled[dn] {
		return true, true
	}
	if st.unlisted.Has(dn) {
		return false, false
	}
	parsed, err := wire.ParseDN(dn)
	if err == nil {
		service, listed = st.listed[parsed.Key()]
	}
	if !listed {
		st.unlisted.Add(dn)
	}
	return service, listed
}

// guard is the guard over the secrets attribute with the schema of the moment.
func (st *state) guard() guard {
	return guard{schema: st.Upstream.Schema(), shared: st.shared}
}

// limits are the limits of the moment.
func (s *Server) limitsNow() *config.Limits { return &s.state.Load().Config.Limits }
