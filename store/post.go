package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"mete/ledger"
)

// Bounds of group commit.
const (
	maxWaitingPosts  = 4096 // calls; more wait for room
	maxBatchCalls    = 1000
	maxBatchPostings = 20_000
	postTimeout      = 30 * time.Second // one batch, from begin to commit
)

// Post implements [ledger.Store]. Calls that arrive while a transaction commits share
// the next one; each is judged alone, so a conflict or a failed guard answers its
// caller and the rest is booked. A context that ends while the call waits takes it
// back; once its transaction has begun, Post waits for the outcome, so that the
// answer is always the truth.
func (db *DB) Post(ctx context.Context, entries ...ledger.Entry) error {
	call := &postCall{entries: entries}
	if err := call.prepare(); err != nil || len(entries) == 0 {
		return err
	}
	w := &waitingPost{postCall: call, done: make(chan error, 1)}
	select {
	case db.posts.room <- struct{}{}:
		defer func() { <-db.posts.room }()
	case <-ctx.Done():
		return fmt.Errorf("post %q: nothing booked: %w", entries[0].ID, ctx.Err())
	}
	if db.posts.join(w) {
		go db.commitPosts()
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	if db.posts.leave(w) {
		return fmt.Errorf("post %q: nothing booked: %w", entries[0].ID, ctx.Err())
	}
	return <-w.done
}

// waitingPost is a call in the queue.
type waitingPost struct {
	*postCall
	done chan error
}

// postQueue is calls that wait for the next transaction.
type postQueue struct {
	room chan struct{}

	mu      sync.Mutex
	waiting []*waitingPost
	running bool
}

func newPostQueue() *postQueue {
	return &postQueue{room: make(chan struct{}, maxWaitingPosts)}
}

// join reports whether nobody commits yet, so that the caller has to see to it.
func (q *postQueue) join(w *waitingPost) (first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
	first, q.running = !q.running, true
	return first
}

// leave takes the call back and reports whether it still waited.
func (q *postQueue) leave(w *waitingPost) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, w)
	if i < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// rest reports whether nobody waits, and that committing ends then.
func (q *postQueue) rest() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = len(q.waiting) > 0
	return !q.running
}

// take answers the calls of the next transaction, in order of arrival.
func (q *postQueue) take() []*waitingPost {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for ; n < min(len(q.waiting), maxBatchCalls); n++ {
		if size += q.waiting[n].size; size > maxBatchPostings && n > 0 {
			break
		}
	}
	taken := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return taken
}

// commitPosts runs transactions until nobody waits.
func (db *DB) commitPosts() {
	for !db.posts.rest() {
		db.commitBatch()
	}
}

// commitBatch books the waiting calls in one transaction and answers them. It takes
// them when it holds the head: whoever arrived until then is on board. When the
// transaction fails as a whole, each call gets one of its own: posting is idempotent,
// so that is right even if the commit's answer was lost.
func (db *DB) commitBatch() {
	ctx, cancel := context.WithTimeout(context.Background(), postTimeout)
	defer cancel()
	var batch []*waitingPost
	err := db.tx(ctx, func(tx *sql.Tx) error {
		head, err := db.lockHead(ctx, tx)
		if err != nil {
			return err
		}
		if batch == nil {
			batch = db.posts.take()
		}
		return db.book(ctx, tx, head, callsOf(batch))
	})
	if batch == nil {
		batch = db.posts.take()
	}
	for _, w := range batch {
		answer := err
		switch {
		case err == nil:
			answer = w.err
		case len(batch) > 1:
			answer = db.tx(ctx, func(tx *sql.Tx) error { return db.postCall(ctx, tx, w.postCall) })
		}
		w.done <- answer
	}
}

func callsOf(batch []*waitingPost) []*postCall {
	calls := make([]*postCall, len(batch))
	for i, w := range batch {
		calls[i] = w.postCall
	}
	return calls
}
