//! The peer's machine.

pub mod event;

pub use event::{End, Input, LinkId, Output};
