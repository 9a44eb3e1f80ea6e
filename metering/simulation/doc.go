// Package simulation proves that metering counts each event once while everything that
// can be killed is killed. It holds tests only: real brokers, real stores, and workers
// and routers as processes of their own, driven from a seed.
//
// What is right is said by the senders: their own record of what they sent and what was
// acknowledged to them. The store is what is on trial and is never asked.
//
// It knows the drivers below metering and refuses to know what events are worth. Read
// TestSimulation first, then fault and senderLog.
package simulation
