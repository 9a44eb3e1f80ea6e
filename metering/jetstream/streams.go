// Package jetstream moves accepted events through NATS JetStream: the embedded
// broker, the permanent stream, the intake that publishes to it, the router for
// producers that speak NATS, and the worker that fills the metering store from it.
//
// # The permanent stream
//
// The stream named usage is N partitions, fixed for its life, each a JetStream
// stream of its own (USAGE_0, subject usage.0, …), so that the sequence inside a
// partition has no holes and is the position of an event. An event lies in partition
// (first 8 bytes of its key, big-endian) mod N. Every JetStream stream carries a
// random incarnation id; the ids together name the stream, so that a store notices
// when any part of it was made anew. Nothing is ever consumed with acks: the store's
// position says what is stored.
//
// # A message
//
// A payload of at most [MaxPayload] bytes is text: the line "mete/1 NONCE", then one
// line per event in canonical form (metering.AppendCanonical). Headers: Mete-Count,
// the number of events, counted apart from the payload; Mete-Accepted-At, when they
// were accepted; Nats-Msg-Id, the SHA-256 of the payload.
//
// The nonce (128 random bits) makes each message its own: the broker drops a message
// whose id it has seen in the last two minutes, and without the nonce the same event
// sent twice in that time would be one message, sent twice in a longer time two, so
// that the sum of Mete-Count would depend on timing. With it every acknowledgement
// that a sender got is counted in the stream exactly once, and the store, not the
// broker, says what is a duplicate. A retry of one publish sends the same bytes, the
// same id, and so cannot count twice.
//
// The package refuses to know what events are worth and which ones are right: it is
// given a gate that decides. Read [Ensure] first, then [Intake.Accept] and
// [Worker.Run].
package jetstream

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	js "github.com/nats-io/nats.go/jetstream"

	"mete/metering"
)

// Settings of the stream.
type Settings struct {
	Partitions int           // fixed for the stream's life; 0 = 4
	Keep       time.Duration // how long messages stay; 0 = 400 days
	MaxBytes   int64         // of each partition; 0 = 8 GiB for a new one
	Replicas   int           // 0 = 1
	Intake     bool          // also the short-lived stream of NATS producers
	Embedded   bool          // the broker is in this process

	// Facts tells how the brokers run: [Server.Facts], or a call of [AskServers].
	// Brokers that do not tell are refused, but for fewer than half of Brokers that are
	// away: they are asked when they are back, see [Streams.Watch].
	Facts   func(context.Context) ([]ServerFacts, error)
	Brokers int // how many must tell how they run; 0: as many as do
}

// Defaults and bounds of the stream.
const (
	DefaultPartitions = 4
	DefaultKeep       = 400 * 24 * time.Hour
	DefaultMaxBytes   = 8 << 30
	MaxPartitions     = 256

	// DuplicateWindow is how long the broker knows a message it has stored. It
	// covers retries of one publish, never more: see Patience of [Intake].
	DuplicateWindow = 2 * time.Minute

	intakeStream = "INTAKE"
	apiTimeout   = 10 * time.Second
)

// The keys of a stream's metadata.
const (
	metaIncarnation = "mete-incarnation"
	metaPartitions  = "mete-partitions"
)

// SettingError names a setting of the broker or a stream that would lose or miscount
// events.
type SettingError struct {
	Where   string // server or stream
	Setting string
	Wanted  string
	Found   string
	Why     string
}

func (e *SettingError) Error() string {
	return fmt.Sprintf("%s: %s is %s, want %s: %s", e.Where, e.Setting, e.Found, e.Wanted, e.Why)
}

// Streams is the permanent stream, checked.
type Streams struct {
	conn     *nats.Conn
	js       js.JetStream
	settings Settings
	ids      []string // incarnation of each partition
	room     int64    // bytes that the smallest broker's store may hold, 0 = unknown

	mu      sync.Mutex
	brokers Brokers
}

// Ensure makes the stream where it is missing and checks what is there. Limits that
// are lower than wanted are raised; everything else that differs is refused with a
// [SettingError] for each setting, since changing it would hide what was lost.
//
// Brokers elsewhere that are electing a leader are asked again for a while.
func Ensure(ctx context.Context, conn *nats.Conn, s Settings) (*Streams, error) {
	for until := time.Now().Add(electing); ; {
		all, err := ensure(ctx, conn, s)
		if err == nil || s.Embedded || !isTransient(err) || time.Now().After(until) || !sleep(ctx, settle/10) {
			return all, err
		}
	}
}

