//! What is decided: one state machine per role, each pure.
//!
//! Every machine has the same shape:
//!
//! ```text
//! fn handle(&mut self, now: Time, input: Input, out: &mut Outbox<Output>)     one complete transition
//! fn next_timeout(&self) -> Time                                              when to call with Input::Tick at the latest
//! ```
//! Time and chance come in from outside; bytes never do: machines speak of chunks by name ([`crate::units::ChunkSeq`])
//! and the driver resolves the name to a leased slot (cache server), a buffer (peer) or a length (simulator).

pub mod asker;
pub mod cache;
pub mod gate;
pub mod index;
pub mod peer;
pub mod route;
