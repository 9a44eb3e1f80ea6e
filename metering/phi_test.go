package metering_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mete/metering"
	"mete/metering/phi"
)

// TestGuardWatchesEveryText puts what must not be kept into every text of an event:
// whatever the guard catches, in every field.
func TestGuardWatchesEveryText(t *testing.T) {
	dir := directory()
	fields := 0
	for _, part := range []func(*metering.Event) reflect.Value{
		func(e *metering.Event) reflect.Value { return reflect.ValueOf(e).Elem() },
		func(e *metering.Event) reflect.Value { return reflect.ValueOf(&e.Data).Elem() },
	} {
		e := sale()
		for i := range part(&e).NumField() {
			e := sale()
			f, name := part(&e).Field(i), part(&e).Type().Field(i).Name
			if f.Kind() != reflect.String {
				continue
			}
			fields++
			for _, p := range phi.Patterns() {
				for i, s := range slices.Concat(p.Anywhere, p.Alone) {
					if i < len(p.Anywhere) {
						s = "ref " + s // the refusal tells what the pattern looks for, with an example
					}
					f.SetString(s)
					refusedWithout(t, name, metering.Validate(e, dir, at), "phi_"+p.Name, s)
				}
			}
			f.SetString("a\x00b")
			refusedWithout(t, name, metering.Validate(e, dir, at), metering.BadText, "\x00")
			f.SetString("a\xffb")
			refusedWithout(t, name, metering.Validate(e, dir, at), metering.BadText, "\xff")
			f.SetString(strings.Repeat("longer", 100))
			refusedWithout(t, name, metering.Validate(e, dir, at), metering.TooLong, "longerlonger")
		}
	}
	if fields != 15 {
		t.Errorf("%d texts were tried: adjust the count once the new one is seen to be watched", fields)
	}
	for _, m := range []map[string]string{{"plan": "jane.doe@example.org"}, {"jane.doe@example.org": "x"}, {"jane.doe": "mrn 123456"}} {
		e := sale()
		e.Data.Dimensions = m
		bad := metering.Validate(e, dir, at)
		if bad == nil || bad.Class != metering.Unclean {
			t.Errorf("dimensions %v: %+v", m, bad)
		} else if text := fmt.Sprint(*bad); strings.Contains(text, "jane") || strings.Contains(text, "123456") {
			t.Errorf("dimensions %v: the refusal tells them: %s", m, text)
		}
	}
}

func refusedWithout(t *testing.T, name string, bad *metering.Refusal, reason, secret string) {
	t.Helper()
	if bad == nil {
		t.Errorf("%s: accepted", name)
		return
	}
	bad.Seal([]byte(secret), "test:1", at)
	if b, err := json.Marshal(bad); bad.Reason != reason || bad.Class != metering.Unclean || err != nil || bytes.Contains(b, []byte(secret)) || bad.Event != nil {
		t.Errorf("%s: want %s without the value: %s", name, reason, b)
	}
}

// TestGuardWatchesEveryWay sends what must not be kept where the two modes of
// CloudEvents have room for it: attributes, extensions, headers, names and values of
// data. It is refused, or dropped; nothing that is kept or answered holds it.
func TestGuardWatchesEveryWay(t *testing.T) {
	dir := directory()
	const secret = "jane.doe@example.org"
	good := map[string]string{"specversion": "1.0", "id": "1", "source": "gateway-8", "type": metering.UsageAPI, "time": "2026-11-23T10:00:00Z"}
	with := func(name, value string) map[string]string {
		m := maps.Clone(good)
		m[name] = value
		return m
	}
	const data = `{"app":"contoso-notes","status":200}`
	type sent struct {
		name   string
		header map[string][]string
		body   string
		kept   bool // accepted without the secret
	}
	binary := func(name string, attributes map[string]string, body string, kept bool) sent {
		h := map[string][]string{"Content-Type": {"application/json"}}
		for k, v := range attributes {
			h["Ce-"+k] = []string{v}
		}
		return sent{"binary " + name, h, body, kept}
	}
	structured := func(name string, attributes map[string]string, data string, kept bool) sent {
		b, err := json.Marshal(attributes)
		if err != nil {
			t.Fatal(err)
		}
		return sent{"structured " + name, map[string][]string{"Content-Type": {"application/cloudevents+json"}}, strings.TrimSuffix(string(b), "}") + `,` + data + `}`, kept}
	}
	var cases []sent
	for _, name := range []string{"id", "source", "type", "subject", "time", "specversion"} {
		cases = append(cases, binary(name, with(name, secret), data, false), binary(name+", encoded", with(name, "jane.doe%40example.org"), data, false),
			structured(name, with(name, secret), `"data":`+data, false))
	}
	cases = append(cases,
		binary("an extension", with("patient", secret), data, true),
		binary("an extension's name", with("janedoe-at-example-org", "x"), data, true),
		structured("an extension", with("patient", secret), `"data":`+data, true),
		structured("an extension's name", with(secret, "x"), `"data":`+data, false),
		structured("datacontenttype", with("datacontenttype", secret), `"data":`+data, false),
		structured("dataschema", with("dataschema", "https://ehr.example/"+secret), `"data":`+data, true),
		structured("no data", good, `"data":"`+secret+`"`, false),
		structured("data of a field", good, `"data":{"app":"contoso-notes","reference":"`+secret+`"}`, false),
		structured("data of a field, escaped", good, `"data":{"app":"contoso-notes","reference":"jane.doe\u0040example.org"}`, false),
		structured("data of an unknown field", good, `"data":{"app":"contoso-notes","patient":"`+secret+`"}`, false),
		structured("the name of an unknown field", good, `"data":{"app":"contoso-notes","`+secret+`":1}`, false),
		structured("a number", good, `"data":{"app":"contoso-notes","amount":"`+secret+`"}`, false),
		structured("a dimension", good, `"data":{"app":"contoso-notes","dimensions":{"plan":"`+secret+`"}}`, false),
		structured("a dimension's name", good, `"data":{"app":"contoso-notes","dimensions":{"`+secret+`":"x"}}`, false),
		structured("data in base64", good, `"data_base64":"`+base64.StdEncoding.EncodeToString([]byte(`{"reference":"`+secret+`"}`))+`"`, false),
		structured("not base64", good, `"data_base64":"`+secret+`"`, false),
		sent{"media type", map[string][]string{"Content-Type": {"text/" + secret}}, "{}", false},
		sent{"character set", map[string][]string{"Content-Type": {"application/json; charset=" + secret}}, "{}", false},
		sent{"not JSON", nil, `{"id": ` + secret, false},
	)
	for _, c := range cases {
		all, err := metering.Decode(c.header, []byte(c.body), metering.Limits{})
		var kept []byte
		accepted := false
		if err != nil {
			kept, err = json.Marshal(metering.RefusalOf(err))
		} else if d := all[0]; d.Refusal != nil {
			kept, err = json.Marshal(d.Refusal)
		} else if bad := metering.Validate(d.Event, dir, at); bad != nil {
			if bad.Class != metering.Unclean {
				t.Errorf("%s: refused as %s, and kept", c.name, bad.Reason)
			}
			kept, err = json.Marshal(bad)
		} else {
			kept, accepted = metering.AppendCanonical(nil, d.Event), true
		}
		if err != nil {
			t.Fatal(err)
		}
		if accepted != c.kept {
			t.Errorf("%s: accepted %v", c.name, accepted)
		}
		if bytes.Contains(kept, []byte("jane")) {
			t.Errorf("%s: %s", c.name, kept)
		}
	}
}
