package billing

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mete/internal/failpoint"
	"mete/ledger"
	"mete/money"
	"mete/period"
)

// The step of issuing at which a crash is tried.
const afterIssue failpoint.Point = "issue.after-statement"

// IssueRequest says which statements are issued, by whom and on which day. No ID:
// all statements of the month that are in review.
type IssueRequest struct {
	Month           period.Month
	IDs             []StatementID
	By              string
	On              period.Date
	At              time.Time
	Unauthenticated bool
}

// Issue makes statements of a closed month final: what they added moves from pending
// to due. The one who issues must not be the one who closed. Issued ones are left as
// they are.
func (c *Closer) Issue(ctx context.Context, req IssueRequest) ([]StatementRecord, error) {
	status, err := c.Store.Month(ctx, req.Month)
	if err != nil {
		return nil, err
	}
	if status.State != ledger.Closed && status.State != ledger.Locked {
		return nil, fmt.Errorf("issue %s: the month is %s; close it first: mete close %s: %w", req.Month, status.State, req.Month, ErrState)
	}
	if req.By == "" || req.By == status.Manifest.ClosedBy {
		return nil, fmt.Errorf("issue %s: %q closed the month; another person must issue: --as NAME: %w", req.Month, status.Manifest.ClosedBy, ErrState)
	}
	all, err := c.Store.Statements(ctx, req.Month, "")
	if err != nil {
		return nil, err
	}
	wanted := map[StatementID]bool{}
	for _, id := range req.IDs {
		wanted[id] = true
	}
	var out []StatementRecord
	for i, r := range all {
		if len(wanted) > 0 && !wanted[r.ID] {
			continue
		}
		delete(wanted, r.ID)
		if r.State != Issued {
			if r, err = c.issue(ctx, r, req); err != nil {
				return out, fmt.Errorf("issue %s: %w", r.ID, err)
			}
			if err := afterIssue.Hit(); err != nil {
				return out, err
			}
		}
		out = append(out, r)
		c.progress("issuing", i+1, len(all))
	}
	for id := range wanted {
		return out, fmt.Errorf("issue %s: no such statement in %s: %w", id, req.Month, ErrNotFound)
	}
	return out, nil
}

func (c *Closer) issue(ctx context.Context, r StatementRecord, req IssueRequest) (StatementRecord, error) {
	if got := r.Statement.Digest(); got != r.Digest {
		return r, fmt.Errorf("its content no longer has the digest it was committed with (%s, now %s): run mete verify %s: %w", r.Digest[:12], got[:12], r.Month, ErrConflict)
	}
	booked, err := c.Store.BookedOn(ctx, req.On)
	if err != nil {
		return r, err
	}
	r.State, r.IssuedBy, r.IssuedOn, r.IssuedAt, r.BookedOn, r.Unauthenticated = Issued, req.By, req.On, req.At.UTC(), booked, req.Unauthenticated
	return r, c.Store.Issue(ctx, r, r.IssueEntry(req.On, booked))
}

// ProposeAdjustment keeps an adjustment that somebody else must approve. Its ID
// follows from its content, so that proposing it twice is one proposal.
func (c *Closer) ProposeAdjustment(ctx context.Context, a Adjustment) (Adjustment, error) {
	switch {
	case a.Amount.IsZero():
		return a, errors.New("adjustment: an amount of zero changes nothing")
	case strings.TrimSpace(a.Reason) == "":
		return a, errors.New("adjustment: a reason is needed: --reason TEXT; it stands on the partner's statement")
	case a.ProposedBy == "":
		return a, errors.New("adjustment: the name of who proposes it is needed: --as NAME")
	}
	if a.Account == "" {
		a.Account = "share"
	}
	if err := ledger.Income(a.Account).Validate(); err != nil {
		return a, fmt.Errorf("adjustment: kind of income: %w", err)
	}
	facts := a
	facts.ID, facts.ProposedAt, facts.ProposedBy = "", time.Time{}, ""
	a.ID = "A-" + digestOf(facts)[:10]
	a.ProposedAt = a.ProposedAt.UTC()
	return a, c.Store.ProposeAdjustment(ctx, a)
}

// ApproveAdjustment approves a proposal of somebody else. The next close carries it.
func (c *Closer) ApproveAdjustment(ctx context.Context, id, by string, at time.Time) (Adjustment, error) {
	all, err := c.Store.Adjustments(ctx)
	if err != nil {
		return Adjustment{}, err
	}
	for _, a := range all {
		if a.ID != id {
			continue
		}
		if by == "" || by == a.ProposedBy {
			return a, fmt.Errorf("adjustment %s was proposed by %s; another person must approve: --as NAME: %w", id, a.ProposedBy, ErrState)
		}
		if a.ApprovedBy != "" {
			return a, nil
		}
		return c.Store.ApproveAdjustment(ctx, id, by, at.UTC())
	}
	return Adjustment{}, fmt.Errorf("adjustment %s: %w; mete adjust list shows all", id, ErrNotFound)
}

// receiptColumns are the columns of a settlement report.
var receiptColumns = []string{"processor", "settlement", "settled_on", "currency", "gross", "fee", "net"}

