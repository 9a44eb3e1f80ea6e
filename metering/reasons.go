package metering

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"mete/metering/phi"
)

// Reason is why an event was refused, as a machine word that never changes its
// meaning, a text for people and what to do about it.
type Reason struct {
	Word   string
	Class  string // Unclean or Unusable
	Text   string
	Remedy string
}

// The machine words of refusals. Those of the PHI guard are "phi_" and the name of
// the pattern, see [phi.Patterns].
const (
	Undecodable    = "undecodable"
	TooLarge       = "too_large"
	TooComplex     = "too_complex"
	DuplicateField = "duplicate_field"
	WrongType      = "wrong_type"
	BadSpecVersion = "bad_specversion"
	BadAttribute   = "bad_attribute"
	BadTime        = "bad_time"
	BadNumber      = "bad_number"
	BadText        = "bad_text"
	BadIdentifier  = "bad_identifier"
	DataNotJSON    = "data_not_json"
	DataTwice      = "data_twice"
	UnknownField   = "unknown_field"
	TooLong        = "too_long"

	MissingField       = "missing_field"
	UnknownType        = "unknown_type"
	UnknownApp         = "unknown_app"
	UnknownClass       = "unknown_class"
	UnknownEnvironment = "unknown_environment"
	UnknownCurrency    = "unknown_currency"
	UnknownDimension   = "unknown_dimension"
	UnknownSource      = "unknown_source"
	SourceNotYours     = "source_not_yours"
	AppNotOfSource     = "app_not_of_source"
	TooManyDimensions  = "too_many_dimensions"
	TooFine            = "too_fine"
	OutOfRange         = "out_of_range"
	TimeTooOld         = "time_too_old"
	TimeInFuture       = "time_in_future"
	RefersToItself     = "refers_to_itself"
	BadExtension       = "bad_extension"
)

// reasons is the whole table but for the PHI patterns, which say it themselves.
var reasons = [...]Reason{
	{Undecodable, Unclean, "the event cannot be read", "send valid JSON (RFC 8259, UTF-8), or lines of the declared log format"},
	{TooLarge, Unclean, "the event or line is larger than allowed", "send only the fields that mete meters; an event has at most 64 KiB, a log line 1 MiB"},
	{TooComplex, Unclean, "the event has more JSON values than allowed", "send only the fields that mete meters"},
	{DuplicateField, Unclean, "a JSON key stands twice in one object", "send each key once: readers disagree about which one counts"},
	{WrongType, Unclean, "a field has another JSON type than it must have", "text fields take JSON strings, counts take JSON numbers, data and dimensions take objects, amounts take either"},
	{BadSpecVersion, Unclean, "specversion is not the string \"1.0\"", "send CloudEvents 1.0 with \"specversion\": \"1.0\""},
	{BadAttribute, Unclean, "an attribute name has characters other than a-z and 0-9", "name attributes as CloudEvents 1.0 asks: lower-case letters and digits"},
	{BadTime, Unclean, "the time cannot be read", "send RFC 3339 such as 2026-09-14T10:00:00Z, in a log the unit its mapping names"},
	{BadNumber, Unclean, "a number cannot be read exactly", "send a plain decimal of at most 40 digits, without a thousands separator; whole numbers where things are counted"},
	{BadText, Unclean, "a text has control characters or is not UTF-8", "send printable UTF-8 text"},
	{BadIdentifier, Unclean, "a customer or dimension name is no identifier", "use lower-case letters, digits, '-', '_' or '.', at most 63 characters, beginning with a letter or digit"},
	{DataNotJSON, Unclean, "the data of the event is not JSON", "send data as a JSON object with datacontenttype application/json"},
	{DataTwice, Unclean, "data and data_base64 are both present", "send one of them"},
	{UnknownField, Unclean, "data has a field that mete does not take", "leave it out, or declare it as a dimension of a meter and send it in data.dimensions"},
	{TooLong, Unclean, "a text is longer than allowed", "shorten it: 256 bytes for id and source, 128 for other text"},

	{MissingField, Unusable, "a field that this type of event needs is absent", "send the field"},
	{UnknownType, Unusable, "the event type is not known", "use one of the documented types, or declare a meter for a type of your own that begins with \"usage.\""},
	{UnknownApp, Unusable, "the app is not in the catalogue", "register the app, then replay the event"},
	{UnknownClass, Unusable, "the class is not one of the known ones", "use certified_api, api, value_added, listing, marketplace, placement, referral, certification or support"},
	{UnknownEnvironment, Unusable, "the environment is neither production nor sandbox", "send production or sandbox, or leave it out for production"},
	{UnknownCurrency, Unusable, "the currency is no ISO 4217 code", "send an upper-case code such as USD"},
	{UnknownDimension, Unusable, "no meter of this event type declares the dimension", "declare it in a meter, then replay the event"},
	{UnknownSource, Unusable, "the source is not registered", "register the source with the credential that sends it"},
	{SourceNotYours, Unusable, "the source belongs to another credential", "send with the credential that owns the source, or register a source of your own"},
	{AppNotOfSource, Unusable, "the source may not report this app", "add the app to the source's apps, or send it from the source that reports it"},
	{TooManyDimensions, Unusable, "the event has more than 16 dimensions", "send only dimensions that a price or a report needs"},
	{TooFine, Unusable, "a number has more decimals than can be counted exactly", "round before sending: amounts to the currency's minor unit, quantities and latencies to 9 decimals"},
	{OutOfRange, Unusable, "a number lies outside its bounds", "check the unit; amounts, quantities, bytes and latencies are never negative: the event type tells the direction"},
	{TimeTooOld, Unusable, "the event lies before 2000", "check the unit of the time"},
	{TimeInFuture, Unusable, "the event lies more than 5 minutes in the future", "set the sender's clock, then replay the event"},
	{RefersToItself, Unusable, "the event refers to itself", "refers_to names the id of the earlier event; a correction has an id of its own"},
	{BadExtension, Unusable, "an extension does not say until when, by whom and why", "write the reference as: until 2026-10-31 by s.lindqvist: the auditor moved to October"},
}

