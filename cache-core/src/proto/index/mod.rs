//! The index's machine.
