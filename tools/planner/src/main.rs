//! `weircast-plan`: what hardware an audience needs.

fn main() {}
