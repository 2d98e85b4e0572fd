package portal

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"
)

// passkeyTables are step 2. A passkey is an entry's by the entry's identity, as codes are, and of one relying party: rp is the
// host that it is bound to. What is stored of it are public keys and counters, which open nothing. Of a session there is one
// challenge for each use at a time.
const passkeyTables = `
CREATE TABLE portal_passkeys (
	id         TEXT NOT NULL PRIMARY KEY,
	entry      TEXT NOT NULL,
	rp         TEXT NOT NULL,
	name       TEXT NOT NULL,
	credential TEXT NOT NULL,
	counter    BIGINT NOT NULL,
	created    BIGINT NOT NULL,
	used       BIGINT NOT NULL
);
CREATE INDEX portal_passkeys_entry ON portal_passkeys (entry);
CREATE TABLE portal_challenges (
	session  TEXT NOT NULL,
	ceremony TEXT NOT NULL,
	data     TEXT NOT NULL,
	expires  BIGINT NOT NULL,
	PRIMARY KEY (session, ceremony)
)
`

// passkey is one that a user has enrolled.
type passkey struct {
	credential webauthn.Credential
	name       string // the user's
	created    time.Time
	used       time.Time // zero: never since
}

// id is the credential ID as it is stored and as a script spells it.
func (k *passkey) id() string { return base64.RawURLEncoding.EncodeToString(k.credential.ID) }

// passkeys are those of an entry at a relying party, the oldest first.
func (s *Store) passkeys(ctx context.Context, entry, rp string) (list []passkey, err error) {
	rows, err := s.db.QueryContext(ctx, "SELECT name, credential, counter, created, used FROM portal_passkeys WHERE entry = $1 AND rp = $2 ORDER BY created, id", entry, rp)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var k passkey
		var text string
		var counter, created, used int64
		if err := rows.Scan(&k.name, &text, &counter, &created, &used); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &k.credential); err != nil {
			return nil, err
		}
		k.credential.Authenticator.SignCount = uint32(counter)
		k.created = time.UnixMilli(created)
		if used > 0 {
			k.used = time.UnixMilli(used)
		}
		list = append(list, k)
	}
	return list, rows.Err()
}

// addPasskey stores a new one; false: it is somebody's already.
func (s *Store) addPasskey(ctx context.Context, entry, rp string, k *passkey) (bool, error) {
	text, err := json.Marshal(&k.credential)
	if err != nil {
		return false, err
	}
	return changed(s.db.ExecContext(ctx, `INSERT INTO portal_passkeys (id, entry, rp, name, credential, counter, created, used)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`, k.id(), entry, rp, k.name, string(text), int64(k.credential.Authenticator.SignCount), k.created.UnixMilli(), millis(k.used)))
}

// usedPasskey notes that one was proved; false: it is no longer there, or its counter has been as high already. An authenticator that
// has no counter always says 0.
func (s *Store) usedPasskey(ctx context.Context, entry string, k *passkey, now time.Time) (bool, error) {
	text, err := json.Marshal(&k.credential)
	if err != nil {
		return false, err
	}
	return changed(s.db.ExecContext(ctx, `UPDATE portal_passkeys SET credential = $3, counter = $4, used = $5
WHERE id = $1 AND entry = $2 AND (counter < $4 OR counter = 0 AND $4 = 0)`, k.id(), entry, string(text), int64(k.credential.Authenticator.SignCount), now.UnixMilli()))
}

// dropPasskey deletes one; false: there is none of the entry's.
func (s *Store) dropPasskey(ctx context.Context, entry, id string) (bool, error) {
	return changed(s.db.ExecContext(ctx, "DELETE FROM portal_passkeys WHERE id = $1 AND entry = $2", id, entry))
}

// challenge stores what the answer of a ceremony is held against, in place of an earlier one of the session.
func (s *Store) challenge(ctx context.Context, session, ceremony, data string, expires time.Time) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO portal_challenges (session, ceremony, data, expires) VALUES ($1, $2, $3, $4)
ON CONFLICT (session, ceremony) DO UPDATE SET data = excluded.data, expires = excluded.expires`, session, ceremony, data, expires.UnixMilli())
	return err
}

// takeChallenge uses one up; "": there is none, or it is over. Of several at one time one gets it.
func (s *Store) takeChallenge(ctx context.Context, session, ceremony string, now time.Time) (data string, err error) {
	var expires int64
	err = s.db.QueryRowContext(ctx, "DELETE FROM portal_challenges WHERE session = $1 AND ceremony = $2 RETURNING data, expires", session, ceremony).Scan(&data, &expires)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", err
	case now.UnixMilli() >= expires, expires-now.UnixMilli() > (challengeTime + skew).Milliseconds(): // the latter: the clock was put back
		return "", nil
	}
	return data, nil
}

// changed reports whether a statement changed one row.
func changed(r sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}
