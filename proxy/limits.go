package proxy

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// warnEvery bounds the lines about refused connections: a flood of them must not become a flood of lines.
const warnEvery = time.Minute

// The descriptors above limit-min(limit/4, spareDescriptors) belong to the links
// upstream and to files: a flood of clients then cannot starve those who are
// being served.
const spareDescriptors = 64

// limiter counts connections, all together and by address.
type limiter struct {
	mu       sync.Mutex // guards the fields below; no I/O under it
	total    int
	byAddr   map[netip.Prefix]int
	lastWarn time.Time
	silent   int // warnings not given since
}

// admitted is the answer of admit to a connection that may stay; all others are reasons of refusedNames.
const admitted = -1

// admit counts a connection in, unless most are there already or its
// descriptor is one of the spare ones.
func (l *limiter) admit(most int, nc net.Conn) (refused int) {
	if spare(nc) {
		return refusedDescriptors
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= most {
		return refusedConnections
	}
	l.total++
	return admitted
}

// leave is the reverse of admit.
func (l *limiter) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
}

// admitAddr counts a connection of an address in, unless most are there
// already. Loopback and unix sockets (an invalid address) are not counted.
func (l *limiter) admitAddr(most int, a netip.Addr) bool {
	if !counted(a) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := addrKey(a)
	if l.byAddr[key] >= most {
		return false
	}
	if l.byAddr == nil {
		l.byAddr = map[netip.Prefix]int{}
	}
	l.byAddr[key]++
	return true
}

// leaveAddr is the reverse of admitAddr.
func (l *limiter) leaveAddr(a netip.Addr) {
	if !counted(a) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key := addrKey(a)
	if l.byAddr[key]--; l.byAddr[key] <= 0 {
		delete(l.byAddr, key)
	}
}

func counted(a netip.Addr) bool { return a.IsValid() && !a.IsLoopback() }

// addrKey is what counts as one address: an IPv4 address, or an IPv6 /64,
// since one host may use all of those.
func addrKey(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // cannot fail: bits fit the family
	return p
}

// spare reports whether the kernel gave nc one of the descriptors that are kept
// for links upstream. It always gives the lowest free one, so a high number
// says that all below are in use.
func spare(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	high := false
	_ = raw.Control(func(fd uintptr) {
		high = uint64(fd) >= limit.Cur-min(limit.Cur/4, spareDescriptors)
	})
	return high
}

// warn logs a warning, at most one each warnEvery.
func (l *limiter) warn(log *slog.Logger, msg string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	if now.Sub(l.lastWarn) < warnEvery {
		l.silent++
		l.mu.Unlock()
		return
	}
	silent := l.silent
	l.lastWarn, l.silent = now, 0
	l.mu.Unlock()
	log.Warn(msg, append(args, "unreported", silent)...)
}
