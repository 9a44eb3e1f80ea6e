package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// paymentFile is written here by the published format, not by the product.
func paymentFile(id string, payments ...string) string {
	var b strings.Builder
	var total int
	for _, p := range payments {
		var payout string
		var minor int
		fmt.Sscanf(p, "%s %d", &payout, &minor)
		fmt.Fprintf(&b, "P,%s,northwind,Northwind,acct,4417,%d.%02d,%s\n", payout, minor/100, minor%100, payout)
		total += minor
	}
	control := fmt.Sprintf("%d,%d.%02d", len(payments), total/100, total%100)
	body := fmt.Sprintf("H,mete-payments,1,%s,run,2026-11-20,USD,%s,operating\n%s", id, control, b.String())
	return fmt.Sprintf("%sT,%s,%s,%x\n", body, id, control, sha256.Sum256([]byte(body)))
}

func TestBank(t *testing.T) {
	log := filepath.Join(t.TempDir(), "bank.log")
	b, err := open(log)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(b)
	defer s.Close()
	put := func(name, body string) string {
		t.Helper()
		r, err := http.NewRequest(http.MethodPut, s.URL+"/files/"+name, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return strings.TrimSpace(string(text))
	}
	good := paymentFile("F-1", "P-1 4521319", "P-2 31090")
	for _, c := range []struct{ name, body, want string }{
		{"F-1.csv", good, "taken"},
		{"F-1.csv", good, "copy: known"},
		{"F-1.COPY.csv", "COPY,F-1\n" + good, "copy: known"},
		{"F-1.csv", paymentFile("F-1", "P-1 4521319", "P-2 31091"), "conflict: file F-1 has other content"},
		{"F-2.COPY.csv", "COPY,F-2\n" + paymentFile("F-2", "P-3 5"), "taken"},
		{"F-3.csv", paymentFile("F-3", "P-2 31090"), "taken"}, // and reported as paid twice
		{"F-4.csv", good[:strings.Index(good, "T,F-1")], "refused: no trailer: the file is cut off"},
		{"F-5.csv", strings.Replace(paymentFile("F-5", "P-9 5"), "0.05", "0.06", 1), "refused: count or control total is wrong"},
		{"F-6.csv", strings.Replace(paymentFile("F-6", "P-9 5"), "acct", "acc2", 1), "refused: hash is wrong"},
		{"F-7.csv", "hello", "refused: no header"},
		{"F-8.csv", strings.Replace(paymentFile("F-8", "P-9 5"), ",0.05,P-9\n", ",x,P-9\n", 1), `refused: payment P-9: amount "x"`},
	} {
		if got := put(c.name, c.body); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	check := func(b *bank) {
		t.Helper()
		if b.Files != 3 || b.Copies != 2 || len(b.Conflicts) != 1 || len(b.Refused) != 5 {
			t.Errorf("report %+v", b.Report)
		}
		if len(b.Doubles) != 1 || b.Doubles[0] != "P-2: 310.90 by F-1, again 310.90 by F-3" || b.Payments["P-2"].Times != 2 || b.Payments["P-1"].Times != 1 {
			t.Errorf("doubles %v", b.Doubles)
		}
	}
	check(b)
	want := "payout,amount,state,bank_date,bank_ref,reason\n" +
		"P-1,45213.19,paid,2026-11-20,bank-paid-P-1,\nP-2,310.90,paid,2026-11-20,bank-paid-P-2,\nP-3,0.05,paid,2026-11-20,bank-paid-P-3,\n"
	if got := b.confirmations("paid"); !bytes.Equal(got, []byte(want)) {
		t.Errorf("confirmations %s", got)
	}
	// Killed in the middle of an arrival, it knows what it answered.
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"name":"F-9.csv","bo`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 2 {
		again, err := open(log)
		if err != nil {
			t.Fatal(err)
		}
		check(again)
	}
	for path, want := range map[string]int{"/report": 200, "/confirmations?state=paid": 200, "/confirmations?state=x": 400, "/": 404} {
		answer, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, answer.StatusCode, want)
		}
	}
}

func TestRunRefuses(t *testing.T) {
	for _, c := range []struct{ log, listen, want string }{
		{"", "127.0.0.1:0", "name a file with -log: a bank forgets nothing"},
		{"x", "0.0.0.0:0", "-listen 0.0.0.0:0: only a loopback address, such as 127.0.0.1:0"},
		{"x", "nowhere", "address nowhere: missing port in address"},
	} {
		if err := run(c.log, c.listen); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
