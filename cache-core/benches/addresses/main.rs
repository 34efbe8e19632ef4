//! Where an address is, among a million networks: the table that serves, and other ways to do the same.
//!
//! Addresses are drawn while it runs, which costs about a nanosecond each: a list of them would take its share of the
//! cache. "random" are all addresses alike; "skewed" are nine times of ten one of 10 000.

#![allow(clippy::disallowed_methods, reason = "it measures")]

#[path = "../../tests/address_kit/mod.rs"]
mod address_kit;
mod rivals;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use address_kit::{Lengths, address, networks};
use cache_core::prng::Prng;
use cache_core::proto::route::cidr::{Cidr, CidrTable};
use cache_core::proto::route::geo::Place;
use cache_core::proto::route::places::ranges::{Network, Ranges};
use cache_core::proto::route::places::{PlaceList, Places};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use rivals::{Finds, Flat, Tree};

/// Networks; fewer where nothing is measured.
const COUNT: usize = if cfg!(debug_assertions) { 10_000 } else { 1_000_000 };

/// Look-ups in one round of the measurement.
const ROUND: u64 = 10_000;

/// Draws addresses.
struct Askers {
    v6: bool,
    chance: Prng,
    often: Vec<IpAddr>,
}

impl Askers {
    fn new(v6: bool, skewed: bool) -> Askers {
        let mut chance = Prng::new(99);
        let often = (0..if skewed { 10_000 } else { 0 }).map(|_| address(v6, &mut chance)).collect();
        Askers { v6, chance, often }
    }

    #[inline]
    fn next(&mut self) -> IpAddr {
        if !self.often.is_empty() {
            let bits = self.chance.next_u64();
            if !bits.is_multiple_of(10) {
                return self.often[(bits >> 32) as usize % self.often.len()];
            }
        }
        address(self.v6, &mut self.chance)
    }
}

fn bits(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(_) => 0,
    }
}

/// Look-ups that do not wait for each other.
fn measure<T>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut askers: Askers, find: impl Fn(IpAddr) -> T) {
    group.bench_function(name, |b| {
        b.iter(|| {
            for _ in 0..ROUND {
                black_box(find(askers.next()));
            }
        });
    });
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(ROUND)).sample_size(10);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    group
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let since = Instant::now();
    let made = work();
    println!("{what}: {} ms", since.elapsed().as_millis());
    made
}

/// The table as a server has it, and how long each step to it takes.
fn places(v6: bool, lengths: Lengths) -> Places {
    let networks = networks(v6, lengths, COUNT, 7);
    let list = timed("networks flattened", || PlaceList::of([networks]).expect("as many as fit"));
    let bytes = timed("encoded", || list.encode());
    let list = timed("decoded", || PlaceList::decode(&bytes).expect("its own bytes"));
    let places = timed("indexed", || list.index());
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let family = if v6 { "IPv6" } else { "IPv4" };
    println!("{family}, lengths {lengths:?}: file {:.1} MiB, table {:.1} MiB", mib(bytes.len()), mib(places.bytes()));
    places
}

fn served(c: &mut Criterion) {
    for (name, v6, lengths) in [
        ("IPv4", false, Lengths::Real),
        ("IPv4, lengths even", false, Lengths::Even),
        ("IPv6", true, Lengths::Real),
        ("IPv6, lengths even", true, Lengths::Even),
    ] {
        let places = places(v6, lengths);
        let mut group = group(c, name);
        measure(&mut group, "random", Askers::new(v6, false), |ip| places.get(ip));
        measure(&mut group, "skewed", Askers::new(v6, true), |ip| places.get(ip));
        if !v6 && lengths == Lengths::Real {
            let mut askers = Askers::new(v6, false);
            group.bench_function("random, each waits for the one before", |b| {
                b.iter(|| {
                    let mut before = 0;
                    for _ in 0..ROUND {
                        // Always zero, which the compiler cannot know.
                        let ip = Ipv4Addr::from_bits(bits(askers.next()) + (black_box(before) >> 16));
                        before = places.get(ip.into()).map_or(0, |place| u32::from(place.location.country));
                    }
                    before
                });
            });
        }
        group.finish();
    }
}

fn rival(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, finder: &impl Finds) {
    println!("{name}: {:.1} MiB", finder.bytes() as f64 / f64::from(1 << 20));
    measure(group, &format!("{name}, random"), Askers::new(false, false), |ip| finder.find(bits(ip)));
    measure(group, &format!("{name}, skewed"), Askers::new(false, true), |ip| finder.find(bits(ip)));
}

fn rivals(c: &mut Criterion) {
    let listed = networks(false, Lengths::Real, COUNT, 7);
    let number = |at: usize| at as u32 % 20_000;
    let network = |(at, (cidr, _)): (usize, &(Cidr, Place))| {
        let (_, bits, len) = cidr.parts();
        Network { bits, len, value: number(at) }
    };
    let ranges: Ranges<u32> = Ranges::flatten(listed.iter().enumerate().map(network).collect());
    let mut table = CidrTable::default();
    for (at, (cidr, _)) in listed.iter().enumerate() {
        table.insert(*cidr, number(at));
    }
    let mut group = group(c, "IPv4, other ways");
    rival(&mut group, "a value for each /24", &timed("a value for each /24", || Flat::of(&ranges)));
    rival(&mut group, "a tree of 16 keys to a node", &timed("a tree of 16 keys to a node", || Tree::of(&ranges)));
    rival(&mut group, "ranges, halved", &ranges);
    measure(&mut group, "a search per length, random", Askers::new(false, false), |ip| {
        table.get(ip).map(|(_, number)| *number)
    });
    group.finish();
}

criterion_group!(benches, served, rivals);
criterion_main!(benches);
