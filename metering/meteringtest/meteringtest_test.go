package meteringtest

import (
	"testing"

	"mete/metering"
)

func TestModelKeepsItsPromises(t *testing.T) {
	TestStore(t, func(*testing.T) metering.Store { return new(Model) })
}
