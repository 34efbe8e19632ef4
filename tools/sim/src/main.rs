//! `weircast-sim`: runs scenarios, compares them, replays seeds.

fn main() {}
