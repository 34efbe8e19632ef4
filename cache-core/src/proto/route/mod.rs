//! The route's machine.