// Reasons is the table of all reasons, those of the PHI guard at the end.
func Reasons() []Reason {
	all := append([]Reason(nil), reasons[:]...)
	for _, p := range phi.Patterns() {
		all = append(all, phiReason(p))
	}
	return all
}

// ReasonOf is the entry of a machine word.
func ReasonOf(word string) (Reason, bool) {
	for _, r := range reasons {
		if r.Word == word {
			return r, true
		}
	}
	for _, p := range phi.Patterns() {
		if r := phiReason(p); r.Word == word {
			return r, true
		}
	}
	return Reason{}, false
}

// refuse makes a refusal out of the table. What says it more exactly than the
// table's text; for the unclean class it must never contain a value that was sent.
func refuse(word, field, what string) *Refusal {
	r, ok := ReasonOf(word)
	if !ok {
		panic("metering: internal error: no reason " + word)
	}
	if what == "" {
		what = r.Text
	}
	if field != "" {
		what = field + ": " + what
	}
	return &Refusal{Class: r.Class, Reason: word, Field: field, Detail: what + "; " + r.Remedy}
}

// Seal completes a refusal with the digest of the raw bytes that were refused, where
// they were found and when. Its receipt follows from these facts and its sender but not
// the time, so that the same refusal told again is the same refusal.
func (r *Refusal) Seal(raw []byte, where string, at time.Time) {
	digest := sha256.Sum256(raw)
	r.Digest = hex.EncodeToString(digest[:])
	r.Where = where
	r.ReceivedAt = at
	b := appendLengthed(nil, r.Source)
	b = appendLengthed(b, where)
	b = appendLengthed(b, r.Reason)
	if r.Sender != "" {
		b = appendLengthed(b, r.Sender)
	}
	id := sha256.Sum256(append(b, digest[:]...))
	r.ID = hex.EncodeToString(id[:16])
}
