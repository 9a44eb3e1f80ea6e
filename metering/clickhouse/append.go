package clickhouse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"mete/internal/failpoint"
	"mete/internal/keyfilter"
	"mete/metering"
)

// How a block is tried again, and how long its commit may take: that is not left when
// the caller's context ends, since its outcome would be unknown.
const (
	firstRetry   = 100 * time.Millisecond // doubles with each try
	commitWithin = 2 * time.Minute

	parallelInserts = 4
)

// Fail-points.
const (
	beforeEpoch  failpoint.Point = "clickhouse.before-epoch"
	afterEpoch   failpoint.Point = "clickhouse.after-epoch"
	beforeRows   failpoint.Point = "clickhouse.before-rows"
	afterRows    failpoint.Point = "clickhouse.after-rows" // of one table
	beforeCommit failpoint.Point = "clickhouse.before-commit"
	afterCommit  failpoint.Point = "clickhouse.after-commit"
)

// lane is what the store remembers of one partition that it fills.
type lane struct {
	turn chan struct{} // holds one token: who has it may fill

	epoch  epoch   // open now; 0 for none
	after  uint64  // where it begins
	last   epoch   // the last one that was tried: each is larger than all before it
	filter *filter // of the keys up to its marker; nil until it is needed

	// While the epoch is open, what the last commit left. Both may be out of date by now:
	// then the next one finds a newer epoch, a position that is not its own or another
	// redaction, and fails.
	chain   *chain
	decided *decided

	// A commit whose answer was lost: whether it happened is seen in the chain.
	unknown struct {
		epoch   epoch
		last    uint64
		outcome metering.Outcome
	}
}

