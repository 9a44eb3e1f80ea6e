// Package manual is the rail without a bank's interface: it writes a payment file
// that a person or a job brings to the bank, and reads the file in which the bank
// confirms.
//
// It refuses to move money or decide anything. A file's ID and bytes follow from its
// batch, so making it again gives the same file, marked as a copy. Read [Rail.Send]
// and [File] first; the two formats are described there and at [Read].
package manual

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mete/internal/failpoint"
	"mete/money"
	"mete/payouts"
)

const (
	afterArchive failpoint.Point = "payout.file.after-archive"
	afterPut     failpoint.Point = "payout.file.after-put"
)

// Rail writes payment files. It passes payoutstest.TestRail.
type Rail struct {
	Archive string // folder that keeps every file ever made; nothing else writes there
	Out     Outbox // where files leave for the bank
	Name    string // in account names; "manual" unless set
	Label   string // for people; "payment file" unless set
}

// Outbox takes finished files.
type Outbox interface {
	// Put delivers a whole file or nothing. The same name with the same bytes again
	// changes nothing; with other bytes it fails with payouts.ErrConflict.
	Put(ctx context.Context, name string, data []byte) error
}

// MaxFile bounds a payment or confirmation file, in bytes.
const MaxFile = 64 << 20

// Traits: one file per run; an ID is remembered for ever.
func (r Rail) Traits() payouts.Traits {
	t := payouts.Traits{Name: r.Name, Label: r.Label}
	if t.Name == "" {
		t.Name = "manual"
	}
	if t.Label == "" {
		t.Label = "payment file"
	}
	return t
}

// Send archives the payment file and puts it into the outbox. If it may have been
// there before, it goes out as a copy: the name says COPY, the first line says
// COPY,<file id>, and the rest is the first file byte by byte. A bank takes a copy
// only if it does not have the file.
func (r Rail) Send(ctx context.Context, b payouts.Batch) ([]payouts.Receipt, error) {
	data, err := File(b)
	if err != nil {
		return nil, err
	}
	known, err := r.known(b, data)
	if err != nil {
		return nil, err
	}
	if !known {
		if err := writeOnce(r.path(b.ID+".csv"), data); err != nil {
			return nil, fmt.Errorf("payment file %s: archive: %w", b.ID, err)
		}
	}
	if err := afterArchive.Hit(); err != nil {
		return nil, err
	}
	name := b.ID + ".csv"
	if known || b.Again {
		name, data = b.ID+".COPY.csv", Copy(b.ID, data)
	}
	if err := r.Out.Put(ctx, name, data); err != nil {
		return nil, fmt.Errorf("payment file %s: deliver %s: %w", b.ID, name, err)
	}
	if err := afterPut.Hit(); err != nil {
		return nil, err
	}
	if err := writeOnce(r.path(b.ID+".delivered"), nil); err != nil {
		return nil, fmt.Errorf("payment file %s: note its delivery: %w", b.ID, err)
	}
	return receipts(b, payouts.Accepted), nil
}

// Lookup answers accepted for a file that was surely delivered, and else unknown.
func (r Rail) Lookup(_ context.Context, b payouts.Batch) ([]payouts.Receipt, error) {
	_, err := os.Stat(r.path(b.ID + ".delivered"))
	switch {
	case err == nil:
		return receipts(b, payouts.Accepted), nil
	case errors.Is(err, fs.ErrNotExist):
		return receipts(b, payouts.Unknown), nil
	}
	return nil, fmt.Errorf("payment file %s: %w", b.ID, err)
}

func receipts(b payouts.Batch, o payouts.Outcome) []payouts.Receipt {
	out := make([]payouts.Receipt, len(b.Instructions))
	for i, x := range b.Instructions {
		out[i] = payouts.Receipt{Payout: x.Payout, Key: x.Key, Outcome: o, Ref: b.ID}
	}
	return out
}

func (r Rail) path(name string) string { return filepath.Join(r.Archive, name) }

// known reports whether the file is in the archive. It fails if the archive has other
// bytes under its ID, or orders one of its payouts in another file.
func (r Rail) known(b payouts.Batch, data []byte) (bool, error) {
	names, err := filepath.Glob(r.path("*.csv"))
	if err != nil {
		return false, fmt.Errorf("payment file %s: archive %s: %w", b.ID, r.Archive, err)
	}
	ours := map[string]bool{}
	for _, i := range b.Instructions {
		ours[i.Payout] = true
	}
	known := false
	for _, name := range names {
		old, err := os.ReadFile(name)
		if err != nil {
			return false, fmt.Errorf("payment file %s: archive: %w", b.ID, err)
		}
		if filepath.Base(name) == b.ID+".csv" {
			if !bytes.Equal(old, data) {
				return false, fmt.Errorf("payment file %s: the archive has it with other content; nothing is sent, compare %s with the run: %w", b.ID, name, payouts.ErrConflict)
			}
			known = true
			continue
		}
		for _, id := range ordered(old) {
			if ours[id] {
				return false, fmt.Errorf("payment file %s: payout %s was ordered in %s; nothing is sent, find out which file the bank has: %w", b.ID, id, filepath.Base(name), payouts.ErrConflict)
			}
		}
	}
	return known, nil
}

