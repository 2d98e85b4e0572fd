package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"appbind/secrets"
)

// Bounds of what is remembered. None is a matter of configuration: each holds
// far more than a site of a hundred thousand users needs, in some ten megabytes at most.
const (
	maxVerified = 1 << 16 // passwords known to fit a value
	maxMisses   = 1 << 16 // passwords known to fit none of the values
	maxParsed   = 1 << 15 // values kept in parsed form
	maxFlawless = 1 << 16 // entries whose values are all usable
	maxReported = 1 << 12 // unusable values that were logged
	maxClaims   = 1 << 18 // one-time codes used
	maxTrying   = 1 << 16 // entries that are being guessed at
	maxAccounts = 1 << 17 // entries whose main password was tried
	maxAbsent   = 1 << 13 // names without an entry

	// rememberFor is how long a fit or a miss that nobody asks for is kept.
	rememberFor = 24 * time.Hour
	// reportEvery is how often an unusable value is logged.
	reportEvery = time.Hour
	// claimFor outlives every one-time code: three of the longest period (secrets takes up to an hour), and some more.
	claimFor = 4 * time.Hour
)

// Guesses that are allowed, per entry.
const (
	maxGuesses  = 10 // at values without a selector, which may be chosen by people
	guessWindow = time.Minute
	maxCodes    = 5 // wrong one-time codes
	codeWindow  = 5 * time.Minute
)

// Memory is what a process remembers from bind to bind. It survives reloads of
// the configuration, is lost when the process ends, and holds nothing in clear:
// passwords stand in it as HMAC-SHA256 under a key that is drawn when the process
// starts and never leaves it. Everything is keyed by the canonical entry, never by the
// client's spelling of a name.
//
// What is forgotten when a table is full costs work, never safety:
//
//	verified, misses   a hash is computed again
//	parsed, flawless   a value is parsed again
//	reported           not logged (still counted) until an hour has made room
//	one-time codes     a new code is answered "busy": a used one is never forgotten in its time
//	guesses            a new entry is answered "busy", likewise
//	failures           an account that holds no failures goes first; else the longest unused, which
//	                   may then fail upstream once more per password
//	services           a service account is not served in an outage
//	absent names       their passwords cost a dummy bind again
type Memory struct {
	now func() time.Time

	hashers  sync.Pool // of *hasher
	parsed   parseCache
	flawless flawless
	verified *fitSet
	misses   *fitSet
	hashing  *hashing

	guesses   *throttle // at values without a selector, by passwords that people choose
	generated *throttle // the same, by passwords of the generated shape: apart, so that a revoked one leaves room for others
	codes     *throttle
	claims    *claims

	services services // of listed service accounts, for an outage

	failures *failures // of entries
	absent   *failures // of names without an entry and of entries that may not log in

	unusable atomic.Uint64
	reportMu sync.Mutex           // guards reported
	reported map[digest]time.Time // when an unusable value was last logged
}

// NewMemory makes an empty memory. now is the clock; nil is time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails (Go 1.24)
	m := &Memory{
		now:       now,
		verified:  newFitSet(maxVerified, rememberFor),
		misses:    newFitSet(maxMisses, rememberFor),
		guesses:   newThrottle(maxGuesses, guessWindow, maxTrying),
		generated: newThrottle(maxGuesses, guessWindow, maxTrying),
		codes:     newThrottle(maxCodes, codeWindow, maxTrying),
		claims:    &claims{max: maxClaims, used: make(map[digest]time.Time)},
		failures:  newFailures(maxAccounts),
		absent:    newFailures(maxAbsent),
		reported:  make(map[digest]time.Time),
	}
	m.hashing = newHashing(m.verified, now)
	m.hashers.New = func() any { return &hasher{mac: hmac.New(sha256.New, key)} }
	m.parsed.init(maxParsed)
	m.flawless.init(maxFlawless)
	m.services.known = make(map[string]*service)
	return m
}

// Unusable counts how often a value of the secrets attribute was skipped because it is unusable.
func (m *Memory) Unusable() uint64 { return m.unusable.Load() }

// Hashed counts the slow hashes that were computed.
func (m *Memory) Hashed() uint64 { return m.hashing.computed.Load() }

// report counts an unusable value and tells whether to log it: once per value and hour.
func (m *Memory) report(entry string, v *secrets.Value) bool {
	m.unusable.Add(1)
	id, now := m.digest(useReport, entry, nil, v), m.now()
	m.reportMu.Lock()
	defer m.reportMu.Unlock()
	if at, found := m.reported[id]; found && now.Sub(at) < reportEvery {
		return false
	}
	if len(m.reported) >= maxReported {
		for id, at := range m.reported {
			if now.Sub(at) >= reportEvery {
				delete(m.reported, id)
			}
		}
		if len(m.reported) >= maxReported {
			return false
		}
	}
	m.reported[id] = now
	return true
}

// digest stands for a password in all tables.
type digest [sha256.Size]byte

// The uses of digests: equal fields in two tables never make equal digests.
const (
	useVerified = 'v'
	useMisses   = 'm'
	useFailure  = 'f'
	useClaim    = 'c'
	useReport   = 'r'
	useAbsent   = 'a'
	useService  = 's'
)

type hasher struct {
	mac  hash.Hash
	text []byte
	sum  []byte
}