// electing is how long a cluster may be without a leader when a process begins.
const electing = 20 * time.Second

// isTransient reports whether asking again may help: nobody has answered, or the
// brokers say that they cannot now.
func isTransient(err error) bool {
	var said *js.APIError
	if errors.As(err, &said) {
		return said.Code == 503 && !isFinal(said.ErrorCode)
	}
	for _, silence := range []error{context.Canceled, context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders} {
		if errors.Is(err, silence) {
			return true
		}
	}
	return false
}

func ensure(ctx context.Context, conn *nats.Conn, s Settings) (*Streams, error) {
	s = s.withDefaults()
	if s.Partitions < 1 || s.Partitions > MaxPartitions {
		return nil, fmt.Errorf("stream usage with %d partitions: want 1 to %d", s.Partitions, MaxPartitions)
	}
	api, err := js.New(conn, js.WithDefaultTimeout(apiTimeout))
	if err != nil {
		return nil, fmt.Errorf("stream usage: %w", err)
	}
	all := &Streams{conn: conn, js: api, settings: s, ids: make([]string, s.Partitions)}
	if err := all.checkServers(ctx); err != nil {
		return nil, err
	}
	if err := all.checkPartitions(ctx); err != nil {
		return nil, err
	}
	for p := range s.Partitions {
		if err := all.make(ctx, streamName(p), s.want(p)); err != nil {
			return nil, err
		}
	}
	if s.Intake {
		if err := all.make(ctx, intakeStream, s.wantIntake()); err != nil {
			return nil, err
		}
	}
	return all, all.verify(ctx)
}

func (s Settings) withDefaults() Settings {
	if s.Partitions == 0 {
		s.Partitions = DefaultPartitions
	}
	if s.Keep == 0 {
		s.Keep = DefaultKeep
	}
	if s.Replicas == 0 {
		s.Replicas = 1
	}
	return s
}

func streamName(partition int) string { return "USAGE_" + strconv.Itoa(partition) }
func subjectOf(partition int) string  { return "usage." + strconv.Itoa(partition) }

// want is the configuration of a new partition.
func (s Settings) want(partition int) js.StreamConfig {
	return js.StreamConfig{
		Name:        streamName(partition),
		Description: "mete: accepted events, never edited",
		Subjects:    []string{subjectOf(partition)},
		Retention:   js.LimitsPolicy,
		Storage:     js.FileStorage,
		Discard:     js.DiscardNew,
		MaxBytes:    s.MaxBytes,
		MaxAge:      s.Keep,
		Duplicates:  min(DuplicateWindow, s.Keep),
		Replicas:    s.Replicas,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
		Metadata:    map[string]string{metaIncarnation: rand.Text(), metaPartitions: strconv.Itoa(s.Partitions)},
	}
}

// wantIntake is the short-lived stream. It has no age limit: what was acknowledged to
// a producer leaves it by being routed, never by waiting.
func (s Settings) wantIntake() js.StreamConfig {
	return js.StreamConfig{
		Name:        intakeStream,
		Description: "mete: unchecked events, erased once routed",
		Subjects:    []string{intakePrefix + ">"},
		Retention:   js.LimitsPolicy,
		Storage:     js.FileStorage,
		Discard:     js.DiscardNew,
		Duplicates:  DuplicateWindow,
		Replicas:    s.Replicas,
	}
}

