package phi

// clinicalResources are FHIR types, in lower case, whose name is no everyday word:
// they count in any case and in the plural. R4, and what R5 and DSTU2 call otherwise.
var clinicalResources = []string{
	"adverseevent", "allergyintolerance", "careplan", "clinicalimpression", "diagnosticorder", "diagnosticreport", "documentreference",
	"encounter", "encounterhistory", "episodeofcare", "explanationofbenefit", "familymemberhistory", "genomicstudy", "imagingselection",
	"imagingstudy", "immunization", "medicationadministration", "medicationdispense", "medicationorder", "medicationrequest",
	"medicationstatement", "molecularsequence", "nutritionintake", "observation", "patient", "procedurerequest", "referralrequest",
	"relatedperson", "riskassessment", "servicerequest",
}

// otherResources speak of one patient too; they count as FHIR writes them.
var otherResources = []string{
	"Account", "Appointment", "AppointmentResponse", "AuditEvent", "Binary", "BodyStructure", "CareTeam", "ChargeItem", "Claim",
	"ClaimResponse", "Communication", "CommunicationRequest", "Composition", "Condition", "Consent", "Coverage",
	"CoverageEligibilityRequest", "CoverageEligibilityResponse", "DetectedIssue", "Device", "DeviceAssociation", "DeviceDispense",
	"DeviceRequest", "DeviceUsage", "DeviceUseStatement", "DocumentManifest", "EnrollmentRequest", "Flag", "Goal", "Group",
	"ImmunizationEvaluation", "ImmunizationRecommendation", "Invoice", "List", "MeasureReport", "Media", "NutritionOrder", "Person",
	"Procedure", "Provenance", "QuestionnaireResponse", "RequestGroup", "RequestOrchestration", "ResearchSubject", "Schedule", "Slot",
	"Specimen", "SupplyDelivery", "SupplyRequest", "Task", "VisionPrescription",
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
		if !isResource(name) {
			continue
		}
		from := i + 1
		for at(s, from) == '/' {
			from++
		}
		end, digit := from, false
		for c := at(s, end); isAlnum(c) || c == '-' || c == '.' || c == '_' && end > from; c = at(s, end) {
			digit = digit || isDigit(c)
			end++
		}
		if id := s[from:end]; id != "" && (digit || isUpper(name[0]) && !isInteraction(id)) {
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

var searchLabels = newLabels(
	"patient", "family", "given", "birthdate", "deathdate", "death-date", "dob", "identifier", "address", "address-city",
	"address-state", "address-postalcode", "address-country", "telecom", "phone", "email", "ssn", "mrn",
)

// findQuery looks for a question mark, a second parameter, or a search parameter about
// a person.
func findQuery(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '?':
			return true
		case c == '&':
			if j := nameEnd(s, i+1); j > i+1 && at(s, j) == '=' {
				return true
			}
		default:
			if n := searchLabels.at(s, i); n > 0 && isParameter(s, i+n) {
				return true
			}
		}
	}
	return false
}

// isParameter reports whether a value follows a parameter's name that ends at i, with
// or without a modifier such as :exact.
func isParameter(s string, i int) bool {
	if at(s, i) == ':' {
		j := nameEnd(s, i+1)
		if j == i+1 {
			return false
		}
		i = j
	}
	return at(s, i) == '=' && at(s, i+1) > ' '
}

// nameEnd is where the name at i ends.
func nameEnd(s string, i int) int {
	for c := at(s, i); isAlnum(c) || c == '-' || c == '_'; c = at(s, i) {
		i++
	}
	return i
}
