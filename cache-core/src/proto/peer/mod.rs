//! The peer's machine.
