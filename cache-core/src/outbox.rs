//! Where a state machine puts what it has decided; the driver carries it out afterwards.

/// Decisions in the order they were made. One transition's worth: the driver empties it before the next call.
#[derive(Debug)]
pub struct Outbox<T>(Vec<T>);

impl<T> Outbox<T> {
    /// Empty.
    pub const fn new() -> Outbox<T> {
        Outbox(Vec::new())
    }

    /// Adds a decision.
    pub fn push(&mut self, item: T) {
        self.0.push(item);
    }

    /// Takes all decisions, oldest first; the memory is kept for the next turn.
    pub fn drain(&mut self) -> std::vec::Drain<'_, T> {
        self.0.drain(..)
    }

    /// What is in it.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Outbox::new()
    }
}
