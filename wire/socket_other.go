//go:build !unix

package wire

import (
	"errors"
	"syscall"
)

// rawSocket is nil: here every connection is read and written through package net.
func rawSocket(any) syscall.RawConn { return nil }

// WakeMonitor has nothing to do here.
func WakeMonitor() {}

func readNow(uintptr, []byte) (n int, again bool, err error) { return 0, false, errors.ErrUnsupported }

func writeNow(uintptr, []byte) (n int, err error) { return 0, errors.ErrUnsupported }
