package arrows

// The stages of the river, and why the next one needs them.
var (
	toMoney   = Arrow{"money", "amounts and rates"}
	toPeriod  = Arrow{"period", "months, zones, business days"}
	toPartner = Arrow{"partner", "who earns, with which app; their IDs"}

	toPHI       = Arrow{"metering/phi", "what names a patient"}
	toMetering  = Arrow{"metering", "events, meters and usage"}
	toPricing   = Arrow{"pricing", "terms, lines and Price"}
	toCatalogue = Arrow{"catalogue", "versions of documents in force"}
	toLedger    = Arrow{"ledger", "accounts, postings and entries"}
	toBilling   = Arrow{"billing", "statements and months"}
	toPayouts   = Arrow{"payouts", "payouts, runs and rails"}
	toReports   = Arrow{"reports", "what people read"}
	toAccess    = Arrow{"access", "logins, roles, who decides"}
	toSchedule  = Arrow{"schedule", "jobs and leases"}

	toMigrations = Arrow{"migrations", "the DDL it opens its database with"}
	toFailpoint  = Arrow{"internal/failpoint", "places where a crash is tested"}
	toKeyfilter  = Arrow{"internal/keyfilter", "keys that need not be asked for"}
)

// Table is the order of the packages. A row that stands before another never
// points to it.
var Table = []Row{
	{Package: "money", Pure: true},
	{Package: "period", Pure: true},
	{Package: "partner", Pure: true, May: []Arrow{toMoney, toPeriod}},

	{Package: "internal/failpoint"},
	{Package: "internal/keyfilter"},
	{Package: "migrations"},

	{Package: "metering/phi", Pure: true},
	{Package: "metering", May: []Arrow{toPHI, toPartner, toPeriod, toMoney, toFailpoint},
		Tests: []Arrow{{"metering/sqlite", "the log replays into a real store"}}},
	{Package: "metering/sqlite", Driver: true, May: []Arrow{toMetering, toPartner, toPeriod, toMoney, toMigrations, toFailpoint}},
	{Package: "metering/clickhouse", Driver: true, May: []Arrow{toMetering, toPartner, toPeriod, toMoney, toMigrations, toFailpoint, toKeyfilter},
		Tests: []Arrow{{"metering/sqlite", "both stores must answer alike"}}},
	{Package: "metering/jetstream", Driver: true, May: []Arrow{toMetering, toPartner, toPeriod, toMoney, toFailpoint},
		Tests: []Arrow{{"metering/sqlite", "stream → store is tested on a real store"}, {"metering/clickhouse", "and on the other one"}}},
	{Package: "metering/httpin", Driver: true, May: []Arrow{toMetering, toPartner, toPeriod, toMoney, toFailpoint},
		Tests: []Arrow{{"metering/jetstream", "an acceptance is a broker's ack on disk"}, {"metering/sqlite", "and a row"}}},
	{Package: "metering/simulation", Tests: []Arrow{
		toMetering, toPartner,
		{"metering/jetstream", "brokers, workers and routers, as processes that are killed"},
		{"metering/sqlite", "each kind of store is filled by them"}, {"metering/clickhouse", "and by several at once"},
	}},

	{Package: "pricing", Pure: true, May: []Arrow{toMetering, toPartner, toMoney, toPeriod},
		Tests: []Arrow{{"catalogue", "its scenarios are written as contracts"}}},
	{Package: "pricing/scenario", May: []Arrow{toPricing, toMetering, toPartner, toMoney, toPeriod}},
	{Package: "pricing/plain", May: []Arrow{toPricing, toMetering, toPartner, toMoney, toPeriod}},
	{Package: "compliance", May: []Arrow{toPricing, {"pricing/plain", "fee schedules say what term sheets say"}, toMetering, toPartner, toMoney, toPeriod}},
	{Package: "catalogue", May: []Arrow{toPartner, toPHI, toMetering, toPricing, toMoney, toPeriod,
		{"compliance", "an approval keeps what the screen found"}},
		Tests: []Arrow{{"store", "approvals are tested on a real database"}}},
	{Package: "review", May: []Arrow{toCatalogue, toPricing, {"pricing/plain", "the length of terms is that of their term sheet"}, toMetering, toPartner, toMoney, toPeriod}},
	{Package: "ledger", May: []Arrow{toMoney, {"period", "an entry is dated by days, not by instants"}},
		Tests: []Arrow{{"partner", "every partner's ID makes an account of its own"}}},
	{Package: "billing", May: []Arrow{toCatalogue, toMetering, toPricing, toLedger, toPartner, toMoney, toPeriod, toFailpoint},
		Tests: []Arrow{
			{"store", "a close is tested on a real database"},
			{"metering/sqlite", "over a real metering store"},
			{"metering/jetstream", "fed by a real stream"},
			{"payouts", "the balance has payouts in it"},
		}},
	{Package: "payouts", May: []Arrow{toLedger, toPartner, toMoney, toPeriod, toFailpoint},
		Tests: []Arrow{
			{"store", "a submit is tested on a real database"},
			{"billing", "a payout spends what a statement earned"},
			{"payouts/manual", "over a real rail"},
		}},
	{Package: "payouts/manual", Driver: true, May: []Arrow{toPayouts, toLedger, toPartner, toMoney, toPeriod, toFailpoint}},
	{Package: "payouts/stripe", Driver: true, May: []Arrow{toPayouts, toLedger, toPartner, toMoney, toPeriod, toFailpoint}},
	{Package: "payouts/ach", Driver: true, May: []Arrow{toPayouts, toLedger, toPartner, toMoney, toPeriod, toFailpoint}},
	{Package: "reports", May: []Arrow{toBilling, toPayouts, toLedger, toCatalogue, toMetering, toPricing, toPartner, toMoney, toPeriod},
		Tests: []Arrow{{"store", "reports read a real database"}, {"metering/sqlite", "and real rows"}}},

	{Package: "access", Tests: []Arrow{{"store", "logins and the audit log are tested on a real database"}}},
	{Package: "schedule", May: []Arrow{toFailpoint},
		Tests: []Arrow{{"store", "a lease is tested on a real database"}}},

	{Package: "store", Driver: true, May: []Arrow{
		toLedger, toBilling, toPayouts, toCatalogue, toAccess, toSchedule,
		toMetering, toPricing, toPartner, toMoney, toPeriod, toMigrations, toFailpoint,
	}},
	{Package: "web", Driver: true, May: []Arrow{
		toReports, toBilling, toPayouts, toLedger, toCatalogue, toPricing, toMetering,
		toPartner, toMoney, toPeriod, toAccess, toSchedule,
	}, Tests: []Arrow{
		{"store", "pages are tested over a real database"},
		{"metering/sqlite", "and real rows"},
		{"payouts/manual", "with a rail that needs no network"},
	}},

	{Package: "cmd/mete/demo", May: []Arrow{
		toMoney, toPeriod, toPartner, toMetering, toPricing, toCatalogue, toLedger, toBilling, toPayouts,
	}},
	{Package: "cmd/mete", Wires: true},
	{Package: "cmd/bench", Wires: true},
	{Package: "cmd/fakebank"},
	{Package: "cmd/fakestripe"},

	{Package: "internal/testdata"},
	{Package: "internal/pgtest", May: []Arrow{{"internal/testdata", "a missing engine is said in one way"}}},
	{Package: "internal/chtest", May: []Arrow{{"internal/testdata", "a missing engine is said in one way"}}},
	{Package: "internal/chtest/engine"},
	{Package: "internal/arrows", Tests: []Arrow{{"internal/testdata", "the module root"}}},
	{Package: "internal/tally"},
}

// anyTest is what the tests of every package may import.
var anyTest = []Arrow{
	{"internal/testdata", "external data, and how to say that it is missing"},
	{"internal/pgtest", "a private PostgreSQL"},
	{"internal/chtest", "a private ClickHouse engine"},
	toFailpoint,
}
