package metering_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mete/metering"
	"mete/partner"
)

// never are texts of the logs below that say who called, from where and about whom. A
// log holds those that its gateway writes, and nothing of them may come out.
var never = []string{
	"203.0.113", "10.0.0.", "10.244.", // addresses
	"0012345", "smith", "Patient/0", "1961-04-12", // patients, in paths, queries and fields
	"s3cret", "REDACTED", "curl", "Mozilla", "ehr.example.com", // headers
	"chosen-by-the-caller", // ids of callers
	"GET", "http://", "https://",
}

// TestGatewayLogs reads a small log in the form of each gateway: testdata/gateways
// holds the log and, record by record, what is taken of it or why it is refused.
func TestGatewayLogs(t *testing.T) {
	dir := &metering.Directory{Apps: map[partner.AppID]partner.ID{
		"northwind-scheduler": "northwind", "northwind-reminders": "northwind", "northwind_scheduler": "northwind",
	}}
	for _, name := range metering.MappingNames() {
		if name == "cloudevents" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			base := filepath.Join("testdata", "gateways", name)
			log, err := os.ReadFile(base + ".log")
			if err != nil {
				t.Fatal(err)
			}
			m := mapping(t, name)
			var o metering.LogOptions
			if len(m.App) == 0 {
				o.App = "northwind-scheduler"
			}
			l, err := m.Reader(bytes.NewReader(log), o)
			if err != nil {
				t.Fatal(err)
			}
			out := []string{"# " + m.IDRule()}
			var told bytes.Buffer // all that is said of the log, also where it is refused
			for {
				d, err := l.Next()
				if err != nil {
					break
				}
				bad := d.Refusal
				if bad == nil {
					d.Event.Accept(at)
					bad = metering.Validate(d.Event, dir, at)
				}
				if bad == nil {
					out = append(out, fmt.Sprintf("%d %s", d.Line, metering.AppendCanonical(nil, d.Event)))
					continue
				}
				out = append(out, strings.TrimSpace(fmt.Sprintf("%d refused: %s %s", d.Line, bad.Reason, bad.Field)))
				fmt.Fprintf(&told, "%+v %s\n", *bad, bad.Event)
			}
			got := strings.Join(out, "\n") + "\n"
			told.WriteString(got)
			want, err := os.ReadFile(base + ".want")
			if err != nil {
				t.Fatalf("%v; the log yields\n%s", err, got)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Error(diff)
			}
			held := 0
			for _, text := range never {
				if bytes.Contains(log, []byte(text)) {
					held++
				}
				if bytes.Contains(told.Bytes(), []byte(text)) {
					t.Errorf("%q comes out", text)
				}
			}
			if held < 6 {
				t.Errorf("the log holds only %d of the texts that must not come out", held)
			}
		})
	}
}
