// Command fakebank is a bank for crash tests: a process of its own that keeps every
// payment file it receives and reports anything that would pay twice. It reads files
// by their published format and shares no code with the product.
//
//	fakebank -log FILE [-listen 127.0.0.1:0]
//
// It prints its address, then serves PUT /files/NAME, GET /report and
// GET /confirmations?state=paid|failed|returned on loopback until it is stopped.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const readTimeout = 30 * time.Second

func main() {
	log := flag.String("log", "", "file that keeps what arrived")
	listen := flag.String("listen", "127.0.0.1:0", "address, on loopback only")
	flag.Parse()
	if err := run(*log, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "fakebank:", err)
		os.Exit(1)
	}
}

func run(log, listen string) error {
	if log == "" {
		return fmt.Errorf("name a file with -log: a bank forgets nothing")
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("-listen %s: only a loopback address, such as 127.0.0.1:0", listen)
	}
	b, err := open(log)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	s := http.Server{Handler: b, ReadTimeout: readTimeout, WriteTimeout: readTimeout}
	return s.Serve(l)
}
