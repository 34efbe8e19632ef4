//! The cache's machines.

pub mod viewer;
