package metering

import (
	"fmt"
	"maps"
	"slices"

	"mete/partner"
)

// Directory is what is known when an event is checked: apps, what meters declare,
// sources. It is a snapshot of the catalogue that nobody changes after it was made;
// a new version of the catalogue is a new Directory.
type Directory struct {
	Apps       map[partner.AppID]partner.ID // every app and its partner
	Types      map[string]bool              // event types that meters count beyond the built-in ones; each begins with "usage."
	Dimensions map[string]map[string]bool   // by event type: names that a meter of this type declares
	Sources    map[string]Source            // by name
}

// Source is a sender of events and what it may say. A log that tells neither app,
// class nor environment takes them from here when it is read; events that come by
// themselves do not.
type Source struct {
	Name        string          `json:"name" yaml:"name"`
	Owner       string          `json:"owner" yaml:"owner"`                                 // the credential that may send it
	Mapping     string          `json:"mapping,omitempty" yaml:"mapping,omitempty"`         // how its log is read, such as nginx
	Apps        []partner.AppID `json:"apps,omitempty" yaml:"apps,omitempty"`               // the only apps it may report; none: any
	App         partner.AppID   `json:"app,omitempty" yaml:"app,omitempty"`                 // default for its log
	Class       Class           `json:"class,omitempty" yaml:"class,omitempty"`             // default for its log
	Environment Environment     `json:"environment,omitempty" yaml:"environment,omitempty"` // default for its log
}

// NewDirectory gathers a snapshot from its parts.
func NewDirectory(apps []partner.App, meters []Meter, sources []Source) *Directory {
	d := &Directory{
		Apps:       make(map[partner.AppID]partner.ID, len(apps)),
		Types:      map[string]bool{},
		Dimensions: map[string]map[string]bool{},
		Sources:    make(map[string]Source, len(sources)),
	}
	for _, a := range apps {
		d.Apps[a.ID] = a.Partner
	}
	for _, m := range meters {
		if _, builtIn := typeRules[m.Type]; !builtIn {
			d.Types[m.Type] = true
		}
		if d.Dimensions[m.Type] == nil {
			d.Dimensions[m.Type] = map[string]bool{}
		}
		for _, name := range m.Dimensions {
			d.Dimensions[m.Type][name] = true
		}
	}
	for _, s := range sources {
		d.Sources[s.Name] = s
	}
	return d
}

// Partner is the partner of an app, and whether the app is known.
func (d *Directory) Partner(app partner.AppID) (partner.ID, bool) {
	p, ok := d.Apps[app]
	return p, ok
}

// KnowsType reports whether events of the type are accepted: a built-in one, or one
// that begins with "usage." and has a meter.
func (d *Directory) KnowsType(t string) bool {
	_, ok := d.rule(t)
	return ok
}

// Declares reports whether a meter of the event type declares the dimension.
func (d *Directory) Declares(eventType, dimension string) bool {
	return d.Dimensions[eventType][dimension]
}

// SourcesOf are the sources that belong to a credential, by name.
func (d *Directory) SourcesOf(owner string) []Source {
	var own []Source
	for _, name := range slices.Sorted(maps.Keys(d.Sources)) {
		if s := d.Sources[name]; s.Owner == owner {
			own = append(own, s)
		}
	}
	return own
}

// CheckSource reports why the credential owner may not send events of the source,
// nil if it may. The refusal is complete but for its event.
func (d *Directory) CheckSource(source, owner string) *Refusal {
	if word := guardText(source); word != "" {
		return refuse(word, "source", "")
	}
	s, ok := d.Sources[source]
	if !ok {
		return refuse(UnknownSource, "source", fmt.Sprintf("source %q is not registered", source))
	}
	if s.Owner != owner {
		return refuse(SourceNotYours, "source", fmt.Sprintf("source %q belongs to another credential", source))
	}
	return nil
}

func (s Source) allows(app partner.AppID) bool {
	return len(s.Apps) == 0 || slices.Contains(s.Apps, app)
}