// make creates the stream, or raises the limits of the one that is there.
func (all *Streams) make(ctx context.Context, name string, want js.StreamConfig) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	there, err := all.js.Stream(ctx, name)
	if errors.Is(err, js.ErrStreamNotFound) {
		if want.MaxBytes == 0 {
			want.MaxBytes = all.usualBytes()
		}
		_, err := all.js.CreateStream(ctx, want)
		if errors.Is(err, js.ErrStreamNameAlreadyInUse) {
			return nil // another process was faster; Verify looks at it
		}
		if err != nil {
			return fmt.Errorf("make stream %s of %d bytes: %w", name, want.MaxBytes, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	have := there.CachedInfo().Config
	raised := have
	if name != intakeStream && want.MaxBytes > have.MaxBytes && have.MaxBytes > 0 {
		raised.MaxBytes = want.MaxBytes
	}
	if want.MaxAge > have.MaxAge && have.MaxAge > 0 && have.Metadata[metaIncarnation] != "" {
		raised.MaxAge = want.MaxAge
	}
	if raised.MaxBytes == have.MaxBytes && raised.MaxAge == have.MaxAge {
		return nil
	}
	if _, err := all.js.UpdateStream(ctx, raised); err != nil {
		return fmt.Errorf("stream %s: raise its limits to %d bytes and %s: %w", name, raised.MaxBytes, raised.MaxAge, err)
	}
	return nil
}

// usualBytes is the size of a new stream when none is wanted: the default, or what
// the smallest broker has room for, shared by all our streams.
func (all *Streams) usualBytes() int64 {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.room == 0 {
		return DefaultMaxBytes
	}
	return min(DefaultMaxBytes, all.room/int64(all.settings.Partitions+2))
}

// Verify checks the servers and every stream again.
func (all *Streams) Verify(ctx context.Context) error {
	if err := all.checkServers(ctx); err != nil {
		return err
	}
	return all.verify(ctx)
}

// verify checks every stream.
func (all *Streams) verify(ctx context.Context) error {
	var broken []error
	for p := range all.settings.Partitions {
		info, err := all.info(ctx, streamName(p))
		if err != nil {
			return err
		}
		broken = append(broken, all.settings.check(p, info)...)
		id := info.Config.Metadata[metaIncarnation]
		if all.ids[p] != "" && all.ids[p] != id {
			broken = append(broken, all.changed(p, id))
		}
		if all.ids[p] == "" {
			all.ids[p] = id
		}
	}
	if all.settings.Intake {
		info, err := all.info(ctx, intakeStream)
		if err != nil {
			return err
		}
		broken = append(broken, all.settings.checkIntake(info.Config)...)
	}
	return errors.Join(broken...)
}

func (all *Streams) changed(partition int, found string) error {
	return fmt.Errorf("stream %s has incarnation %q, it was %q: it was made anew: %w", streamName(partition), found, all.ids[partition], metering.ErrIncarnation)
}

func (all *Streams) info(ctx context.Context, name string) (*js.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := all.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return s.CachedInfo(), nil
}

// minVersion is the first broker that reads consecutive messages in one request.
var minVersion = [2]int{2, 12}

func (all *Streams) checkServers(ctx context.Context) error {
	if n := all.conn.MaxPayload(); n < 2*MaxPayload {
		return &SettingError{"server " + all.conn.ConnectedServerName(), "max_payload", fmt.Sprintf("at least %d", 2*MaxPayload), strconv.FormatInt(n, 10),
			"packed messages and their headers must fit"}
	}
	if all.settings.Facts == nil {
		return &SettingError{"server " + all.conn.ConnectedServerName(), "jetstream.sync_interval", "always", "unknown",
			"give mete a user of the system account, so that it can see the setting"}
	}
	facts, err := all.settings.Facts(ctx)
	if err != nil {
		return err
	}
	if len(facts) == 0 {
		return errors.New("no broker told how it runs")
	}
	if want := majority(all.settings.Brokers); all.settings.Brokers > 0 && len(facts) < want {
		return fmt.Errorf("%d of %d brokers told how they run, want %d", len(facts), all.settings.Brokers, want)
	}
	var broken []error
	var room int64
	for _, f := range facts {
		broken = append(broken, f.check()...)
		if f.MaxStore > 0 && (room == 0 || f.MaxStore < room) {
			room = f.MaxStore
		}
	}
	all.mu.Lock()
	all.room, all.brokers = room, all.settings.told(facts)
	all.mu.Unlock()
	return errors.Join(broken...)
}

func (f ServerFacts) check() (broken []error) {
	add := func(setting, wanted, found, why string) {
		broken = append(broken, &SettingError{"server " + f.Name, setting, wanted, found, why})
	}
	if !f.JetStream {
		add("jetstream", "enabled", "disabled", "events are kept in JetStream")
		return broken
	}
	if !f.SyncAlways {
		add("jetstream.sync_interval", "always", "periodic", "an acknowledged event would be lost with the power")
	}
	if f.StoreDir == "" || strings.HasPrefix(f.StoreDir, filepath.Join("/tmp", "nats")+string(filepath.Separator)) {
		add("jetstream.store_dir", "a folder of its own", strconv.Quote(f.StoreDir), "the temporary folder is lost at reboot")
	}
	var major, minor int
	if n, _ := fmt.Sscanf(f.Version, "%d.%d", &major, &minor); n != 2 || major < minVersion[0] || major == minVersion[0] && minor < minVersion[1] {
		add("version", fmt.Sprintf("at least %d.%d", minVersion[0], minVersion[1]), strconv.Quote(f.Version), "older ones lack what mete reads with")
	}
	return broken
}

// checkPartitions refuses another number of partitions before anything is made.
func (all *Streams) checkPartitions(ctx context.Context) error {
	// Brokers that have no leader yet do not answer at all.
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	wanted := strconv.Itoa(all.settings.Partitions)
	list := all.js.ListStreams(ctx, js.WithStreamListSubject("usage.*"))
	for info := range list.Info() {
		if found := info.Config.Metadata[metaPartitions]; found != wanted {
			return &SettingError{"stream " + info.Config.Name, "partitions", wanted, strconv.Quote(found),
				"the number is fixed for the stream's life, since the place of an event follows from it; a stream without it was not made by mete"}
		}
	}
	if err := list.Err(); err != nil && !errors.Is(err, js.ErrEndOfData) {
		return fmt.Errorf("list streams: %w", err)
	}
	return nil
}

// check compares a partition with the design.
func (s Settings) check(partition int, info *js.StreamInfo) (broken []error) {
	c := info.Config
	r := rules{where: "stream " + c.Name}
	r.same("partitions", strconv.Itoa(s.Partitions), c.Metadata[metaPartitions], "the number is fixed for the stream's life")
	r.need("metadata "+metaIncarnation, c.Metadata[metaIncarnation] != "", "an id", "none", "without it a stream made anew is not noticed")
	r.same("subjects", subjectOf(partition), strings.Join(c.Subjects, " "), "only mete's intake writes here")
	r.same("retention", js.LimitsPolicy.String(), c.Retention.String(), "other policies delete what was read")
	s.common(&r, c)
	r.need("max_age", c.MaxAge == 0 || c.MaxAge >= s.Keep, "at least "+s.Keep.String(), c.MaxAge.String(), "events must outlive disputes")
	r.same("deny_delete", "true", strconv.FormatBool(c.DenyDelete), "an event is never edited")
	r.same("deny_purge", "true", strconv.FormatBool(c.DenyPurge), "an event is never edited")
	r.same("allow_rollup_hdrs", "false", strconv.FormatBool(c.AllowRollup), "a roll-up deletes")
	r.same("allow_direct", "true", strconv.FormatBool(c.AllowDirect), "the worker reads by sequence")
	window := min(DuplicateWindow, s.Keep)
	r.need("duplicate_window", c.Duplicates >= window, "at least "+window.String(), c.Duplicates.String(), "a retried publish would count twice")
	r.same("deleted messages", "0", strconv.Itoa(info.State.NumDeleted), "positions must have no holes")
	if l := info.State.Lost; l != nil {
		r.same("lost messages", "0", strconv.Itoa(len(l.Msgs)), "restore the stream from a replica or backup")
	}
	return r.broken
}

func (s Settings) checkIntake(c js.StreamConfig) []error {
	r := rules{where: "stream " + c.Name}
	r.same("subjects", intakePrefix+">", strings.Join(c.Subjects, " "), "producers publish there")
	s.common(&r, c)
	r.need("retention", c.Retention == js.LimitsPolicy, js.LimitsPolicy.String(), c.Retention.String(), "a message leaves by being erased, never by being read")
	r.same("max_age", "0s", c.MaxAge.String(), "an acknowledged event must not expire before it is routed")
	r.same("deny_delete", "false", strconv.FormatBool(c.DenyDelete), "routed messages are erased")
	return r.broken
}

// common are the rules of every stream that acknowledges events.
func (s Settings) common(r *rules, c js.StreamConfig) {
	r.same("storage", js.FileStorage.String(), c.Storage.String(), "memory is lost with the process")
	r.same("discard", js.DiscardNew.String(), c.Discard.String(), "a full stream must refuse, never drop the oldest")
	r.need("max_bytes", c.MaxBytes > 0, "a bound", strconv.FormatInt(c.MaxBytes, 10), "a full disk stops everything else")
	r.need("max_msgs", c.MaxMsgs <= 0, "none", strconv.FormatInt(c.MaxMsgs, 10), "the size bounds the stream")
	r.need("max_msgs_per_subject", c.MaxMsgsPerSubject <= 0, "none", strconv.FormatInt(c.MaxMsgsPerSubject, 10), "it deletes older messages")
	r.need("max_msg_size", c.MaxMsgSize <= 0 || c.MaxMsgSize >= 2*MaxPayload, fmt.Sprintf("none or at least %d", 2*MaxPayload), strconv.Itoa(int(c.MaxMsgSize)), "packed messages must fit")
	r.need("num_replicas", c.Replicas >= s.Replicas, "at least "+strconv.Itoa(s.Replicas), strconv.Itoa(c.Replicas), "one broker's disk may fail")
	r.same("no_ack", "false", strconv.FormatBool(c.NoAck), "an event counts as accepted when the broker says so")
	r.same("sealed", "false", strconv.FormatBool(c.Sealed), "a sealed stream takes no events")
	r.same("persist_mode", js.DefaultPersistMode.String(), c.PersistMode.String(), "asynchronous writes switch sync_always off")
	r.need("mirror, sources", c.Mirror == nil && len(c.Sources) == 0, "none", "some", "sequences must be given here")
	r.need("subject_transform", c.SubjectTransform == nil, "none", "some", "the subject tells the partition or the source")
	r.same("allow_msg_ttl", "false", strconv.FormatBool(c.AllowMsgTTL), "a message could ask to be deleted")
	r.same("allow_msg_counter", "false", strconv.FormatBool(c.AllowMsgCounter), "a counter replaces messages")
	r.same("allow_msg_schedules", "false", strconv.FormatBool(c.AllowMsgSchedules), "a schedule publishes messages of its own")
	r.need("first_seq", c.FirstSeq <= 1, "1", strconv.FormatUint(c.FirstSeq, 10), "positions count from one")
}

type rules struct {
	where  string
	broken []error
}

func (r *rules) same(setting, wanted, found, why string) {
	r.need(setting, wanted == found, wanted, found, why)
}

func (r *rules) need(setting string, ok bool, wanted, found, why string) {
	if !ok {
		r.broken = append(r.broken, &SettingError{r.where, setting, wanted, found, why})
	}
}

// Embedded reports whether the broker is in this process, so that no other process can
// read the stream.
func (all *Streams) Embedded() bool { return all.settings.Embedded }

// Partitions is how many the stream has.
func (all *Streams) Partitions() int { return all.settings.Partitions }

// Name is the stream as a store knows it: it changes when any partition is made anew.
func (all *Streams) Name() string {
	h := sha256.New()
	for _, id := range all.ids {
		fmt.Fprintf(h, "%d:%s", len(id), id)
	}
	return "usage-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// Partition is the state of one partition.
type Partition struct {
	First, Last uint64
	Bytes       uint64
	MaxBytes    int64
	MaxAge      time.Duration
	Oldest      time.Time // of the first message
}

// State is the partition as the broker has it now. It fails with
// metering.ErrIncarnation if it was made anew since [Ensure].
func (all *Streams) State(ctx context.Context, partition int) (Partition, error) {
	info, err := all.info(ctx, streamName(partition))
	if err != nil {
		return Partition{}, err
	}
	if id := info.Config.Metadata[metaIncarnation]; id != all.ids[partition] {
		return Partition{}, all.changed(partition, id)
	}
	return Partition{
		First:    info.State.FirstSeq,
		Last:     info.State.LastSeq,
		Bytes:    info.State.Bytes,
		MaxBytes: info.Config.MaxBytes,
		MaxAge:   info.Config.MaxAge,
		Oldest:   info.State.FirstTime,
	}, nil
}

// storedAt is when a message came into the stream; the zero time if it is not there.
func (all *Streams) storedAt(ctx context.Context, partition int, sequence uint64) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := all.js.Stream(ctx, streamName(partition))
	if err != nil {
		return time.Time{}, fmt.Errorf("stream %s: %w", streamName(partition), err)
	}
	m, err := getMsg(ctx, s, sequence)
	if errors.Is(err, js.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("message %d of stream %s: %w", sequence, streamName(partition), err)
	}
	return m.Time, nil
}

// Attach names the stream to the store and checks that the store can go on from
// where it is. Call it before [Intake.Accept] takes the first event: a stream that
// was restored from an older copy would give new events positions that the store
// has passed.
func (all *Streams) Attach(ctx context.Context, store metering.Store) (incarnation int, err error) {
	if incarnation, err = store.Attach(ctx, all.Name(), all.Partitions()); err != nil {
		return 0, err
	}
	for p := range all.Partitions() {
		stored, err := store.Position(ctx, p)
		if err != nil {
			return 0, err
		}
		if _, err := all.continues(ctx, p, stored); err != nil {
			return 0, err
		}
	}
	return incarnation, nil
}

// continues checks that the partition still has what follows the stored position.
func (all *Streams) continues(ctx context.Context, partition int, stored uint64) (Partition, error) {
	s, err := all.State(ctx, partition)
	// A replica that has just become the leader may not have applied all it has.
	for until := time.Now().Add(settle); err == nil && s.Last < stored && all.settings.Replicas > 1 && time.Now().Before(until); {
		if !sleep(ctx, settle/20) {
			return s, ctx.Err()
		}
		s, err = all.State(ctx, partition)
	}
	if err != nil {
		return s, err
	}
	if s.Last < stored {
		return s, fmt.Errorf("partition %d: the stream ends at %d, the store has %d: the stream was restored from an older copy; restore the newer one, or start a new stream and store: %w",
			partition, s.Last, stored, metering.ErrIncarnation)
	}
	if s.First > stored+1 {
		return s, gap(partition, stored, s.First)
	}
	return s, nil
}

// settle is how long a replicated stream may seem to end early.
const settle = 5 * time.Second

func gap(partition int, stored, next uint64) error {
	return fmt.Errorf("partition %d: the store has %d, the stream goes on at %d: messages %d to %d are gone; restore the stream or a newer store from backup: %w",
		partition, stored, next, stored+1, next-1, metering.ErrGap)
}

// holdMargin is how long a message after the checkpoint is kept after the last
// [Streams.Hold], or half of the wanted time where that is less.
const holdMargin = 30 * 24 * time.Hour

// Hold keeps messages after the reconcile checkpoint from expiring: a partition whose
// first message after it nears its end is kept longer, and goes back to the wanted time
// when the checkpoint has moved on. Those up to the checkpoint expire after the wanted
// time. Without a checkpoint nothing expires. Run it much more often than holdMargin; now
// is by the brokers' clock.
func (all *Streams) Hold(ctx context.Context, checkpoint metering.Cutoff, now time.Time) error {
	for p := range all.Partitions() {
		at := checkpoint.Of(p)
		if err := all.hold(ctx, p, at, now); err != nil {
			return fmt.Errorf("hold partition %d after %d: %w", p, at, err)
		}
	}
	return nil
}

func (all *Streams) hold(ctx context.Context, partition int, reconciled uint64, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	s, err := all.js.Stream(ctx, streamName(partition))
	if err != nil {
		return err
	}
	info := s.CachedInfo()
	if id := info.Config.Metadata[metaIncarnation]; id != all.ids[partition] {
		return all.changed(partition, id)
	}
	keep := all.settings.Keep
	if next := max(reconciled+1, info.State.FirstSeq); next <= info.State.LastSeq {
		m, err := getMsg(ctx, s, next)
		if err != nil {
			return err
		}
		keep = max(keep, now.Sub(m.Time)+min(holdMargin, keep/2))
	}
	if info.Config.MaxAge == keep || info.Config.MaxAge == 0 {
		return nil
	}
	c := info.Config
	c.MaxAge = keep
	_, err = all.js.UpdateStream(ctx, c)
	return err
}