// digest is the HMAC over the use, the entry, the password (or other bytes) and the exact stored
// values, each with its length before it, so that no two different lists of fields are one text.
func (m *Memory) digest(use byte, entry string, password []byte, values ...*secrets.Value) (d digest) {
	h := m.hashers.Get().(*hasher)
	text := append(h.text[:0], use)
	text = binary.BigEndian.AppendUint64(text, uint64(len(entry)))
	text = append(text, entry...)
	text = binary.BigEndian.AppendUint64(text, uint64(len(password)))
	text = append(text, password...)
	for _, v := range values {
		text = binary.BigEndian.AppendUint64(text, uint64(len(v.Raw)))
		text = append(text, v.Raw...)
	}
	h.mac.Write(text)
	h.sum = h.mac.Sum(h.sum[:0])
	copy(d[:], h.sum)
	h.mac.Reset()
	clear(text) // the password must not wait in a pool
	h.text = text
	m.hashers.Put(h)
	return d
}

// fitSet remembers digests, bounded by count and by time since their last use.
type fitSet struct {
	max     int // per shard
	keepFor time.Duration
	shards  [16]fitShard
}

type fitShard struct {
	mu   sync.Mutex           // guards seen
	seen map[digest]time.Time // last used
}

func newFitSet(max int, keepFor time.Duration) *fitSet {
	s := &fitSet{keepFor: keepFor}
	s.max = max / len(s.shards)
	for i := range s.shards {
		s.shards[i].seen = make(map[digest]time.Time)
	}
	return s
}

func (s *fitSet) shard(d digest) *fitShard { return &s.shards[d[0]%16] }

func (s *fitSet) has(d digest, now time.Time) bool {
	shard := s.shard(d)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	used, found := shard.seen[d]
	if !found {
		return false
	}
	if now.Sub(used) >= s.keepFor {
		delete(shard.seen, d)
		return false
	}
	shard.seen[d] = now
	return true
}

func (s *fitSet) add(d digest, now time.Time) {
	shard := s.shard(d)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, found := shard.seen[d]; !found && len(shard.seen) >= s.max {
		for victim := range shard.seen { // any one: it costs a hash
			delete(shard.seen, victim)
			break
		}
	}
	shard.seen[d] = now
}

// claims are the one-time codes that were used: each counts once.
type claims struct {
	max int

	mu   sync.Mutex           // guards used
	used map[digest]time.Time // when
}

func (c *claims) has(d digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, found := c.used[d]
	return found
}

// claim takes a code; of any number of parallel calls exactly one gets it. errFull: there is no
// room to remember it, so it cannot be taken.
func (c *claims) claim(d digest, now time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, found := c.used[d]; found {
		return false, nil
	}
	if len(c.used) >= c.max {
		for d, at := range c.used {
			if now.Sub(at) >= claimFor {
				delete(c.used, d)
			}
		}
		if len(c.used) >= c.max {
			return false, errFull
		}
	}
	c.used[d] = now
	return true, nil
}

// release gives a code back that decided nothing.
func (c *claims) release(d digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.used, d)
}

// flawless remembers lists of values in which none is unusable. It only spares looking for
// those that are, to report them: whether a value is usable is always found out by parsing it.
type flawless struct {
	seed   maphash.Seed
	max    int // per shard
	shards [16]flawlessShard
}

type flawlessShard struct {
	mu   sync.Mutex           // guards seen
	seen map[uint64]time.Time // when a list was parsed
}

func (f *flawless) init(max int) {
	f.seed, f.max = maphash.MakeSeed(), max/len(f.shards)
	for i := range f.shards {
		f.shards[i].seen = make(map[uint64]time.Time)
	}
}

// id stands for a list of values in their order.
func (f *flawless) id(values [][]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	for _, v := range values {
		_, _ = h.Write(v) // never fails
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (f *flawless) has(id uint64, now time.Time) bool {
	shard := &f.shards[id%16]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	at, found := shard.seen[id]
	return found && now.Sub(at) < reportEvery
}

func (f *flawless) add(id uint64, now time.Time) {
	shard := &f.shards[id%16]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if len(shard.seen) >= f.max {
		for victim := range shard.seen { // any one: it costs parsing
			delete(shard.seen, victim)
			break
		}
	}
	shard.seen[id] = now
}

// parseCache keeps values in parsed form by their exact bytes.
type parseCache struct {
	seed   maphash.Seed
	max    int // per shard
	shards [16]parseShard
}

type parseShard struct {
	mu     sync.RWMutex // guards values
	values map[string]*secrets.Value
}

// maxCachedValue keeps values out of the cache that are no ordinary app passwords.
const maxCachedValue = 1024

func (c *parseCache) init(max int) {
	c.seed, c.max = maphash.MakeSeed(), max/len(c.shards)
	for i := range c.shards {
		c.shards[i].values = make(map[string]*secrets.Value)
	}
}

func (c *parseCache) parse(raw []byte) *secrets.Value {
	if len(raw) > maxCachedValue {
		return secrets.Parse(raw)
	}
	shard := &c.shards[maphash.Bytes(c.seed, raw)%16]
	shard.mu.RLock()
	v := shard.values[string(raw)]
	shard.mu.RUnlock()
	if v != nil {
		return v
	}
	v = secrets.Parse(raw)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if len(shard.values) >= c.max {
		for victim := range shard.values { // any one: it costs parsing
			delete(shard.values, victim)
			break
		}
	}
	shard.values[v.Raw] = v
	return v
}
