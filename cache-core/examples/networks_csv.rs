//! Prints networks as `weircast-route compile` reads them: `networks_csv [COUNT] [even]`, half a tenth of them of IPv6.
//! To measure with; the places are nonsense.

#[path = "../tests/address_kit/mod.rs"]
mod address_kit;

use std::io::Write;

use address_kit::{Lengths, networks};

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.first().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let lengths = if arguments.iter().any(|word| word == "even") { Lengths::Even } else { Lengths::Real };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (cidr, place) in networks(false, lengths, count, 1).into_iter().chain(networks(true, lengths, count / 20, 2)) {
        let at = place.location;
        writeln!(out, "{cidr},{},{},{},{},", at.country, at.carrier, at.region, at.city)?;
    }
    out.flush()
}
