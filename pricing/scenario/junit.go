package scenario

import (
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// The elements of a JUnit report, as Jenkins, GitLab and GitHub read them. There is no
// time in it: the same files give the same report.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr"`
		Failure *junitMessage `xml:"failure"`
		Error   *junitMessage `xml:"error"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as JUnit XML: a suite for each folder, a case for each
// scenario. A scenario that came out otherwise than wanted is a failure, with the
// difference as its text; one that could not be read or priced is an error.
func (r Report) WriteJUnit(w io.Writer) error {
	all := junitSuites{Name: "mete test", Tests: len(r.Files)}
	for _, f := range r.Files {
		folder := filepath.ToSlash(filepath.Dir(f.File))
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != folder {
			all.Suites = append(all.Suites, junitSuite{Name: folder})
		}
		s := &all.Suites[len(all.Suites)-1]
		c := junitCase{Name: strings.TrimSuffix(filepath.Base(f.File), Ext), Class: folder, File: filepath.ToSlash(f.File)}
		s.Tests++
		switch {
		case f.OK():
		case f.Error != "":
			c.Error = &junitMessage{f.Why(), f.Difference()}
			s.Errors++
			all.Errors++
		default:
			c.Failure = &junitMessage{f.Why(), f.Difference()}
			s.Failures++
			all.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return fmt.Errorf("JUnit report: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// Why is in one line what is not as wanted, the first of it; empty when the file is OK.
func (f FileReport) Why() string {
	if f.Error != "" {
		line, _, _ := strings.Cut(f.Error, "\n")
		return line
	}
	for _, m := range f.Months {
		for _, r := range m.Rows {
			if !r.OK {
				return fmt.Sprintf("%s, %s: %s: want %s, got %s", m.Month, m.Party, r.label(), orDash(r.Want), orDash(r.Got))
			}
		}
	}
	return ""
}
