package auth

// Stats is what a Memory has counted since it was made, and what it holds now.
type Stats struct {
	Hashed       uint64 // slow hashes that were computed
	HashRefused  uint64 // slow hashes for which there was no room or no time
	HashQueued   int    // slow hashes that wait
	HashRunning  int    // slow hashes that are being computed
	HashMemory   int64  // bytes that these take
	Unusable     uint64 // unusable values of the secrets attribute that were skipped
	MemoryCounts []MemoryCount
}

// MemoryCount is the size of one table of a Memory.
type MemoryCount struct {
	Name string
	N    int
}

// Stats takes a snapshot. Each table is locked for as long as its length is read.
func (m *Memory) Stats() Stats {
	s := m.hashing.slots
	s.mu.Lock()
	st := Stats{HashRefused: s.refused, HashQueued: s.queued, HashRunning: len(s.running), HashMemory: s.used}
	s.mu.Unlock()
	st.Hashed, st.Unusable = m.Hashed(), m.Unusable()
	m.reportMu.Lock()
	reported := len(m.reported)
	m.reportMu.Unlock()
	st.MemoryCounts = []MemoryCount{
		{"verified", m.verified.size()},
		{"misses", m.misses.size()},
		{"parsed", m.parsed.size()},
		{"flawless", m.flawless.size()},
		{"reported", reported},
		{"codes_used", m.claims.size()},
		{"guesses", m.guesses.size() + m.generated.size()},
		{"codes_wrong", m.codes.size()},
		{"failures", m.failures.size()},
		{"absent", m.absent.size()},
		{"services", m.services.size()},
	}
	return st
}

func (f *flawless) size() (n int) {
	for i := range f.shards {
		f.shards[i].mu.Lock()
		n += len(f.shards[i].seen)
		f.shards[i].mu.Unlock()
	}
	return n
}

func (s *fitSet) size() (n int) {
	for i := range s.shards {
		s.shards[i].mu.Lock()
		n += len(s.shards[i].seen)
		s.shards[i].mu.Unlock()
	}
	return n
}

func (c *parseCache) size() (n int) {
	for i := range c.shards {
		c.shards[i].mu.RLock()
		n += len(c.shards[i].values)
		c.shards[i].mu.RUnlock()
	}
	return n
}

func (f *failures) size() (n int) {
	for i := range f.shards {
		f.shards[i].mu.Lock()
		n += len(f.shards[i].accounts)
		f.shards[i].mu.Unlock()
	}
	return n
}

func (c *claims) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.used)
}

func (t *throttle) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.recent)
}
