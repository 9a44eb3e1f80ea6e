package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"mete/internal/pgtest"
	"mete/ledger"
	"mete/money"
	"mete/period"
	"mete/store"
)

// ledgerBatch is how many entries one call books in the batched figure.
const ledgerBatch = 1000

// ledgerCallers is how many callers book one entry each in the other figure.
const ledgerCallers = 16

// benchLedger books entries of three postings, balances kept, on both engines. The
// limit of the single figure is what one caller alone gets: group commit must beat it.
func benchLedger(ctx context.Context, _ bool, emit func(Result)) error {
	dir, err := os.MkdirTemp("", "mete-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := ledgerOn(ctx, "SQLite", filepath.Join(dir, "books.db"), emit); err != nil {
		return fmt.Errorf("SQLite: %w", err)
	}
	c, err := pgtest.Open(pgtest.Options{})
	if errors.Is(err, pgtest.ErrMissing) {
		return fmt.Errorf("PostgreSQL: %w; install postgresql and run again", err)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	dsn, err := c.Create()
	if err != nil {
		return err
	}
	if err := ledgerOn(ctx, "PostgreSQL", dsn, emit); err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	return nil
}

func ledgerOn(ctx context.Context, engine, dsn string, emit func(Result)) error {
	db, err := store.Open(ctx, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	var n atomic.Int64
	entry := func() ledger.Entry {
		i := n.Add(1)
		on := period.Date{Year: 2026, Month: time.March, Day: 1 + int(i%28)}
		p := fmt.Sprintf("p%d", i%5000)
		return ledger.Entry{
			ID: fmt.Sprintf("bench:%d", i), Kind: "statement", ValueOn: on, BookedOn: on, Memo: "bench",
			Postings: []ledger.Posting{
				{Account: ledger.Clearing("stripe"), Amount: money.New(10_000, "USD")},
				{Account: ledger.Income("share"), Amount: money.New(-1500, "USD")},
				{Account: ledger.PayablePending(p), Amount: money.New(-8500, "USD")},
			},
		}
	}
	alone, _, err := rate(ctx, 1, func() error { return db.Post(ctx, entry()) })
	if err != nil {
		return err
	}
	together, err := callers(ctx, ledgerCallers, func() error { return db.Post(ctx, entry()) })
	if err != nil {
		return err
	}
	emit(Result{Name: "entries, 16 callers, one each, " + engine, Value: together, Unit: "/s", Limit: Limit{"one caller", alone}, Note: "three postings, balances kept, every answer durable"})
	batched, allocs, err := rate(ctx, ledgerBatch, func() error {
		batch := make([]ledger.Entry, ledgerBatch)
		for i := range batch {
			batch[i] = entry()
		}
		return db.Post(ctx, batch...)
	})
	if err != nil {
		return err
	}
	emit(Result{Name: "entries, 1,000 in a call, " + engine, Value: batched, Unit: "/s", Allocs: allocs, Limit: Limit{"one caller, one each", alone}})
	return nil
}

// callers runs fn from several goroutines for benchSpan and counts what is done in a
// second.
func callers(ctx context.Context, many int, fn func() error) (float64, error) {
	var done atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, many)
	began := time.Now()
	for range many {
		wg.Go(func() {
			for time.Since(began) < benchSpan {
				if err := errors.Join(ctx.Err(), fn()); err != nil {
					errs <- err
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(done.Load()) / time.Since(began).Seconds(), nil
	}
}
