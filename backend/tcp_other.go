//go:build !linux

package backend

import (
	"net"
	"time"
)

// setUserTimeout does nothing where the system has no such option: keep-alive notices the loss.
func setUserTimeout(*net.TCPConn, time.Duration) error { return nil }
