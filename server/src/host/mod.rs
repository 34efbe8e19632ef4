//! The host folder.
