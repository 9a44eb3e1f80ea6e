package phi

// patterns is the whole guard, in the order in which they are tried. A row without
// examples on both sides fails the tests.
var patterns = [...]Pattern{
	{
		Name: "email", Text: "an e-mail address",
		Anywhere: []string{
			"jane.doe@example.org", "mailto:jane@example.org", "<jane@example.org>", "JANE@EXAMPLE.ORG", "jane@clinic.example.com",
			"jane%40example.org", "jane%2540example.org", "jane%25252540example.org", "jane@bücher.example", "jane＠example.org",
		},
		Alone: []string{"jane@example.org."},
		Passes: []string{
			"fhir@file", "@openmeter/sdk", "http-0-p0o00o0g0cksskkog88so880@docker", "pkg@v1.2", "a@b", "at@", "@example.org",
			"https://@example.org",
		},
		marks: hasAt, find: findEmail,
	},
	{
		Name: "fhir_path", Text: "a FHIR resource of a patient, such as Patient/123",
		Anywhere: []string{
			"Patient/123", "/fhir/r4/Patient/abc", "patient/123", "patients/8f14e45f", "Observation/obs-1", "Patient%2F123",
			"https://ehr.example/Encounter/e7/_history/1", "Patient/abc_1", "/MedicationRequest/x", "Condition/flu",
			"AllergyIntolerance/7", "Invoice/7", "Patient//123", "AuditEvent/a1", "MolecularSequence/s", "Patient／123",
		},
		Passes: []string{
			"Patient/{id}", "Patient/:id", "Patient/read", "Patient/$match", "Patient/_search", "patient/Observation.rs",
			"patient/Patient.read", "user/Condition.read", "patient/*.*", "Patient.read", "Practitioner/77", "billing/invoice/2026-1",
			"task/9", "inpatient/x9", "Patient", "group/7", "Patient//",
		},
		marks: hasSlash, find: findFHIRPath,
	},
	{
		Name: "ssn", Text: "a US social security number: 3-2-4 digits, or 9 behind the word ssn",
		Anywhere: []string{
			"123-45-6789", "cust-123-45-6789", "ssn:123456789", "SSN 123456789", "123 45 6789", "ssn=123-45-6789", "123_45_6789",
			"social security number: 123456789", "theSSN=123456789", "123.45.6789", "123–45–6789", "１２３-４５-６７８９",
			"123\u00ad-45-\u200b6789",
		},
		Passes: []string{
			"123-456-789", "1123-45-6789", "123-45-67890", "2026-000123", "000-12-3456", "123456789", "a123-45-6789",
			"session-123456789", "123-45 6789", "1.123.45.6789", "ssn-service-2026",
		},
		marks: hasRun, find: findSSN,
	},
	{
		Name: "mrn", Text: "a medical record, patient, member or chart number: the word, then at least 4 digits",
		Anywhere: []string{
			"mrn-0012345", "MRN: 88123", "cust_mrn_1234", "patient-10442", "patient_id=1234", "MRN E1234567", "member-id 99120",
			"medical_record_number:7712", "Patient ID: 12345", "patient.no.12345", "Medical Record No. 88123", "MR# 88123",
			"customerMrn=88123", "mrnNumber=88123", "chart number 5512", "patientId+1234",
		},
		Passes: []string{
			"mrn-service", "patient-360", "patient-portal-2026", "outpatient-2026", "mrnx-12345", "remembered-12345",
			"patients-2026", "member-2026", "MR-88123", "patient-identity-2026",
		},
		marks: hasRun, find: findMRN,
	},
	{
		Name: "medicare_id", Text: "a Medicare beneficiary identifier, such as 1EG4-TE5-MK73",
		Anywhere: []string{"1EG4-TE5-MK73", "id:1EG4-TE5-MK73.", "MBI 1EG4TE5MK73", "medicare_id=1eg4te5mk73"},
		Passes: []string{
			"1EG4-TE5-MKL3", "1EG4TE5MK73", "0EG4-TE5-MK73", "x1EG4-TE5-MK73", "1eg4-te5-mk73", "1SG4-TE5-MK73", "mbi-service-2026",
		},
		marks: hasDigit, find: findMBI,
	},
	{
		Name: "birth_date", Text: "a date of birth: a text that is only a date, a date behind dob or birth, any day before 2000, MM/DD/YYYY",
		Anywhere: []string{
			"1961-04-12", "1961/04/12", "1961-04-12T00:00:00Z", "dob-19610412", "dob=2019-04-12", "DOB 4/12/2019", "birthdate:2019-04-12",
			"born.2019-04-12", "Date of Birth: 12.04.2019", "birthDate=2019-04-12", "dob: April 12, 2019", "12.04.1961", "04-12-1961",
			"12-Apr-1961", "April 12, 1961", "12th April 1961", "Apr-12-1961", "1961-Apr-12",
		},
		Alone: []string{
			"2026-09-14", "2026/09/14", "04/12/1961", "4/2/1961", "04/12/2019", "seen 04/12/2019", "12.04.2019", "12-Apr-2019", "Apr 12, 2019",
		},
		Passes: []string{
			"inv-2026-09-14", "2026-09-14T10:00:00Z", "inv-2026-000123", "2026-13-14", "19610412", "1800-04-12", "logs/04/12/2019/x",
			"2026-09", "20260914-7", "dob", "3-1961-04", "batch-2026-09-14-3", "1.4.2", "logs/2026/09/14", "5.3.12.1956", "12-apr-2019-7",
			"mars-12-1961", "2026-11-1961",
		},
		marks: hasRun, find: findBirthDate,
	},
	{
		Name: "query", Text: "a query string, or a search parameter such as birthdate=",
		Anywhere: []string{
			"Patient?name=smith", "what?", "a%3Fb", "family=Smith", "x&birthdate=1961", "given=Jo", "family:exact=Smith",
			"address-city=Boston", "name=smith&active=true", "patient:Patient=7",
		},
		Passes: []string{"a=b", "tier=gold", "family", "family=", "forgiven=yes", "given name", "R&D", "name=gold", "a=b&", "family:=x"},
		marks:  hasQuery, find: findQuery,
	},
	{
		Name: "phone", Text: "a North American or international telephone number",
		Anywhere: []string{
			"555-234-5678", "(555) 234-5678", "555.234.5678", "1-555-234-5678", "call 555 234 5678", "app-555-234-5678",
			"tel:+4915112345678", "+15552345678", "+49 151 12345678", "+33 6 12 34 56 78", "+44 (20) 7946-0958",
		},
		Passes: []string{
			"155-234-5678", "555-134-5678", "1234-555-234-5678", "555-234-56789", "5552345678", "555.234-5678", "+123",
			"v1.555.234.5678", "555-234-5678-9", "2026-11-23T15:01:45+0100", "a+1 2", "+1-2-3-4",
		},
		marks: hasRun | hasPlus, find: findPhone,
	},
	{
		Name: "ip_address", Text: "a text that is only an IP address",
		Alone: []string{
			"83.149.9.216", "127.0.0.1", "::1", "2001:db8::8a2e:370:7334", "1:2:3:4:5:6:7:8", "fe80::1", "83.149.9.216:443", "[::1]:8080",
			"[fe80::1]", "::ffff:83.149.9.216",
		},
		Passes: []string{
			"cust-83.149.9.216", "83.149.9", "83.149.9.999", "1.2.3.4.5", "12:30:45", "urn:a::b::zz", "a:b", "83.149.9.216:x",
			"[a]:80",
		},
		marks: hasPoint, find: findIP,
	},
}
