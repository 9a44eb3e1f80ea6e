package metering

import "unicode/utf8"

// Pattern is a shape of text that names a person more often than anything that
// mete meters. No pattern finds everything; these find what gets into usage data by
// accident.
type Pattern struct {
	Name string // the machine word of its refusals is "phi_" + Name
	Text string // what it looks for
	need mark   // a text without these marks cannot match
	find func(s string) bool
}

// patterns is the whole guard. A pattern is added here, with texts that it catches
// and near-misses that pass in phi_test.go.
var patterns = [...]Pattern{
	{"email", "an e-mail address", hasAt, findEmail},
	{"fhir_path", "a FHIR resource of a patient, such as Patient/123", hasSlash, findFHIRPath},
	{"ssn", "a US social security number: 3-2-4 digits, or 9 behind the word ssn", hasRun, findSSN},
	{"mrn", "a medical record, patient, member or chart number: the word, then at least 4 digits", hasRun, findMRN},
	{"medicare_id", "a Medicare beneficiary identifier, such as 1EG4-TE5-MK73", hasDigit, findMBI},
	{"birth_date", "a date of birth: a text that is only a date, a date behind dob or birth, any day before 2000, MM/DD/YYYY", hasRun, findBirthDate},
	{"query", "a query string, or a search parameter such as birthdate=", hasQuery, findQuery},
	{"phone", "a North American or international telephone number", hasRun, findPhone},
	{"ip_address", "a text that is only an IP address", hasPoint, findIP},
}

// Patterns is the table of the PHI guard.
func Patterns() []Pattern { return append([]Pattern(nil), patterns[:]...) }

func (p Pattern) reason() Reason {
	return Reason{"phi_" + p.Name, Unclean, "the text looks like " + p.Text,
		"send a name of your own that says nothing about a person; the value was not kept"}
}

// Guard names the pattern that s matches, or "" if it is clean. Percent-encoded
// text is looked at decoded as well. It allocates nothing for a clean text without
// percent signs.
func Guard(s string) string {
	if i := guard(s); i >= 0 {
		return patterns[i].Name
	}
	return ""
}

// maxUnquote is how many layers of percent-encoding the guard takes off.
const maxUnquote = 3

func guard(s string) int {
	for range maxUnquote {
		m := marks(s)
		for i := range patterns {
			if need := patterns[i].need; m&need == need && patterns[i].find(s) {
				return i
			}
		}
		if m&hasPercent == 0 {
			return -1
		}
		plain, ok := unquote(s)
		if !ok {
			return -1
		}
		s = plain
	}
	return -1
}

// guardText is the machine word why a text of an event may not be kept, "" if it may.
func guardText(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == 0x7f {
			return BadText
		} else if c >= utf8.RuneSelf {
			if !cleanUTF8(s[i:]) {
				return BadText
			}
			break
		}
	}
	if i := guard(s); i >= 0 {
		return patterns[i].reason().Word
	}
	return ""
}

func cleanUTF8(s string) bool {
	for i, r := range s {
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return false
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
	}
	return true
}

// mark is a kind of byte that a text has.
type mark uint8

const (
	hasAt mark = 1 << iota
	hasDigit
	hasRun // four digits in a row
	hasSlash
	hasQuery // ? or =
	hasPoint // . or :
	hasPercent
)

var byteMarks = [256]mark{
	'@': hasAt, '/': hasSlash, '?': hasQuery, '=': hasQuery, '.': hasPoint, ':': hasPoint, '%': hasPercent,
	'0': hasDigit, '1': hasDigit, '2': hasDigit, '3': hasDigit, '4': hasDigit,
	'5': hasDigit, '6': hasDigit, '7': hasDigit, '8': hasDigit, '9': hasDigit,
}

func marks(s string) mark {
	var m mark
	run := 0
	for i := 0; i < len(s); i++ {
		b := byteMarks[s[i]]
		m |= b
		if b != hasDigit {
			run = 0
		} else if run++; run == 4 {
			m |= hasRun
		}
	}
	return m
}

// unquote undoes percent-encoding where it is valid; ok if anything changed.
func unquote(s string) (string, bool) {
	var out []byte
	from := 0
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		v, ok := hex4([]byte{'0', '0', s[i+1], s[i+2]})
		if !ok {
			continue
		}
		out = append(append(out, s[from:i]...), byte(v))
		i += 2
		from = i + 1
	}
	if out == nil {
		return s, false
	}
	return string(append(out, s[from:]...)), true
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isDigit(c) || isLetter(c) }
func isHost(c byte) bool   { return isAlnum(c) || c == '-' || c == '.' }
func at(s string, i int) byte {
	if 0 <= i && i < len(s) {
		return s[i]
	}
	return 0
}

