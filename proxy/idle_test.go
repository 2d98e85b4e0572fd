//go:build !race

package proxy

import (
	"runtime"
	"testing"
	"time"
)

// TestIdleMemory: what a client that has logged in holds while it is idle, on the stack and on the heap.
func TestIdleMemory(t *testing.T) {
	const (
		clients   = 300
		mostStack = 3 << 10 // most have the smallest there is; a login takes 8 KiB
		mostHeap  = 5 << 10 // 2 KiB of it are the test's reader
	)
	first := newHotClient(t, false)
	carol := exchange{bindRequest(5, carolUser, phonePW), 0}
	first.do(&carol)
	before := memory()
	var list []*hotClient
	for range clients {
		c := dialHot(t, first.s)
		c.do(&carol)
		list = append(list, c)
	}
	var stack uint64
	for end := time.Now().Add(patience); time.Now().Before(end); <-time.After(restAfter / 4) {
		if stack = (memory().StackInuse - before.StackInuse) / clients; stack <= mostStack {
			break
		}
	}
	if stack > mostStack {
		t.Errorf("an idle client has %d bytes of stack, at most %d", stack, mostStack)
	}
	if heap := (memory().HeapAlloc - before.HeapAlloc) / clients; heap > mostHeap {
		t.Errorf("an idle client has %d bytes on the heap, at most %d", heap, mostHeap)
	}
	for _, c := range list { // they are served as before
		c.do(&carol)
	}
}

// memory is what is in use after a collection.
func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}
