// A Go program with cgo: what it reads through libc is served; what it reads through package os is not.
package main

/*
#include <stdio.h>
#include <stdlib.h>
#include <dirent.h>
static long size_of(const char* path) { FILE* f = fopen(path, "r"); if (!f) return -1; fseek(f, 0, SEEK_END); long n = ftell(f); fclose(f); return n; }
static long count_of(const char* path) { DIR* d = opendir(path); long n = 0; if (!d) return -1; while (readdir(d)) ++n; closedir(d); return n; }
*/
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

func main() {
	folder, file := C.CString(os.Args[1]), C.CString(os.Args[1]+"/text/00.txt")
	fmt.Println("libc", C.count_of(folder) > 0, C.size_of(file))
	C.free(unsafe.Pointer(folder))
	C.free(unsafe.Pointer(file))
	_, err := os.ReadFile(os.Args[1] + "/text/00.txt")
	fmt.Println("os", err)
}
