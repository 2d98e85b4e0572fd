package secrets

import (
	"encoding/base64"
	"strings"
)

// Sizes of the PHC string format.
const (
	phcMinSalt = 4  // characters
	phcMaxSalt = 64 // characters
	phcMinSum  = 10 // bytes
	phcMaxSum  = 64 // bytes
)

// phcSalt are the characters of a salt; those of base64 and ".", "-".
// A salt with "." or "-" is of the format, but no algorithm here can decode it.
var phcSalt = setOf("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")

// phc is what follows $id$ of a string in PHC form: [v=N$][k=v,...$]salt$sum.
type phc struct {
	version   string // the digits behind v=; "" when there is none
	params    string // k=v,...; "" when there is none
	salt, sum []byte
}

// parsePHC reads a string with salt and sum, in base64 without padding.
func parsePHC(s string) (phc, error) {
	var p phc
	if rest, found := strings.CutPrefix(s, "v="); found {
		p.version, s, _ = strings.Cut(rest, "$")
		if _, ok, _ := decimal(p.version, 1<<31-1); !ok {
			return phc{}, ErrMalformed
		}
	}
	if field, rest, found := strings.Cut(s, "$"); found && strings.Contains(field, "=") {
		p.params, s = field, rest
	}
	salt, sum, found := strings.Cut(s, "$")
	if !found || !isOf(salt, phcSalt, phcMinSalt, phcMaxSalt) ||
		!isOf(sum, phcSalt, 1, base64.RawStdEncoding.EncodedLen(phcMaxSum)) {
		return phc{}, ErrMalformed
	}
	var err1, err2 error
	enc := base64.RawStdEncoding.Strict()
	p.salt, err1 = enc.DecodeString(salt)
	p.sum, err2 = enc.DecodeString(sum)
	if err1 != nil || err2 != nil || len(p.sum) < phcMinSum || len(p.sum) > phcMaxSum {
		return phc{}, ErrMalformed
	}
	return p, nil
}

// phcParam is a parameter that an algorithm knows: its default, and the value that was read.
type phcParam struct {
	name  string
	value int
	max   int
	given bool
}

// read sets the parameters, which may stand in any order, each once.
func (p *phc) read(params []phcParam) error {
	if p.params == "" {
		return nil
	}
	for item := range strings.SplitSeq(p.params, ",") {
		name, text, _ := strings.Cut(item, "=")
		param := find(params, name)
		if param == nil || param.given {
			return ErrMalformed
		}
		n, ok, over := decimal(text, param.max)
		if over {
			return ErrOverCap
		}
		if !ok {
			return ErrMalformed
		}
		param.value, param.given = n, true
	}
	return nil
}

func find(params []phcParam, name string) *phcParam {
	for i := range params {
		if params[i].name == name {
			return &params[i]
		}
	}
	return nil
}