// digitsAt is the number of digits of s from i on.
func digitsAt(s string, i int) int {
	n := 0
	for isDigit(at(s, i+n)) {
		n++
	}
	return n
}

// findEmail looks for name@host.tld.
func findEmail(s string) bool {
	for i := 1; i < len(s); i++ {
		if s[i] != '@' || s[i-1] <= ' ' || s[i-1] == '/' || s[i-1] == ':' {
			continue
		}
		for j := i + 2; isHost(at(s, j)); j++ {
			if s[j] == '.' && isLetter(at(s, j+1)) && isLetter(at(s, j+2)) && isAlnum(s[j-1]) {
				return true
			}
		}
	}
	return false
}

// findSSN looks for 3-2-4 digits between other characters, with one separator.
func findSSN(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			if n := labelAt(s, i, ssnLabels); n > 0 {
				j := i + n + gap(s, i+n)
				if digitsAt(s, j) == 9 {
					return true
				}
			}
			continue
		}
		n := digitsAt(s, i)
		sep := at(s, i+3)
		if n == 3 && (sep == '-' || sep == ' ') && !isAlnum(at(s, i-1)) && digitsAt(s, i+4) == 2 && at(s, i+6) == sep &&
			digitsAt(s, i+7) == 4 && !isAlnum(at(s, i+11)) && s[i:i+3] != "000" {
			return true
		}
		i += n - 1
	}
	return false
}

var ssnLabels = []string{"ssn", "social", "socialsecurity", "social-security", "social_security", "itin"}

var recordLabels = []string{
	"mrn", "medrec", "medicalrecord", "medical-record", "medical_record", "medicalrecordnumber", "medical-record-number", "medical_record_number",
	"patient", "patientid", "patient-id", "patient_id", "pat-id", "pat_id",
	"memberid", "member-id", "member_id", "subscriberid", "subscriber-id", "subscriber_id",
	"chartno", "chart-no", "chart_no", "chartnumber", "chart-number", "chart_number", "mbi", "hicn",
}

// minRecordDigits keeps names such as patient-360 apart from record numbers.
const minRecordDigits = 4

// findMRN looks for the word for a record number before digits.
func findMRN(s string) bool {
	for i := 0; i < len(s); i++ {
		if n := labelAt(s, i, recordLabels); n > 0 {
			j := i + n + gap(s, i+n)
			if isLetter(at(s, j)) && isDigit(at(s, j+1)) { // MRN E1234567
				j++
			}
			if digitsAt(s, j) >= minRecordDigits {
				return true
			}
		}
	}
	return false
}

// findMBI looks for 11 characters of the shape of isMBI between others.
func findMBI(s string) bool {
	for i := 4; i+9 <= len(s); i++ {
		if s[i] == '-' && !isAlnum(at(s, i-5)) && !isAlnum(at(s, i+9)) && isMBI(s[i-4:i+9]) {
			return true
		}
	}
	return false
}

// isMBI checks 4-3-4 characters: C A AN N - A AN N - A A N N, letters upper-case
// and none of S, L, O, I, B, Z.
func isMBI(s string) bool {
	const shape = "CAXN-AXN-AANN"
	if len(s) != len(shape) {
		return false
	}
	for i := range len(shape) {
		c, digit := s[i], isDigit(s[i])
		letter := 'A' <= c && c <= 'Z' && c != 'S' && c != 'L' && c != 'O' && c != 'I' && c != 'B' && c != 'Z'
		switch shape[i] {
		case 'C':
			if !digit || c == '0' {
				return false
			}
		case 'A':
			if !letter {
				return false
			}
		case 'X':
			if !letter && !digit {
				return false
			}
		case 'N':
			if !digit {
				return false
			}
		default:
			if c != '-' {
				return false
			}
		}
	}
	return true
}

// labelAt is the length of the longest label that stands as a word at i, in any
// case, 0 if none does.
func labelAt(s string, i int, labels []string) int {
	if !isLetter(s[i]) || isLetter(at(s, i-1)) {
		return 0
	}
	longest := 0
	for _, l := range labels {
		if l[0] == s[i]|0x20 && len(l) > longest && hasFold(s, i, l) && !isLetter(at(s, i+len(l))) {
			longest = len(l)
		}
	}
	return longest
}

func hasFold(s string, i int, lower string) bool {
	if len(s)-i < len(lower) {
		return false
	}
	for j := range len(lower) {
		c := s[i+j]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[j] {
			return false
		}
	}
	return true
}

