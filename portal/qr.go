package portal

import (
	"fmt"
	"image/color"
	"strings"

	"github.com/boombuler/barcode/qr"
)

// qrCode is a QR code as the parts of an SVG picture in the page itself: a request of its own for the picture would have to carry
// the secret, or the server to keep it.
type qrCode struct {
	Size int    // modules, with the quiet zone
	Path string // of the dark ones
}

// quiet is the empty margin that readers need, in modules.
const quiet = 4

func newQR(text string) (*qrCode, error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return nil, fmt.Errorf("no QR code: %w", err)
	}
	var b strings.Builder
	size := code.Bounds().Dx()
	for y := range size {
		for x := 0; x < size; x++ {
			run := 0
			for x+run < size && code.At(x+run, y) == color.Black {
				run++
			}
			if run > 0 {
				fmt.Fprintf(&b, "M%d %dh%dv1h-%dz", x+quiet, y+quiet, run, run)
				x += run
			}
		}
	}
	return &qrCode{size + 2*quiet, b.String()}, nil
}
