// What a Go program inherits as standard input is a descriptor like any other.
package main

import (
	"crypto/md5"
	"fmt"
	"io"
	"os"
)

func main() {
	h := md5.New()
	n, err := io.Copy(h, os.Stdin)
	st, _ := os.Stdin.Stat()
	fmt.Printf("%d %x %v %d\n", n, h.Sum(nil), err, st.Size())
}