// gap is the number of characters, at most 3, between a label and its value.
func gap(s string, i int) int {
	n := 0
	for n < 3 {
		switch at(s, i+n) {
		case '-', '_', ':', '=', '#', '.', ' ', '/':
			n++
		default:
			return n
		}
	}
	return n
}

var birthLabels = []string{"dob", "birth", "birthdate", "birthday", "birth-date", "birth_date", "born", "dateofbirth", "date-of-birth", "date_of_birth"}

// findBirthDate looks for dates that no bill has: a text that is nothing but a
// date, a date behind a word for birth, a day before 2000 (when events begin), and
// the American form anywhere.
func findBirthDate(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) {
			if n := labelAt(s, i, birthLabels); n > 0 {
				j := i + n + gap(s, i+n)
				if form, _, _ := dateAt(s, j); form != noDate {
					return true
				}
			}
			continue
		}
		run := digitsAt(s, i)
		form, year, length := dateAt(s, i)
		before, after := at(s, i-1), at(s, i+length)
		switch {
		case form == noDate:
		case length == len(s) && form != compactDate:
			return true
		case form == isoDate && year < 2000 && !isDigit(after):
			return true
		case form == slashDate && !isAlnum(before) && before != '/' && !isAlnum(after) && after != '/':
			return true
		}
		i += run - 1
	}
	return false
}

type dateForm int

const (
	noDate      dateForm = iota
	isoDate              // 1961-04-12
	compactDate          // 19610412
	slashDate            // 4/12/1961, 04/12/1961
	otherDate            // 12.04.1961, 04-12-1961
)

// dateAt reads a date whose first digit stands at i, with a year from 1900 to 2099.
func dateAt(s string, i int) (form dateForm, year, length int) {
	switch n := digitsAt(s, i); {
	case n == 8:
		if y := num(s, i, 4); plausible(y, num(s, i+4, 2), num(s, i+6, 2)) {
			return compactDate, y, 8
		}
	case n == 4 && at(s, i+4) == '-' && digitsAt(s, i+5) == 2 && at(s, i+7) == '-' && digitsAt(s, i+8) == 2:
		if y := num(s, i, 4); plausible(y, num(s, i+5, 2), num(s, i+8, 2)) {
			return isoDate, y, 10
		}
	case n == 1 || n == 2:
		sep := at(s, i+n)
		if sep != '/' && sep != '.' && sep != '-' {
			break
		}
		m := digitsAt(s, i+n+1)
		if m < 1 || m > 2 || at(s, i+n+1+m) != sep || digitsAt(s, i+n+m+2) != 4 {
			break
		}
		a, b, y := num(s, i, n), num(s, i+n+1, m), num(s, i+n+m+2, 4)
		if !plausible(y, a, b) && !plausible(y, b, a) {
			break
		}
		if sep == '/' {
			return slashDate, y, n + m + 6
		}
		return otherDate, y, n + m + 6
	}
	return noDate, 0, 0
}

func num(s string, i, n int) int {
	v := 0
	for j := range n {
		v = 10*v + int(s[i+j]-'0')
	}
	return v
}

func plausible(year, month, day int) bool {
	return 1900 <= year && year < 2100 && 1 <= month && month <= 12 && 1 <= day && day <= 31
}

// clinicalResources are FHIR R4 types, in lower case, whose name is no everyday word:
// they count in any case and in the plural.
var clinicalResources = []string{
	"adverseevent", "allergyintolerance", "careplan", "clinicalimpression", "diagnosticreport", "documentreference", "encounter",
	"episodeofcare", "explanationofbenefit", "familymemberhistory", "imagingstudy", "immunization", "medicationadministration",
	"medicationdispense", "medicationrequest", "medicationstatement", "observation", "patient", "relatedperson",
	"riskassessment", "servicerequest",
}

// otherResources speak of one patient too; they count as FHIR writes them.
var otherResources = []string{
	"Account", "Appointment", "AppointmentResponse", "Binary", "BodyStructure", "CareTeam", "ChargeItem", "Claim", "ClaimResponse",
	"Communication", "CommunicationRequest", "Composition", "Condition", "Consent", "Coverage", "CoverageEligibilityRequest",
	"CoverageEligibilityResponse", "DetectedIssue", "Device", "DeviceRequest", "DeviceUseStatement", "DocumentManifest",
	"EnrollmentRequest", "Flag", "Goal", "Group", "ImmunizationEvaluation", "ImmunizationRecommendation", "Invoice", "List",
	"NutritionOrder", "Person", "Procedure", "Provenance", "QuestionnaireResponse", "RequestGroup", "ResearchSubject", "Schedule",
	"Slot", "Specimen", "SupplyRequest", "Task", "VisionPrescription",
}

