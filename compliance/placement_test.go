package compliance

import (
	"strings"
	"testing"
)

func TestCheckPlacement(t *testing.T) {
	for condition, want := range map[string]string{
		`certification.state == "valid" && availability >= 0.999 && incidents.open == 0`: "",
		"certification.tier >= 3 && within > 0.9 && support.answered > 2":                "",
		`certification.state == "calls and sales"`:                                       "",
		"availability > 0.9 && calls > 10":                                               "calls counts use",
		"active_customers > 3":                                                           "active_customers counts use",
		"!(failed > 3)":                                                                  "failed counts use",
		"0.1 * slow < 3":                                                                 "slow counts use",
		"certified_api.availability > 0.9":                                               "certified_api.availability counts use",
		"usage > 1":                                                                      "usage counts use",
		"sales > 10":                                                                     "sales speaks of payments",
		"partner.net_sales > 1 || within > 0.9":                                          "partner.net_sales speaks of payments",
		"placement.fee > 0":                                                              "placement.fee speaks of payments",
		`partner.tier == "strategic"`:                                                    "partner.tier speaks of payments",
	} {
		err := CheckPlacement(condition)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), PlacementRule)) {
			t.Errorf("%s: %v, want %q", condition, err, want)
		}
	}
}