// maxReceipts bounds one file of receipts.
const maxReceipts = 100_000

// ReadReceipts reads a processor's settlement report as CSV with the columns
// processor, settlement, settled_on, currency, gross, fee, net. Every row must hold
// gross = fee + net.
func ReadReceipts(file string, in io.Reader, rail string) ([]Receipt, error) {
	r := csv.NewReader(in)
	r.FieldsPerRecord = len(receiptColumns)
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w; want the columns %s", atLine(file, err), strings.Join(receiptColumns, ","))
	}
	for i, want := range receiptColumns {
		if strings.TrimSpace(head[i]) != want {
			return nil, fmt.Errorf("%s:1: column %d is %q, want %q (columns: %s)", file, i+1, head[i], want, strings.Join(receiptColumns, ","))
		}
	}
	var out []Receipt
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, atLine(file, err)
		}
		line, _ := r.FieldPos(0)
		if len(out) == maxReceipts {
			return nil, fmt.Errorf("%s:%d: more than %d receipts; split the file", file, line, maxReceipts)
		}
		rec, err := receipt(row, rail)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, line, err)
		}
		out = append(out, rec)
	}
}

// atLine says in which line of the file reading failed.
func atLine(file string, err error) error {
	var p *csv.ParseError
	switch {
	case errors.As(err, &p):
		return fmt.Errorf("%s:%d: %w", file, p.Line, p.Err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s:1: the file is empty", file)
	}
	return fmt.Errorf("%s: %w", file, err)
}

func receipt(row []string, rail string) (Receipt, error) {
	r := Receipt{Processor: row[0], Settlement: row[1], Rail: rail}
	if r.Processor == "" || r.Settlement == "" {
		return r, errors.New("processor and settlement are needed")
	}
	if err := ledger.Clearing(r.Processor).Validate(); err != nil {
		return r, fmt.Errorf("processor %q: want its name in the catalogue, lower-case letters, digits and '-'", r.Processor)
	}
	var err error
	if r.SettledOn, err = period.ParseDate(row[2]); err != nil {
		return r, fmt.Errorf("settled_on: %w", err)
	}
	cur, err := money.ParseCurrency(row[3])
	if err != nil {
		return r, err
	}
	for i, to := range []*money.Amount{&r.Gross, &r.Fee, &r.Net} {
		if *to, err = money.Parse(row[4+i], cur); err != nil {
			return r, fmt.Errorf("%s: %w", receiptColumns[4+i], err)
		}
	}
	if sum, err := r.Fee.Add(r.Net); err != nil || sum != r.Gross {
		return r, fmt.Errorf("settlement %s: gross %s is not fee %s + net %s", r.Settlement, r.Gross, r.Fee, r.Net)
	}
	return r, nil
}

// Entry books the settlement: clearing is emptied into the bank and the processor's
// fee.
func (r Receipt) Entry() ledger.Entry {
	e := ledger.Entry{
		ID: "receipt:" + r.Processor + ":" + r.Settlement, Kind: "receipt", ValueOn: r.SettledOn, BookedOn: r.BookedOn,
		Memo: fmt.Sprintf("%s settles %s", r.Processor, r.Settlement),
	}
	for _, p := range []ledger.Posting{
		{Account: ledger.Cash(r.Rail), Amount: r.Net},
		{Account: ledger.Expense("processing"), Amount: r.Fee},
		{Account: ledger.Clearing(r.Processor), Amount: r.Gross.Neg()},
	} {
		if !p.Amount.IsZero() {
			e.Postings = append(e.Postings, p)
		}
	}
	return e
}

// Imported is what an import of receipts did.
type Imported struct {
	New      int            `json:"new"`
	Known    int            `json:"known"`
	Net      []money.Amount `json:"net"` // of the new ones, by currency
	Receipts []Receipt      `json:"receipts"`
}

// ImportReceipts books receipts. One that is known already is left alone; one that is
// known with other figures fails with ErrConflict.
func (c *Closer) ImportReceipts(ctx context.Context, rs []Receipt) (Imported, error) {
	var out Imported
	sums := map[money.Currency]money.Amount{}
	for _, r := range rs {
		var err error
		if r.BookedOn, err = c.Store.BookedOn(ctx, r.SettledOn); err != nil {
			return out, err
		}
		isNew, err := c.Store.CommitReceipt(ctx, r, r.Entry())
		if err != nil {
			return out, fmt.Errorf("settlement %s of %s: %w", r.Settlement, r.Processor, err)
		}
		out.Receipts = append(out.Receipts, r)
		if !isNew {
			out.Known++
			continue
		}
		out.New++
		sum, ok := sums[r.Net.Currency]
		if !ok {
			sum = money.New(0, r.Net.Currency)
		}
		if sums[r.Net.Currency], err = sum.Add(r.Net); err != nil {
			return out, err
		}
	}
	for _, s := range sums {
		out.Net = append(out.Net, s)
	}
	return out, nil
}

// digestOf is the SHA-256 of a value's JSON.
func digestOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("billing: internal error: value does not marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
