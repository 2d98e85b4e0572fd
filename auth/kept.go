package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"appbind/secrets"
)

// What is remembered of service accounts for an outage can outlive the process: whoever keeps it asks for
// KeptServices, and the next process hands it to RestoreServices. A password is kept as argon2id of a digest of account and
// password, since the key of the HMACs ends with the process. The hash is computed once, when the upstream takes a password.
//
// What was restored serves in the outage in which the process was started: the first answer of the upstream to a bind as
// that account, whatever it is, puts an end to it, since nothing tells whether it is about the same password.

// KeptService is what is kept of a listed service account.
type KeptService struct {
	DN   string    // as configured
	Hash string    // argon2id; nothing that a user could log in with
	At   time.Time // when the upstream took the password
}

// KeepServices turns the computing of the hashes on or off; off to begin with.
func (m *Memory) KeepServices(on bool) {
	m.services.mu.Lock()
	defer m.services.mu.Unlock()
	m.services.keep = on
}

// KeptServices are the accounts of which a hash is known, by DN.
func (m *Memory) KeptServices() []KeptService {
	m.services.mu.Lock()
	defer m.services.mu.Unlock()
	var list []KeptService
	for dn, k := range m.services.known {
		if k.hash != "" {
			list = append(list, KeptService{dn, k.hash, k.at})
		}
	}
	slices.SortFunc(list, func(a, b KeptService) int { return strings.Compare(a.DN, b.DN) })
	return list
}

// RestoreServices remembers what an earlier process has kept, of accounts of which nothing is known yet.
func (m *Memory) RestoreServices(list []KeptService) {
	m.services.mu.Lock()
	defer m.services.mu.Unlock()
	for _, k := range list {
		if m.services.known[k.DN] == nil && len(m.services.known) < maxServices {
			m.services.known[k.DN] = &service{at: k.At, hash: k.Hash}
		}
	}
}

// restored reports whether the password itself has not been seen in this process.
func (k *service) restored() bool { return k.password == digest{} }

// hashed is what the hash of an account's password is made of.
func hashed(dn string, password []byte) []byte {
	name := sha256.Sum256([]byte(dn))
	sum := sha256.Sum256(append(name[:], password...))
	return hex.AppendEncode(nil, sum[:])
}

// serviceEntry stands for an account among the entries whose passwords are hashed.
func serviceEntry(dn string) string { return "service account " + dn }

// hashService computes the hash of a password that the upstream has just taken. Without room for it now, the next bind tries again.
func (m *Memory) hashService(dn string, password Password, known digest) {
	hash := ""
	defer func() { m.services.learnt(dn, known, hash) }()
	entry, memory := serviceEntry(dn), int64(keptMemory)
	if m.hashing.slots.acquire(context.Background(), entry, memory) != nil {
		return
	}
	defer m.hashing.slots.release(entry, memory)
	m.hashing.computed.Add(1)
	if text, err := secrets.Hash(secrets.Argon2id, hashed(dn, password), nil); err == nil {
		hash = text
	}
}

// keptMemory is what one hash takes.
const keptMemory = 20 << 20

// learnt notes the hash of a password, unless it is another one by now.
func (s *services) learnt(dn string, password digest, hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[dn]; k != nil && k.password == password {
		k.hash, k.hashing = hash, false
	}
}

// unproven is the hash of an account whose password has not been seen in this process; "" where it is not needed.
func (s *services) unproven(dn string, password digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[dn]; k != nil && k.restored() && !slices.Contains(k.wrong, password) {
		return k.hash
	}
	return ""
}

// proved notes that a password fits a hash that was restored.
func (s *services) proved(dn, hash string, password digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[dn]; k != nil && k.restored() && k.hash == hash {
		k.password = password
	}
}

// proveService verifies a password against what an earlier process has kept of the account; after that recall knows it.
// Its error says that it was not computed, and so not known whether the password is wrong.
func (m *Memory) proveService(ctx context.Context, dn string, password Password, known digest) error {
	hash := m.services.unproven(dn, known)
	if hash == "" {
		return nil
	}
	v := secrets.Parse([]byte("$app$service$" + hash))
	if v.Err != nil {
		return nil // nothing fits it
	}
	text := hashed(dn, password)
	fits, err := m.hashing.fits(ctx, serviceEntry(dn), m.digest(useService, serviceEntry(dn), text, v), v, text)
	if err == nil && fits {
		m.services.proved(dn, hash, known)
	}
	return err
}
