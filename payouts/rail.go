package payouts

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strconv"
	"time"

	"mete/money"
	"mete/partner"
	"mete/period"
)

// Outcome is what a rail or bank says about a payout.
type Outcome string

// The outcomes. Only Refused and CameBack prove that the money did not stay with the
// payee; Unknown proves nothing, and the payout stays in transit.
const (
	Unknown  Outcome = "unknown"  // no answer, or the rail has never heard of it
	Accepted Outcome = "accepted" // handed over; the bank's word is still to come
	Paid     Outcome = "paid"
	Refused  Outcome = "failed"   // never left
	CameBack Outcome = "returned" // left and came back
)

// Rail brings money to payees. Implementations pass payoutstest.TestRail.
type Rail interface {
	// Traits says how the rail works; it never changes and does no I/O.
	Traits() Traits

	// Send hands the batch over. The rail acts on each key at most once: sent again
	// with the same key and parameters it answers what it answered before, or marks
	// what it delivers as a copy; the same key with other parameters fails with
	// ErrConflict and moves nothing. An error means that the outcome of every
	// instruction without a receipt is unknown.
	Send(ctx context.Context, b Batch) ([]Receipt, error)

	// Lookup asks what became of the batch's instructions, without moving anything.
	// Unknown means that the rail cannot tell; it is never a proof of failure.
	Lookup(ctx context.Context, b Batch) ([]Receipt, error)
}

// Traits are the fixed properties of a rail.
type Traits struct {
	Name     string        // in account names: manual, ach, stripe
	Label    string        // for people: ACH
	PerBatch int           // instructions in one Send; 0: the whole run, a file
	KeyLife  time.Duration // how long the rail surely remembers a key; 0: for ever
}

// Batch is what is sent at once. The same run gives the same batch again, byte for
// byte, apart from Again.
type Batch struct {
	ID           string // F-2026-11-20-9c41e07b, from the run's content and attempts
	Run          string
	PayOn        period.Date
	Currency     money.Currency
	From         string
	Instructions []Instruction
	Again        bool // it may have been sent before: deliver as a copy or not at all
}

// Instruction tells a rail to pay one payout.
type Instruction struct {
	Payout     string
	Key        string
	ParamsHash string
	Partner    partner.ID
	Name       string
	Account    string
	Last4      string
	Amount     money.Amount
	Reference  string // as the payee's bank prints it
	At         time.Time
}

// Receipt is a rail's answer to one instruction.
type Receipt struct {
	Payout  string
	Key     string
	Outcome Outcome
	Ref     string      // the rail's name of the payment
	On      period.Date // of Paid and Refused
	Reason  string
}

// attemptOf is the one attempt of a payout.
func attemptOf(p Payout, at time.Time) Attempt {
	return Attempt{Payout: p.ID, Number: 1, Key: p.ID + ".1", ParamsHash: paramsHash(p), At: at, State: Unknown}
}

// paramsHash covers all that the rail is told.
func paramsHash(p Payout) string {
	h := sha256.New()
	field(h, "payout/1", p.ID, string(p.Partner), p.Name, p.Amount.Plain(), string(p.Amount.Currency),
		p.Rail, p.Account, p.Last4, p.PayOn.String(), p.UpTo)
	return hex.EncodeToString(h.Sum(nil))
}

// field hashes length-prefixed texts, so that no two lists of texts look alike.
func field(h hash.Hash, texts ...string) {
	for _, t := range texts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(t)))
		h.Write(n[:])
		h.Write([]byte(t))
	}
}

func instruction(p Payout, a Attempt) Instruction {
	return Instruction{
		Payout: p.ID, Key: a.Key, ParamsHash: a.ParamsHash, Partner: p.Partner, Name: p.Name,
		Account: p.Account, Last4: p.Last4, Amount: p.Amount, Reference: p.ID, At: a.At,
	}
}

// batchOf makes the batch of a run's attempts. Its ID follows from the content and
// the attempts alone.
func batchOf(r Run, ins []Instruction, again bool) Batch {
	h := sha256.New()
	field(h, "batch/1", r.ID, r.Content, strconv.Itoa(len(ins)))
	for _, i := range ins {
		field(h, i.Key, i.ParamsHash)
	}
	return Batch{
		ID:  "F-" + r.PayOn.String() + "-" + hex.EncodeToString(h.Sum(nil))[:12],
		Run: r.ID, PayOn: r.PayOn, Currency: r.Currency, From: r.From, Instructions: ins, Again: again,
	}
}
