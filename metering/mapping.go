package metering

import (
	"embed"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"mete/partner"
)

// Mapping says how the access log of a gateway becomes events: which field is what,
// and nothing else is carried. Paths of requests become a declared operation, or
// "other"; addresses, headers and queries are never taken.
//
// A path names a JSON value: a.b[0].c. A key that has the dots in its name comes
// first. The first path with a value counts; "", "-", null and [] are no value. In
// an Apache log the fields are called user, time, method, path, status and bytes, in
// CSV as the first line says.
type Mapping struct {
	Name   string `yaml:"mapping"`
	About  string `yaml:"about,omitempty"`  // for people: what the gateway must be told to log
	Format string `yaml:"format"`           // json | csv | apache_combined | cloudevents
	Source string `yaml:"source,omitempty"` // default source of the events
	Type   string `yaml:"type,omitempty"`   // default usage.api

	Record []string `yaml:"record,omitempty"` // the object in the line that paths begin in; absent: the line

	ID      []string `yaml:"id,omitempty"`
	IDTrust string   `yaml:"id_trust,omitempty"` // who makes the id: gateway | edge

	Time        TimeField      `yaml:"time,omitempty"`
	App         []string       `yaml:"app,omitempty"`
	Customer    []string       `yaml:"customer,omitempty"`
	Status      []string       `yaml:"status,omitempty"`
	Latency     LatencyField   `yaml:"latency,omitempty"`
	Bytes       []string       `yaml:"bytes,omitempty"` // sent to the caller
	Class       []string       `yaml:"class,omitempty"`
	Environment []string       `yaml:"environment,omitempty"`
	Operation   OperationField `yaml:"operation,omitempty"`
	Constants   Constants      `yaml:"constants,omitempty"`
}

// TimeField is where a log says when.
type TimeField struct {
	Path    string `yaml:"path"`
	Unit    string `yaml:"unit"`    // epoch_s | epoch_ms | epoch_us | epoch_ns | rfc3339 | clf | go
	Meaning string `yaml:"meaning"` // start | end of the request; an end minus the latency is the start
}

// LatencyField is where a log says how long.
type LatencyField struct {
	Path string `yaml:"path"`
	Unit string `yaml:"unit"` // s | ms | us | ns
}

// OperationField turns a request into one of few declared operations.
type OperationField struct {
	Path   []string        `yaml:"path,omitempty"`   // the path of the request, matched by the rules and dropped
	Method []string        `yaml:"method,omitempty"` // its method, likewise
	Rules  []OperationRule `yaml:"rules,omitempty"`  // the first that matches counts
	Route  []string        `yaml:"route,omitempty"`  // a name from the gateway's own configuration, taken when no rule matches
}

// OperationRule names the requests that match all its conditions.
type OperationRule struct {
	Is        string `yaml:"is,omitempty"`     // the whole path
	Prefix    string `yaml:"prefix,omitempty"` // /Patient matches /Patient and /Patient/…, not /Patients
	Regex     string `yaml:"regex,omitempty"`  // RE2, anywhere in the path
	Method    string `yaml:"method,omitempty"`
	Operation string `yaml:"operation"`

	regex *regexp.Regexp
}

// Constants stand in where a log does not say.
type Constants struct {
	App         partner.AppID `yaml:"app,omitempty"`
	Class       Class         `yaml:"class,omitempty"`
	Environment Environment   `yaml:"environment,omitempty"`
}

// OtherOperation is the operation of a request that no rule names.
const OtherOperation = "other"

// The formats of logs.
const (
	FormatJSON        = "json"            // one object, or an array of them, on each line
	FormatCSV         = "csv"             // RFC 4180, the names of the columns first
	FormatApache      = "apache_combined" // %h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"
	FormatCloudEvents = "cloudevents"     // one structured CloudEvent on each line
)

// Who makes the ids that a mapping takes. An id that callers choose is none: who
// sends one id twice would call for free.
const (
	TrustGateway = "gateway" // the gateway makes it
	TrustEdge    = "edge"    // a header that the edge overwrites, whatever the caller sent
)

//go:embed mappings/*.yaml
var mappingFiles embed.FS