func (s *Store) lane(ctx context.Context, partition int) (*lane, error) {
	s.mu.Lock()
	l := s.lanes[partition]
	if l == nil {
		l = &lane{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		s.lanes[partition] = l
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	select {
	case <-l.turn:
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Append stores a block, see [metering.Store]: rows first, the messages that make them
// count last. After a failed INSERT, whose rows may be there or still come, it goes on
// under a new epoch, a bounded number of times. An event that the store could not keep
// exactly fails the whole block: nothing is stored rounded. A block that carries a
// lease fails with [metering.ErrFenced] once a later one is known.
func (s *Store) Append(ctx context.Context, b metering.Block) (metering.Outcome, error) {
	fail := func(err error) (metering.Outcome, error) {
		return metering.Outcome{}, fmt.Errorf("append messages %d to %d of partition %d: %w", b.First, b.Last, b.Partition, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	if err := b.Validate(); err != nil {
		return fail(err)
	}
	if err := s.belongs(ctx, &b); err != nil {
		return fail(err)
	}
	if err := storable(&b); err != nil {
		return fail(err)
	}
	l, err := s.lane(ctx, b.Partition)
	if err != nil {
		return fail(err)
	}
	defer func() { l.turn <- struct{}{} }()
	pause := firstRetry
	for try := 1; ; try++ {
		a := appending{store: s, lane: l, block: &b}
		err := a.run(ctx)
		if err == nil {
			return a.outcome, nil
		}
		l.epoch = 0
		if ctx.Err() != nil {
			return fail(ctx.Err())
		}
		if errors.Is(err, metering.ErrGap) || errors.Is(err, metering.ErrIncarnation) || errors.Is(err, metering.ErrFenced) {
			return fail(err)
		}
		if try >= s.options.Tries {
			return fail(fmt.Errorf("try %d of %d: %w", try, s.options.Tries, err))
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fail(ctx.Err())
		}
		pause *= 2
	}
}

// belongs checks that the block is of the stream that fills the store, and each of its
// events of the block's partition: keys are looked for in their own partition only.
func (s *Store) belongs(ctx context.Context, b *metering.Block) error {
	st, err := s.attached(ctx)
	switch {
	case err != nil:
		return err
	case st == nil || b.Incarnation != incarnation:
		return fmt.Errorf("no stream is attached as incarnation %d; attach the stream first: %w", b.Incarnation, metering.ErrIncarnation)
	case b.Partition < 0 || b.Partition >= st.partitions:
		return fmt.Errorf("the stream has partitions 0 to %d: %w", st.partitions-1, metering.ErrIncarnation)
	case b.Epoch > maxLease:
		return fmt.Errorf("its lease has number %d, at most %d fits", b.Epoch, uint64(maxLease))
	}
	for i := range b.Messages {
		for j := range b.Messages[i].Events {
			e := &b.Messages[i].Events[j]
			if p := e.Key.Partition(st.partitions); p != b.Partition {
				return fmt.Errorf("event %s of source %s belongs in partition %d of %d by its key", e.ID, e.Source, p, st.partitions)
			}
		}
	}
	return nil
}

// appending is one try to store a block.
type appending struct {
	store   *Store
	lane    *lane
	block   *metering.Block
	outcome metering.Outcome

	chain *chain
	fresh []metering.Message
	first map[metering.Key]*winner // of every key in the fresh messages

	decided  *decided
	redacted map[spot]*redactedRow // of the block's keys
	rows     rows
}

func (a *appending) run(ctx context.Context) error {
	b, l := a.block, a.lane
	if l.epoch == 0 || b.Epoch > l.epoch.lease() || l.chain != nil && b.First != l.chain.position(b.Partition)+1 {
		l.chain, l.decided = nil, nil
	}
	var err error
	if a.chain = l.chain; a.chain == nil {
		if a.chain, err = a.store.chain(ctx, b.Partition); err != nil {
			return err
		}
	}
	position, newest := a.chain.position(b.Partition), a.chain.newest(b.Partition)
	if err := a.fenced(newest); err != nil {
		return err
	}
	if u := l.unknown; u.epoch != 0 {
		l.unknown.epoch = 0
		if u.epoch == newest && u.last == b.Last && position == b.Last { // it had happened
			l.epoch, a.outcome = 0, u.outcome
			return nil
		}
	}
	if b.First > position+1 {
		return fmt.Errorf("partition %d is stored up to %d, the block begins at %d: send the messages from %d on: %w",
			b.Partition, position, b.First, position+1, metering.ErrGap)
	}
	skip := min(position+1-b.First, uint64(len(b.Messages)))
	if err := a.sameAsStored(ctx, b.Messages[:skip]); err != nil {
		return err
	}
	if a.fresh = b.Messages[skip:]; len(a.fresh) == 0 {
		return nil
	}
	if l.epoch == 0 || l.epoch != newest || b.Epoch > l.epoch.lease() || a.chain.torn(b.Partition) {
		if err := a.open(ctx, newest, position); err != nil {
			return err
		}
	}
	if err := a.decide(ctx); err != nil {
		return err
	}
	if err := a.readRedacted(ctx); err != nil {
		return err
	}
	a.sort()
	if err := a.insert(ctx); err != nil {
		return err
	}
	if err := a.stillRedacted(ctx); err != nil {
		return err
	}
	if err := a.commit(ctx); err != nil {
		return err
	}
	if err := l.filter.Add(b.Last, values(a.rows.events, func(e *metering.Accepted) keyfilter.Key { return e.Key })); err != nil {
		l.filter = nil // made anew for the next block
	} else {
		a.store.keep(ctx, l.filter, b.Partition, a.store.keepEvery)
	}
	return nil
}

// fenced fails if the block's lease is not the latest.
func (a *appending) fenced(newest epoch) error {
	lease, latest := a.block.Epoch, max(newest, a.lane.last).lease()
	if lease == 0 {
		lease = a.lane.last.lease()
	}
	if lease != 0 && lease < latest {
		return fmt.Errorf("it is filled under lease %d, the block is of lease %d: stop filling it here: %w", latest, lease, metering.ErrFenced)
	}
	return nil
}

// open begins a new epoch behind what is stored.
func (a *appending) open(ctx context.Context, newest epoch, position uint64) error {
	l, b := a.lane, a.block
	l.epoch = 0
	lease, try := b.Epoch, uint64(0)
	if lease == 0 {
		lease = l.last.lease()
	}
	if lease == 0 {
		lease = newest.lease() + 1
	}
	if latest := max(newest, l.last); lease == latest.lease() {
		try = latest.try() + 1
	}
	if try > maxTry && b.Epoch == 0 {
		lease, try = lease+1, 0
	}
	if lease > maxLease || try > maxTry {
		return fmt.Errorf("lease %d has begun %d times after failures and cannot again; take a new lease", lease, try)
	}
	e := makeEpoch(lease, try, rand.Uint64N(1<<nonceBits), b.Partition)
	l.last = e
	if err := beforeEpoch.Hit(); err != nil {
		return err
	}
	if err := a.store.insert(ctx, "epochs", "", []column{
		{"epoch", "UInt64", []uint64{uint64(e)}},
		{"partition", "UInt16", []uint16{uint16(b.Partition)}},
		{"lease", "UInt64", []uint64{lease}},
		{"previous", "UInt64", []uint64{uint64(newest)}},
		{"starts_after", "UInt64", []uint64{position}},
		{"owner", "String", []string{a.store.options.Owner}},
		{"opened_at", instantType, []time.Time{now()}},
	}); err != nil {
		return fmt.Errorf("open epoch %d: %w", e, err)
	}
	if err := afterEpoch.Hit(); err != nil {
		return err
	}
	var err error
	if a.chain, err = a.store.chain(ctx, b.Partition); err != nil {
		return err
	}
	if got := a.chain.newest(b.Partition); got != e || a.chain.position(b.Partition) != position {
		if err := a.fenced(got); err != nil {
			return err
		}
		return fmt.Errorf("epoch %d was opened at %d, the newest is %d at %d", e, position, got, a.chain.position(b.Partition))
	}
	l.epoch, l.after = e, position
	return nil
}

// sameAsStored fails if a message that is stored already now has another payload:
// then the stream is not the one that it was.
func (a *appending) sameAsStored(ctx context.Context, ms []metering.Message) error {
	if len(ms) == 0 {
		return nil
	}
	all, err := a.chain.upTo(nil)
	if err != nil {
		return err
	}
	first, stored := ms[0].Sequence, make([]*metering.Hash, len(ms))
	if err := a.store.each(ctx, fmt.Sprintf(`SELECT sequence, digest FROM messages WHERE sequence >= %d AND sequence <= %d AND %s`,
		first, ms[len(ms)-1].Sequence, all.within("")), func(scan func(...any) error) error {
		var sequence uint64
		var digest metering.Hash
		if err := scan(&sequence, &digest); err != nil {
			return err
		}
		stored[sequence-first] = &digest
		return nil
	}); err != nil {
		return err
	}
	for i := range ms {
		switch {
		case stored[i] == nil:
			return fmt.Errorf("message %d is below the stored position and not stored; run the store's check, restore from a backup", ms[i].Sequence)
		case *stored[i] != ms[i].Digest:
			return fmt.Errorf("message %d is stored with payload digest %s and now comes with %s: %w",
				ms[i].Sequence, stored[i], ms[i].Digest, metering.ErrIncarnation)
		}
	}
	return nil
}

// winner is the event that a key stands for.
type winner struct {
	known
	event *metering.Accepted // of this block; nil: stored by an earlier one
}

// known is what is kept in mind of a stored event.
type known struct {
	hash     shortHash
	app      string
	occurred time.Time
}

// shortHash is the half of a content hash that is kept with the key.
type shortHash [16]byte

func short(h metering.Hash) shortHash { return shortHash(h[:16]) }

// decide finds, for every key of the block, the event that it stands for.
func (a *appending) decide(ctx context.Context) error {
	n := 0
	for i := range a.fresh {
		n += len(a.fresh[i].Events)
	}
	a.first = make(map[metering.Key]*winner, n)
	winners := make([]winner, 0, n) // one piece of memory for all
	keys := make([]metering.Key, 0, n)
	for i := range a.fresh {
		for j := range a.fresh[i].Events {
			e := &a.fresh[i].Events[j]
			if a.first[e.Key] != nil {
				continue
			}
			winners = append(winners, winner{known{short(e.Hash), string(e.Data.App), e.Time}, e})
			a.first[e.Key] = &winners[len(winners)-1]
			keys = append(keys, e.Key)
		}
	}
	ask, err := a.maybeStored(ctx, keys)
	if err != nil {
		return err
	}
	return a.store.eachStored(ctx, a.chain, ask, func(k metering.Key, stored known) {
		*a.first[k] = winner{known: stored}
	})
}

// maybeStored is those of the keys that the table must be asked for.
func (a *appending) maybeStored(ctx context.Context, keys []metering.Key) ([]metering.Key, error) {
	l, partition := a.lane, a.block.Partition
	if l.filter == nil || l.filter.Through() != a.chain.position(partition) {
		st, err := a.store.attached(ctx)
		if err != nil {
			return nil, err
		}
		l.filter = nil // two would not fit
		if l.filter, err = a.store.openFilter(ctx, st, a.chain, partition); err != nil {
			return nil, err
		}
	}
	maybe := make([]bool, len(keys))
	if after := l.filter.MaybeStored(plain(keys), maybe); after > 0 {
		return keys, nil // it has forgotten the oldest
	}
	ask := keys[:0]
	for i, k := range keys {
		if maybe[i] {
			ask = append(ask, k)
		}
	}
	return ask, nil
}

// readRedacted reads what of the block's events must not be stored as it was sent.
func (a *appending) readRedacted(ctx context.Context) (err error) {
	if a.decided = a.lane.decided; a.decided == nil {
		if a.decided, err = a.store.decided(ctx); err != nil {
			return err
		}
	}
	var keys []metering.Key
	for k := range a.decided.byKey {
		if a.first[k] != nil {
			keys = append(keys, k)
		}
	}
	if a.redacted, err = a.store.redactedRows(ctx, a.decided, keys); err != nil {
		return err
	}
	for i := range a.fresh {
		for j := range a.fresh[i].Events {
			if e := &a.fresh[i].Events[j]; e.Overwritten != nil {
				if err := a.knows(e); err != nil {
					return fmt.Errorf("event with key %s at message %d, index %d: %w", e.Key, a.fresh[i].Sequence, e.Position.Index, err)
				}
			}
		}
	}
	return nil
}

// knows fails if an event was overwritten elsewhere by a redaction that is not known here.
func (a *appending) knows(e *metering.Accepted) error {
	for _, id := range e.Overwritten.By {
		if !slices.ContainsFunc(a.decided.byKey[e.Key], func(r metering.Redaction) bool { return r.ID == id }) {
			return fmt.Errorf("it was overwritten by redactions %s, and this store does not know %s: take redactions over first", strings.Join(e.Overwritten.By, ", "), id)
		}
	}
	return nil
}

// stillRedacted fails if more was redacted meanwhile of what the block says. Its rows
// are there then and will not count; their values go.
func (a *appending) stillRedacted(ctx context.Context) error {
	d, err := a.store.decided(ctx)
	if err != nil {
		return err
	}
	a.lane.decided = d
	if d == a.decided {
		return nil
	}
	var keys []metering.Key
	for k := range d.byKey {
		if a.first[k] != nil && len(d.byKey[k]) > len(a.decided.byKey[k]) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return cmp.Or(a.store.overwrite(ctx, keys), errRedacted)
}

// hide is the event as it is stored: an event that was overwritten stays so when it is
// stored again, or here instead of there; a conflict of a redacted event is overwritten
// whenever it comes.
func (a *appending) hide(e *metering.Accepted, conflict bool) *metering.Accepted {
	by := a.decided.byKey[e.Key]
	switch {
	case conflict || len(by) == 0:
	case e.Overwritten != nil:
		by = slices.DeleteFunc(slices.Clone(by), func(r metering.Redaction) bool { return !slices.Contains(e.Overwritten.By, r.ID) })
	default:
		by = nil
		if w := a.redacted[spotOf(e.Position)]; w != nil {
			by = w.by
		}
	}
	hidden, fact := hide(e, by)
	if fact != nil {
		a.rows.redacted = append(a.rows.redacted, *fact)
	}
	return hidden
}

// sort tells the block's events apart.
func (a *appending) sort() {
	r := &a.rows
	for i := range a.fresh {
		m := &a.fresh[i]
		var tally metering.Outcome
		for j := range m.Events {
			e := &m.Events[j]
			switch w := a.first[e.Key]; {
			case w.event == e:
				tally.Stored++
				r.events = append(r.events, a.hide(e, false))
				if e.Type == metering.UsageVoided {
					r.voids = append(r.voids, e)
				}
			case w.hash == short(e.Hash):
				tally.Duplicate++
				r.duplicates = append(r.duplicates, repeat{e, &w.known})
			default:
				tally.Conflict++
				r.conflicts = append(r.conflicts, repeat{a.hide(e, true), &w.known})
			}
		}
		tally.Undecoded = len(m.Undecoded)
		r.messages = append(r.messages, m)
		r.tallies = append(r.tallies, tally)
		a.outcome.Stored += tally.Stored
		a.outcome.Duplicate += tally.Duplicate
		a.outcome.Conflict += tally.Conflict
		a.outcome.Undecoded += tally.Undecoded
	}
}

// token names one INSERT of the block: a second line, should anything between here and
// the engine send it twice.
func (a *appending) token(table string, part int) string {
	return strconv.FormatUint(uint64(a.lane.epoch), 10) + "-" + strconv.FormatUint(a.fresh[0].Sequence, 10) + "-" +
		strconv.FormatUint(a.block.Last, 10) + "-" + table + "-" + strconv.Itoa(part)
}

// insert sends all rows but the messages. None of them counts yet.
func (a *appending) insert(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(parallelInserts)
	for _, t := range a.rows.tables(a.lane.epoch, a.store.options.MaxRows) {
		all.Go(func() error {
			if err := beforeRows.Hit(); err != nil {
				return err
			}
			if err := a.store.insert(ctx, t.name, a.token(t.name, t.part), t.columns()); err != nil {
				return err
			}
			return afterRows.Hit()
		})
	}
	return all.Wait()
}

// commit sends the messages, which make the block count, and looks whether it does:
// under an epoch that is no longer the newest it does not.
func (a *appending) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitWithin)
	defer cancel()
	l, b := a.lane, a.block
	if err := beforeCommit.Hit(); err != nil {
		return err
	}
	l.unknown.epoch, l.unknown.last, l.unknown.outcome = l.epoch, b.Last, a.outcome
	if err := a.store.insert(ctx, "messages", a.token("messages", 0), a.rows.messageColumns(l.epoch)); err != nil {
		return err
	}
	if err := afterCommit.Hit(); err != nil {
		return err
	}
	counts, err := a.counts(ctx)
	if err != nil {
		return err
	}
	if counts {
		l.unknown.epoch = 0
		a.chain.extend(b.Partition, l.epoch, l.after, b.Last)
		l.chain = a.chain
		return nil
	}
	c, err := a.store.chain(ctx, b.Partition)
	if err != nil {
		return err
	}
	l.unknown.epoch = 0
	if newest := c.newest(b.Partition); newest != l.epoch {
		if err := a.fenced(newest); err != nil {
			return err
		}
		return fmt.Errorf("epoch %d was followed by %d while the block was stored", l.epoch, newest)
	}
	if got := c.position(b.Partition); got != b.Last {
		return fmt.Errorf("the block is stored and the store shows position %d; if this is a cluster, look at its replicas", got)
	}
	l.chain = c
	return nil
}

// counts reports whether all of the lane's epoch up to the block counts, as it does
// unless something went wrong: the epoch is the newest and none of its messages is
// missing. The epochs are read first, as by [Store.chain].
func (a *appending) counts(ctx context.Context) (ok bool, err error) {
	l := a.lane
	err = a.store.each(ctx, fmt.Sprintf(`SELECT (SELECT max(epoch) FROM epochs WHERE partition = %d), max(sequence), count() FROM messages WHERE epoch = %d`,
		a.block.Partition, uint64(l.epoch)), func(scan func(...any) error) error {
		var newest, last, n uint64
		if err := scan(&newest, &last, &n); err != nil {
			return err
		}
		ok = epoch(newest) == l.epoch && last == a.block.Last && last == l.after+n
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look whether the block counts: %w", err)
	}
	return ok, nil
}
