//! The uring folder.
