//! The chunk ring.
