package proxy

import "appbind/wire"

// berWhole is wire.Expect where nothing may follow.
func berWhole(b []byte, want byte) (content []byte, err error) {
	content, rest, err := wire.Expect(b, want)
	if err == nil && len(rest) != 0 {
		err = wire.ErrMalformed
	}
	return content, err
}
