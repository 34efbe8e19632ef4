//! The cache's machine.
