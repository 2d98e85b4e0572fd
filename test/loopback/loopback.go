// Package loopback gives servers of tests addresses to listen on.
package loopback

import "net"

// Free sets each to an address of 127.0.0.1 that was free a moment ago, and no two to the same. Whoever needs several asks for all at
// one time: of four that are drawn one after the other, two are the same once in some thousand times.
func Free(list ...*string) error {
	for _, addr := range list {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // when all have theirs
		*addr = l.Addr().String()
	}
	return nil
}
