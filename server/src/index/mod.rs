//! The index folder.
