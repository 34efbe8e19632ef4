//! The route folder.
