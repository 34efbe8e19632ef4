//! Weircast.
fn main() {}
