package ledgertest

import "testing"

// The model keeps its own promises.
func TestModel(t *testing.T) {
	TestStore(t, func(testing.TB) Books { return NewModel() })
}