// MappingNames are the built-in mappings.
func MappingNames() []string {
	entries, err := mappingFiles.ReadDir("mappings")
	if err != nil {
		panic("metering: internal error: built-in mappings: " + err.Error())
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// BuiltInMapping is the built-in mapping of a gateway, such as nginx.
func BuiltInMapping(name string) (*Mapping, error) {
	if !slices.Contains(MappingNames(), name) {
		return nil, fmt.Errorf("mapping %q is not built in: take one of %s, or write a mapping file", name, strings.Join(MappingNames(), ", "))
	}
	b, err := mappingFiles.ReadFile(path.Join("mappings", name+".yaml"))
	if err != nil {
		return nil, err
	}
	return LoadMapping(b)
}

// Bounds of a mapping file.
const (
	MaxMapping  = 64 << 10 // bytes
	maxPathText = 200
	maxPathDots = 6
	maxPaths    = 16
	maxRules    = 1000
)

// LoadMapping reads a mapping document (YAML), strictly: an unknown key is an error,
// and every error names line and column.
func LoadMapping(text []byte) (m *Mapping, err error) {
	// The YAML library panics on some malformed documents.
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("mapping: the YAML cannot be read: %v", p)
		}
	}()
	if len(text) > MaxMapping {
		return nil, fmt.Errorf("mapping of %d bytes: at most %d are read", len(text), MaxMapping)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	if len(file.Docs) != 1 {
		return nil, fmt.Errorf("mapping: want one YAML document, not %d", len(file.Docs))
	}
	if n := fancy(file.Docs[0]); n != nil {
		at := n.GetToken().Position
		return nil, fmt.Errorf("mapping: YAML anchors, aliases and tags are not taken; write the values out (line %d, column %d)", at.Line, at.Column)
	}
	m = new(Mapping)
	if err := yaml.UnmarshalWithOptions(text, m, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	c := mappingCheck{file: file, m: m}
	c.all()
	if c.err != nil {
		return nil, c.err
	}
	return m, nil
}

// fancy is the first anchor or alias, which let a short text become a long one, or
// the first tag; nil if there is none.
func fancy(doc *ast.DocumentNode) (first ast.Node) {
	if doc.Body != nil {
		ast.Walk(visitor(func(n ast.Node) {
			switch n.Type() {
			case ast.AnchorType, ast.AliasType, ast.MergeKeyType, ast.TagType:
				if first == nil {
					first = n
				}
			}
		}), doc.Body)
	}
	return first
}

type visitor func(ast.Node)

func (v visitor) Visit(n ast.Node) ast.Visitor { v(n); return v }

// mappingCheck looks at a mapping and says the first thing that is wrong, and where.
type mappingCheck struct {
	file *ast.File
	m    *Mapping
	err  error
}

// fail says what is wrong at a place such as $.time.unit.
func (c *mappingCheck) fail(place, format string, args ...any) {
	if c.err != nil {
		return
	}
	what := fmt.Sprintf(format, args...)
	c.err = fmt.Errorf("mapping: %s: %s%s", strings.TrimPrefix(place, "$."), what, c.position(place))
}

// position is the line and column of the place, or of what it would stand in.
func (c *mappingCheck) position(place string) string {
	for place != "" {
		if p, err := yaml.PathString(place); err == nil {
			if n, err := p.FilterFile(c.file); err == nil && n != nil && n.GetToken() != nil {
				at := n.GetToken().Position
				return fmt.Sprintf(" (line %d, column %d)", at.Line, at.Column)
			}
		}
		place = place[:max(0, strings.LastIndexAny(place, ".["))]
	}
	return ""
}

func (c *mappingCheck) oneOf(place, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		c.fail(place, "%q is none of %s", value, strings.Join(allowed, ", "))
	}
}

func (c *mappingCheck) all() {
	m := c.m
	if partner.CheckID(m.Name) != nil {
		c.fail("$.mapping", "%q is no name: use lower-case letters, digits, '-', '_' or '.'", m.Name)
	}
	c.oneOf("$.format", m.Format, FormatJSON, FormatCSV, FormatApache, FormatCloudEvents)
	if m.Source != "" && (guardText(m.Source) != "" || len(m.Source) > MaxSource) {
		c.fail("$.source", "this can be no source: at most %d bytes of printable text without anything that looks like a person's data", MaxSource)
	}
	if m.Format == FormatCloudEvents {
		if len(m.Record)+len(m.ID)+len(m.App)+len(m.Customer)+len(m.Status)+len(m.Bytes)+len(m.Class)+len(m.Environment) > 0 ||
			m.Time != (TimeField{}) || m.Latency != (LatencyField{}) || m.Constants != (Constants{}) || m.Type != "" || m.Source != "" {
			c.fail("$.format", "cloudevents says everything itself: leave out all keys but mapping, about and format")
		}
		return
	}
	if m.Source == "" {
		c.fail("$.source", "name the source that the events of this log have unless told otherwise")
	}
	if m.Type == "" {
		m.Type = UsageAPI
	}
	if !strings.HasPrefix(m.Type, ownUsage) || m.Type == UsageVoided {
		c.fail("$.type", "%q: a log yields usage, a type that begins with %q", m.Type, ownUsage)
	}
	if len(m.Record) > 0 && m.Format != FormatJSON {
		c.fail("$.record", "only JSON has a record within a line")
	}
	c.id()
	c.time()
	for _, p := range []struct {
		place string
		paths []string
	}{
		{"$.record", m.Record}, {"$.id", m.ID}, {"$.app", m.App}, {"$.customer", m.Customer}, {"$.status", m.Status}, {"$.bytes", m.Bytes},
		{"$.class", m.Class}, {"$.environment", m.Environment}, {"$.operation.path", m.Operation.Path},
		{"$.operation.method", m.Operation.Method}, {"$.operation.route", m.Operation.Route},
	} {
		c.paths(p.place, p.paths)
	}
	if k := m.Constants.Class; k != "" && !CheckClass(k) {
		c.fail("$.constants.class", "%q is no class", k)
	}
	if v := m.Constants.Environment; v != "" {
		c.oneOf("$.constants.environment", string(v), string(Production), string(Sandbox))
	}
	if a := m.Constants.App; a != "" && partner.CheckID(string(a)) != nil {
		c.fail("$.constants.app", "%q is no identifier", a)
	}
	c.rules("$.operation.rules", m.Operation.Rules)
	if len(m.Operation.Rules) > 0 && len(m.Operation.Path) == 0 && len(m.Operation.Method) == 0 {
		c.fail("$.operation.rules", "rules need path or method: where the log says what was asked for")
	}
}

func (c *mappingCheck) id() {
	switch {
	case len(c.m.ID) == 0 && c.m.IDTrust != "":
		c.fail("$.id_trust", "there is no id to trust")
	case len(c.m.ID) > 0 && c.m.IDTrust == "":
		c.fail("$.id", "say id_trust: gateway (the gateway makes the id) or edge (a header that the edge overwrites); an id that callers choose is none: leave id out and lines get ids of their own")
	case len(c.m.ID) > 0:
		c.oneOf("$.id_trust", c.m.IDTrust, TrustGateway, TrustEdge)
	}
}

func (c *mappingCheck) time() {
	t := c.m.Time
	if t.Path == "" {
		c.fail("$.time", "a log must say when: path, unit and meaning")
		return
	}
	c.paths("$.time.path", []string{t.Path})
	c.oneOf("$.time.unit", t.Unit, "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "rfc3339", "clf", "go")
	c.oneOf("$.time.meaning", t.Meaning, "start", "end")
	if l := c.m.Latency; l != (LatencyField{}) {
		c.paths("$.latency.path", []string{l.Path})
		c.oneOf("$.latency.unit", l.Unit, "s", "ms", "us", "ns")
	}
}

var apacheFields = []string{"user", "time", "method", "path", "status", "bytes"}

func (c *mappingCheck) paths(place string, paths []string) {
	if len(paths) > maxPaths {
		c.fail(place, "%d paths, at most %d", len(paths), maxPaths)
	}
	for _, p := range paths {
		switch {
		case c.m.Format == FormatApache:
			c.oneOf(place, p, apacheFields...)
		case p == "" || len(p) > maxPathText || strings.Count(p, ".") > maxPathDots:
			c.fail(place, "a path has 1 to %d characters and at most %d dots", maxPathText, maxPathDots)
		}
	}
}

func (c *mappingCheck) rules(place string, rules []OperationRule) {
	if len(rules) > maxRules {
		c.fail(place, "%d rules, at most %d", len(rules), maxRules)
		return
	}
	for i := range rules {
		at := place + "[" + strconv.Itoa(i) + "]"
		if err := rules[i].compile(); err != nil {
			c.fail(at, "%v", err)
		}
	}
}

// compile checks the rule and makes it ready to match.
func (r *OperationRule) compile() error {
	given := 0
	for _, s := range []string{r.Is, r.Prefix, r.Regex} {
		if s != "" {
			given++
		}
	}
	if given > 1 || given == 0 && r.Method == "" {
		return fmt.Errorf("give one of is, prefix and regex, with or without method")
	}
	if r.Operation == "" || len(r.Operation) > MaxText || guardText(r.Operation) != "" {
		return fmt.Errorf("operation: want a name of at most %d bytes that says nothing about a person", MaxText)
	}
	if r.Regex != "" {
		re, err := regexp.Compile(r.Regex)
		if err != nil {
			return fmt.Errorf("regex: %w", err)
		}
		r.regex = re
	}
	return nil
}

// matches reports whether the rule names the request.
func (r *OperationRule) matches(method, path []byte) bool {
	if r.Method != "" && !strings.EqualFold(r.Method, string(method)) {
		return false
	}
	switch {
	case r.Is != "":
		return string(path) == r.Is
	case r.Prefix != "":
		if len(path) < len(r.Prefix) || string(path[:len(r.Prefix)]) != r.Prefix {
			return false
		}
		return len(path) == len(r.Prefix) || path[len(r.Prefix)] == '/' || strings.HasSuffix(r.Prefix, "/")
	case r.regex != nil:
		return r.regex.Match(path)
	}
	return r.Method != ""
}

// IDRule says, for people, what makes an event of this log one event.
func (m *Mapping) IDRule() string {
	const lines = "SHA-256 of source, line and its number among equal lines of the same time, within the last %d lines"
	switch {
	case m.Format == FormatCloudEvents:
		return m.Name + ": id = the id that each event carries"
	case len(m.ID) == 0:
		return fmt.Sprintf("%s: id = "+lines+"; files that overlap are safe only if each is cut at a change of time", m.Name, DuplicateWindow)
	}
	by := "made by the gateway"
	if m.IDTrust == TrustEdge {
		by = "a header that the edge must overwrite, whatever the caller sent"
	}
	return fmt.Sprintf("%s: id = %s, %s; where it is absent, "+lines, m.Name, strings.Join(m.ID, " or "), by, DuplicateWindow)
}