// ordered lists the payouts of an archived file.
func ordered(file []byte) []string {
	var ids []string
	for line := range strings.Lines(string(file)) {
		if rest, ok := strings.CutPrefix(line, "P,"); ok {
			id, _, _ := strings.Cut(rest, ",")
			ids = append(ids, id)
		}
	}
	return ids
}

// File is the payment file of a batch, in CSV (RFC 4180, lines end in \n):
//
//	H,mete-payments,1,<file id>,<run>,<pay date>,<currency>,<count>,<control total>,<from>
//	P,<payout>,<partner>,<payee name>,<account>,<last 4>,<amount>,<reference>
//	T,<file id>,<count>,<control total>,<SHA-256 of all bytes before this line, hex>
//
// Amounts are plain decimals. The same batch gives the same bytes.
func File(b payouts.Batch) ([]byte, error) {
	if len(b.Instructions) == 0 {
		return nil, fmt.Errorf("payment file %s: it would pay nobody", b.ID)
	}
	total := money.New(0, b.Currency)
	seen := map[string]bool{}
	for _, i := range b.Instructions {
		switch {
		case i.Amount.Currency != b.Currency || i.Amount.Minor <= 0:
			return nil, fmt.Errorf("payment file %s: payout %s over %s: want an amount above zero in %s", b.ID, i.Payout, i.Amount, b.Currency)
		case seen[i.Payout]:
			return nil, fmt.Errorf("payment file %s: payout %s comes twice", b.ID, i.Payout)
		case i.Account == "":
			return nil, fmt.Errorf("payment file %s: payout %s has no account", b.ID, i.Payout)
		}
		seen[i.Payout] = true
		var err error
		if total, err = total.Add(i.Amount); err != nil {
			return nil, fmt.Errorf("payment file %s: %w", b.ID, err)
		}
	}
	count := strconv.Itoa(len(b.Instructions))
	var body bytes.Buffer
	w := csv.NewWriter(&body)
	lines := [][]string{{"H", "mete-payments", "1", b.ID, b.Run, b.PayOn.String(), string(b.Currency), count, total.Plain(), plain(b.From)}}
	for _, i := range b.Instructions {
		lines = append(lines, []string{"P", i.Payout, string(i.Partner), plain(i.Name), plain(i.Account), plain(i.Last4), i.Amount.Plain(), plain(i.Reference)})
	}
	if err := w.WriteAll(lines); err != nil {
		return nil, fmt.Errorf("payment file %s: %w", b.ID, err)
	}
	sum := sha256.Sum256(body.Bytes())
	if err := w.Write([]string{"T", b.ID, count, total.Plain(), hex.EncodeToString(sum[:])}); err != nil {
		return nil, fmt.Errorf("payment file %s: %w", b.ID, err)
	}
	w.Flush()
	if body.Len() > MaxFile {
		return nil, fmt.Errorf("payment file %s: %d bytes, at most %d", b.ID, body.Len(), MaxFile)
	}
	return body.Bytes(), nil
}

// Copy marks a file as a copy: one line before it, and not a byte changed in it.
func Copy(id string, file []byte) []byte {
	return slices.Concat([]byte("COPY,"+id+"\n"), file)
}

// plain keeps a text on one line, and from being run as a formula where somebody
// opens the file in a spreadsheet.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}

// Folder is an outbox on disk, to be emptied by a person or a transfer job.
type Folder string

// Put writes the file under its name once it is complete on disk.
func (f Folder) Put(_ context.Context, name string, data []byte) error {
	return writeOnce(filepath.Join(string(f), name), data)
}

// writeOnce creates a file, complete and on disk, or finds it with the same bytes.
func writeOnce(path string, data []byte) error {
	old, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(old, data):
		return nil
	case err == nil:
		return fmt.Errorf("%s exists with other content: %w", path, payouts.ErrConflict)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil { // unlike rename, never replaces
		if errors.Is(err, fs.ErrExist) {
			return writeOnce(path, data)
		}
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
