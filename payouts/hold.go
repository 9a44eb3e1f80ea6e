package payouts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mete/ledger"
	"mete/money"
	"mete/partner"
	"mete/period"
)

// Release ends a hold.
type Release struct {
	ID  string      `json:"id"`
	By  string      `json:"by"`
	Why string      `json:"why"`
	At  time.Time   `json:"at"`
	On  period.Date `json:"on"`
}

// Hold places a hold: it moves the amount from due to held, or, for a hold on all,
// everything due, and keeps later money from being paid too. The same hold again
// changes nothing; another one under its ID fails with ErrConflict.
func (d *Desk) Hold(ctx context.Context, h Hold) (Hold, error) {
	fail := func(format string, args ...any) (Hold, error) {
		return Hold{}, fmt.Errorf("hold %s on %s: %s", h.ID, h.Partner, fmt.Sprintf(format, args...))
	}
	switch {
	case partner.CheckID(h.ID) != nil:
		return fail("%v", partner.CheckID(h.ID))
	case strings.TrimSpace(h.Reason) == "" || strings.TrimSpace(h.By) == "":
		return fail("say who holds the money back and why; the partner will ask")
	case h.On.IsZero() || h.At.IsZero():
		return fail("on which day is needed")
	case !h.All && h.Amount.Minor <= 0:
		return fail("hold back an amount above zero, or all of it")
	case h.All && !h.Amount.IsZero():
		return fail("a hold on all takes no amount")
	}
	h.Released, h.ReleasedBy, h.ReleaseWhy, h.ReleasedAt, h.ReleasedOn = false, "", "", time.Time{}, period.Date{}
	if h.All {
		due, err := d.due(ctx, h.Partner, h.Currency)
		if err != nil {
			return Hold{}, fmt.Errorf("hold %s on %s: %w", h.ID, h.Partner, err)
		}
		h.Amount = money.New(max(0, due.Minor), h.Currency)
	}
	if h.Amount.Currency != h.Currency {
		return fail("amount %s is not in %s", h.Amount, h.Currency)
	}
	kept, err := d.Store.ChangeHold(ctx, h.ID, func(old *Hold) (Hold, *ledger.Entry, error) {
		if old != nil {
			if old.Partner == h.Partner && old.Currency == h.Currency && old.All == h.All && old.Reason == h.Reason && (h.All || old.Amount == h.Amount) {
				return *old, nil, nil
			}
			return *old, nil, fmt.Errorf("hold %s holds %s of %s (%s); give the new one another name: %w", h.ID, old.Amount, old.Partner, old.Reason, ErrConflict)
		}
		if h.Amount.IsZero() {
			return h, nil, nil
		}
		e := holdEntry(h)
		return h, &e, nil
	})
	if errors.Is(err, ledger.ErrGuard) {
		return Hold{}, fmt.Errorf("hold %s on %s: less than %s is due; look at the balance, part of it may be paid or held already: %w", h.ID, h.Partner, h.Amount, ErrShort)
	}
	return kept, err
}

// Release moves a hold's money back to due. Released again it changes nothing.
func (d *Desk) Release(ctx context.Context, r Release) (Hold, error) {
	switch {
	case strings.TrimSpace(r.Why) == "" || strings.TrimSpace(r.By) == "":
		return Hold{}, fmt.Errorf("release hold %s: say who releases it and why", r.ID)
	case r.On.IsZero() || r.At.IsZero():
		return Hold{}, fmt.Errorf("release hold %s: on which day is needed", r.ID)
	}
	return d.Store.ChangeHold(ctx, r.ID, func(old *Hold) (Hold, *ledger.Entry, error) {
		if old == nil {
			return Hold{}, nil, fmt.Errorf("release hold %s: %w; mete payout holds shows them", r.ID, ErrNotFound)
		}
		h := *old
		if h.Released {
			return h, nil, nil
		}
		h.Released, h.ReleasedBy, h.ReleaseWhy, h.ReleasedAt, h.ReleasedOn = true, r.By, r.Why, r.At, r.On
		if h.Amount.IsZero() {
			return h, nil, nil
		}
		e := releaseEntry(h)
		return h, &e, nil
	})
}

// due is what payable:due owes a partner.
func (d *Desk) due(ctx context.Context, id partner.ID, c money.Currency) (money.Amount, error) {
	a := ledger.PayableDue(string(id))
	all, err := d.Books.Balances(ctx, ledger.Filter{Prefix: a, Currency: c})
	if err != nil {
		return money.Amount{}, err
	}
	for _, b := range all {
		if b.Account == a && b.Amount.Currency == c {
			return b.Amount.Neg(), nil
		}
	}
	return money.New(0, c), nil
}
