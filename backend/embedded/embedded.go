// Package embedded is a small LDAP directory inside appbind, for a first run, for
// tests and for very small sites. It is loaded from an LDIF file and served on a
// port of the loopback interface, so that links, binds and lookups of appbind
// are the real ones.
//
// # The file
//
// Content records of LDIF (RFC 2849), read strictly: folded lines, base64,
// comments; no change records and no values from URLs. Mistakes are reported
// together, as file:line: reason. The first entry is the suffix; every other
// entry stands after the one above it. An entry needs an objectClass and the
// value that is in its name; no other schema is enforced.
//
// At the start each entry gets the operational attributes that it lacks
// (entryUUID, createTimestamp, modifyTimestamp, entryCSN), and passwords in clear in
// userPassword are replaced by bcrypt hashes in the form {CRYPT}$2a$...; what
// begins with {SCHEME} or $scheme$ is taken as a hash, {PLAIN}, {CLEAR} and
// {CLEARTEXT} as clear text. If anything was missing, the file is written then;
// otherwise after each change and before the change is acknowledged, through
// .NAME.new beside it (synced, then renamed). When that fails, the change is
// refused with unavailable (52) and nothing has changed. A file that was edited
// meanwhile is not overwritten: changes are refused until a restart. One process
// serves a file: it holds the lock .NAME.lock, which tells others where it listens.
//
// Kept are the order of entries, attributes and values, the spelling of names, and
// the lines of comments, which belong to the entry that follows or holds them and
// are written before it. Not kept are folding, empty lines between comments, the
// choice of base64, the place of a comment within an entry, the comments of
// entries that are deleted, and, when another user writes, the owner of the
// file. The mode is kept. At most 16 MiB: each change writes all of it.
//
// # Who may do what
//
//	identity                       reads                                    writes
//	cn=admin,SUFFIX                everything                               everything
//	cn=appbind,ou=services,SUFFIX  everything                               nothing
//	any other entry                all but userPassword and appPassword     nothing
//	nobody (anonymous)             the root DSE and the subschema entry     nothing
//
// There is nothing to configure. What an identity may not see is neither in its
// results nor in its filters. By the values of userPassword and appPassword
// nobody can search; their presence is all that a filter can ask for.
//
// A bind succeeds with no name and no password (anonymous), or with a DN whose
// entry has a userPassword hash that fits; app passwords are not the business of
// this directory. A name without a password is 53, everything else 49, at the
// cost of a hash where there is none to verify. A stored value presented as the
// password never fits. Until a bind has succeeded, the connection is anonymous.
//
// # Operations
//
// Bind (simple), unbind, search, add, modify, delete. Filters of every kind but
// extensible ones (53); classes match as they are written in the entry, not by
// their superclasses. Controls: paged results, permissive modify. Compare and modify DN are 53,
// in an extended response; extended operations (Who am I, StartTLS, password
// modify) are 2; SASL and LDAPv2 binds end the connection.
//
// # Limits
//
// The LDAP engine is github.com/jimlambrt/gldap. Behind appbind's own front end
// that is sufficient; its faults should be known:
//
//   - it closes the connection on abandon, compare, modify DN, filters with :dn:, SASL and
//     LDAPv2 binds and on whatever it cannot decode (the first four are kept from it here);
//   - no limit on messages and requests, and about a thousand bytes of memory for
//     each byte of a hostile message (messages over 256 KiB are kept from it here);
//   - no way to close a connection from the server's side, and an accept loop that
//     ends for good when descriptors run out: clients dial a gate of ours in
//     front of it, which owns the connections and starts it again;
//   - no extended response with a value, no criticality of known controls, filters
//     by way of their string form, and the values of a modification as undecoded BER;
//   - requests of one connection run side by side and may be answered in another order;
//   - its package for tests, with testify and testing, is linked into the binary;
//   - the gldap port itself, which nobody but the gate should dial, is open to local users too:
//     they get nothing there without a password, but can use up memory and hold
//     up Close for two seconds. A host with users who are not trusted wants a
//     directory server.
package embedded

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Directory is a running directory.
type Directory struct {
	store *store
	gate  *gate
	claim *claim
	once  sync.Once
}

// Start loads the file and serves it. It listens when Start returns. Errors of
// the file are one line each, file:line: reason. *InUse says that another process
// serves the file already.
func Start(file string, log *slog.Logger) (*Directory, error) {
	return start(file, log, time.Now)
}

func start(file string, log *slog.Logger, now func() time.Time) (*Directory, error) {
	c, err := claimFile(file)
	if err != nil {
		return nil, err
	}
	st, err := openStore(file, log, now)
	if err != nil {
		c.release()
		return nil, err
	}
	v := newVerifying()
	g, err := openGate(func() (*engine, error) { return startEngine(newHandlers(st, v, log)) }, log)
	if err != nil {
		st.close()
		c.release()
		return nil, fmt.Errorf("embedded directory: %w", err)
	}
	d := &Directory{store: st, gate: g, claim: c}
	if err := c.tell(d.URL()); err != nil {
		d.Close()
		return nil, fmt.Errorf("the lock of the embedded directory: %w", err)
	}
	return d, nil
}

// URL is where the directory listens: ldap://127.0.0.1:PORT. It stays the same until Close.
func (d *Directory) URL() string { return "ldap://" + d.gate.listener.Addr().String() }

// Close closes all connections and waits until every change that was accepted
// is on disk and every goroutine has ended. It may be called more than once.
func (d *Directory) Close() {
	d.once.Do(func() {
		d.gate.close()
		d.store.close()
		d.claim.release()
	})
}
