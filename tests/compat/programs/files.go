// Reads everything below a folder with Go's os package, which makes its own system calls.
package main

import (
	"crypto/md5"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

func main() {
	failed := 0
	filepath.WalkDir(os.Args[1], func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var b []byte
			if b, err = os.ReadFile(p); err == nil {
				fmt.Printf("%s %x\n", p, md5.Sum(b))
			}
		}
		if err != nil {
			fmt.Println(err)
			failed = 1
		}
		return nil
	})
	os.Exit(failed)
}