// interactions are words that stand behind a type in the name of an operation.
var interactions = []string{"read", "vread", "search", "create", "update", "patch", "delete", "history", "everything", "match", "summary", "lookup", "list", "write"}

// findFHIRPath looks for a patient's resource type, a slash and an id. Templates
// (Patient/{id}), operations (Patient/$match, Patient/read) and SMART scopes
// (patient/Observation.rs) pass.
func findFHIRPath(s string) bool {
	for i := 1; i < len(s); i++ {
		if s[i] != '/' || !isLetter(s[i-1]) {
			continue
		}
		start := i
		for start > 0 && isLetter(s[start-1]) {
			start--
		}
		name := s[start:i]
		exact := 'A' <= name[0] && name[0] <= 'Z'
		if !isResource(name) {
			continue
		}
		end, digit := i+1, false
		for c := at(s, end); isAlnum(c) || c == '-' || c == '.' || c == '_' && end > i+1; c = at(s, end) {
			digit = digit || isDigit(c)
			end++
		}
		id := s[i+1 : end]
		if id == "" {
			continue
		}
		if digit || exact && !isInteraction(id) {
			return true
		}
	}
	return false
}

func isResource(name string) bool {
	for _, r := range otherResources {
		if name == r {
			return true
		}
	}
	for _, r := range clinicalResources {
		if len(name) == len(r) && hasFold(name, 0, r) ||
			len(name) == len(r)+1 && name[len(r)]|0x20 == 's' && hasFold(name, 0, r) {
			return true
		}
	}
	return false
}

func isInteraction(id string) bool {
	for _, w := range interactions {
		if len(id) == len(w) && hasFold(id, 0, w) {
			return true
		}
	}
	return false
}

var searchLabels = []string{"patient", "family", "given", "birthdate", "dob", "identifier", "address", "telecom", "phone", "email", "ssn", "mrn"}

// findQuery looks for a question mark or a search parameter about a person.
func findQuery(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '?' {
			return true
		}
		if n := labelAt(s, i, searchLabels); n > 0 && at(s, i+n) == '=' && at(s, i+n+1) > ' ' {
			return true
		}
	}
	return false
}

// findPhone looks for 3-3-4 digits of the North American plan and for + and 10 to
// 15 digits.
func findPhone(s string) bool {
	for i := 0; i < len(s); i++ {
		before := at(s, i-1)
		if s[i] == '+' && !isAlnum(before) {
			if n := digitsAt(s, i+1); n >= 10 && n <= 15 && at(s, i+1) != '0' && !isLetter(at(s, i+1+n)) {
				return true
			}
		}
		if s[i] < '2' || s[i] > '9' || isAlnum(before) || digitsAt(s, i) != 3 {
			continue
		}
		j := i + 3
		sep := at(s, j)
		if before == '(' && sep == ')' {
			if j++; at(s, j) == ' ' {
				j++
			}
			sep = at(s, j+3)
		} else if (sep == '-' || sep == '.' || sep == ' ') && (before != sep || !isDigit(at(s, i-2)) || isCountryOne(s, i)) {
			j++
		} else {
			continue
		}
		if c := at(s, j); c < '2' || c > '9' {
			continue
		}
		if digitsAt(s, j) == 3 && at(s, j+3) == sep && (sep == '-' || sep == '.' || sep == ' ') && digitsAt(s, j+4) == 4 {
			if after := at(s, j+8); !isAlnum(after) && (after != sep || !isDigit(at(s, j+9))) {
				return true
			}
		}
	}
	return false
}

// isCountryOne reports whether the number at i follows a country code: 1-555-…
func isCountryOne(s string, i int) bool {
	return at(s, i-2) == '1' && !isAlnum(at(s, i-3)) && at(s, i-3) != at(s, i-1)
}

// findIP reports whether the whole text is an IPv4 or IPv6 address.
func findIP(s string) bool {
	return isIPv4(s) || isIPv6(s)
}

func isIPv4(s string) bool {
	i := 0
	for part := range 4 {
		n := digitsAt(s, i)
		if n < 1 || n > 3 || num(s, i, n) > 255 {
			return false
		}
		i += n
		if part < 3 {
			if at(s, i) != '.' {
				return false
			}
			i++
		}
	}
	return i == len(s)
}

func isIPv6(s string) bool {
	colons, digits, short := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == ':':
			colons++
			short = short || at(s, i-1) == ':'
			digits = 0
		case isDigit(c), 'a' <= c|0x20 && c|0x20 <= 'f':
			if digits++; digits > 4 {
				return false
			}
		default:
			return false
		}
	}
	return colons == 7 || short && colons < 7
}
