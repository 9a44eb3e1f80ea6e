package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	fsyncBlock  = 8 << 10 // a page of PostgreSQL, a small transaction's log
	fsyncFile   = 16 << 20
	fsyncRounds = 5
	fsyncRound  = time.Second
	fsyncWarmUp = 20 // writes that are not counted
)

// FsyncLimit is the most durable writes a second this disk allows to one
// writer, measured once a run: the named limit of whatever commits one by one.
// The limit of a group commit is this times the group.
func FsyncLimit(ctx context.Context) (Limit, error) {
	m, err := fsyncs(ctx)
	return Limit{Name: "durable 8 KiB writes", Value: m.perSecond}, err
}

func benchFsync(ctx context.Context, _ bool, emit func(Result)) error {
	m, err := fsyncs(ctx)
	if err != nil {
		return err
	}
	emit(Result{Name: "durable 8 KiB writes", Value: m.perSecond, Unit: "/s",
		Note: fmt.Sprintf("median of %d rounds of %v; lowest %s, highest %s", fsyncRounds, fsyncRound, number(m.lowest), number(m.highest))})
	emit(Result{Name: "one write, median", Value: ms(m.median), Unit: "ms"})
	emit(Result{Name: "one write, 99th percentile", Value: ms(m.p99), Unit: "ms"})
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

type fsyncRates struct {
	perSecond, lowest, highest float64 // over the rounds
	median, p99                time.Duration
}

// measured keeps the rate for the whole run, so that every benchmark is held
// against the same limit.
var measured struct {
	sync.Mutex
	rates *fsyncRates
}

func fsyncs(ctx context.Context) (fsyncRates, error) {
	measured.Lock()
	defer measured.Unlock()
	if measured.rates == nil {
		m, err := measureFsync(ctx, os.TempDir(), fsyncBlock, fsyncRound)
		if err != nil {
			return fsyncRates{}, err
		}
		measured.rates = &m
	}
	return *measured.rates, nil
}

// measureFsync overwrites a file of fixed size block by block with fdatasync
// after each, as a database does with a recycled log: no change of the file's
// size, hence one flush per write and nothing else.
func measureFsync(ctx context.Context, dir string, size int, round time.Duration) (_ fsyncRates, err error) {
	f, err := os.CreateTemp(dir, "mete-bench-fsync-")
	if err != nil {
		return fsyncRates{}, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, size)
	for i := range block {
		block[i] = byte(i*7 + 1) // not zeros: some disks store those for free
	}
	for at := int64(0); at < fsyncFile; at += int64(size) {
		if _, err := f.WriteAt(block, at); err != nil {
			return fsyncRates{}, err
		}
	}
	if err := f.Sync(); err != nil {
		return fsyncRates{}, err
	}
	var n int64
	write := func() (time.Duration, error) {
		began := time.Now()
		if _, err := f.WriteAt(block, n*int64(size)%fsyncFile); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("fdatasync: %w", err)
		}
		n++
		block[0]++
		return time.Since(began), nil
	}
	for range fsyncWarmUp {
		if _, err := write(); err != nil {
			return fsyncRates{}, err
		}
	}
	var each []time.Duration
	var rates []float64
	for range fsyncRounds {
		began, count := time.Now(), 0
		for time.Since(began) < round {
			if err := ctx.Err(); err != nil {
				return fsyncRates{}, err
			}
			took, err := write()
			if err != nil {
				return fsyncRates{}, err
			}
			each = append(each, took)
			count++
		}
		rates = append(rates, float64(count)/time.Since(began).Seconds())
	}
	slices.Sort(rates)
	slices.Sort(each)
	return fsyncRates{
		perSecond: rates[len(rates)/2], lowest: rates[0], highest: rates[len(rates)-1],
		median: each[len(each)/2], p99: each[len(each)*99/100],
	}, nil
}
