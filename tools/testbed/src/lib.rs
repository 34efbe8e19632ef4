//! Weircast.
