//! Against the table that searches once per prefix length, as oracle; and files that somebody damaged.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::file::{FileError, HEADER_BYTES};
use super::*;
use crate::proto::route::cidr::CidrTable;

fn place(number: u16) -> Place {
    let location = Location { country: (number >> 4) as u8, carrier: number as u8 & 15, ..Location::default() };
    let odd = number % 2 == 1;
    Place { location, area: odd.then_some(number), domain: number.is_multiple_of(3).then_some(DomainId(number)) }
}

fn net(text: &str) -> Cidr {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn list(networks: &[(&str, u16)]) -> PlaceList {
    PlaceList::of([networks.iter().map(|(text, number)| (net(text), place(*number))).collect()]).expect("few")
}

/// Addresses close together, so that networks lie in and beside each other; and some at both ends.
fn address() -> impl Strategy<Value = IpAddr> {
    let near = 0_u32..0x0004_0000;
    prop_oneof![
        near.clone().prop_map(|bits| Ipv4Addr::from_bits(0x0a00_0000 | bits).into()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        (0_u32..300).prop_map(|bits| Ipv4Addr::from_bits(u32::MAX - bits).into()),
        (near, 0_u64..4).prop_map(|(high, low)| {
            Ipv6Addr::from_bits(0x2001_u128 << 112 | u128::from(high) << 60 | u128::from(low)).into()
        }),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        (0_u128..300).prop_map(|bits| Ipv6Addr::from_bits(u128::MAX - bits).into()),
    ]
}

fn network() -> impl Strategy<Value = (Cidr, Place)> {
    let len = prop_oneof![0_u8..=128, 14_u8..=32, Just(0), Just(24), Just(32), Just(64), Just(128)];
    (address(), len, 0_u16..40).prop_map(|(ip, len, number)| (Cidr::of(ip, len), place(number)))
}

/// The first and the last address of a network, and the ones beside it.
fn edges(cidr: Cidr) -> Vec<IpAddr> {
    let (v6, bits, len) = cidr.parts();
    let last = bits | u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
    let to_ip = |bits: u128| -> IpAddr {
        if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits((bits >> 96) as u32).into() }
    };
    let one = if v6 { 1 } else { 1 << 96 };
    [bits, last, bits.wrapping_sub(one), last.wrapping_add(one)].map(to_ip).into()
}

fn oracle(layers: &[Vec<(Cidr, Place)>]) -> Vec<CidrTable<Place>> {
    let table = |layer: &Vec<(Cidr, Place)>| {
        let mut table = CidrTable::default();
        layer.iter().for_each(|(cidr, place)| {
            table.insert(*cidr, *place);
        });
        table
    };
    layers.iter().map(table).collect()
}

proptest! {
    #[test]
    fn it_answers_as_the_naive_table_does(
        layers in prop::collection::vec(prop::collection::vec(network(), 0..60), 1..4),
        asked in prop::collection::vec(address(), 50),
    ) {
        let tables = oracle(&layers);
        let list = PlaceList::of(layers.clone()).expect("few");
        let read = PlaceList::decode(&list.encode()).expect("its own bytes");
        prop_assert_eq!(&read, &list);
        let places = read.index();
        let edges = layers.iter().flatten().flat_map(|(cidr, _)| edges(*cidr));
        for ip in asked.into_iter().chain(edges) {
            let expected = tables.iter().find_map(|table| table.get(ip)).map(|(_, place)| *place);
            prop_assert_eq!(places.get(ip), expected, "{}", ip);
        }
    }

    #[test]
    fn a_flipped_bit_or_a_missing_end_is_refused(
        networks in prop::collection::vec(network(), 0..30),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let whole = PlaceList::of([networks]).expect("few").encode();
        let mut flipped = whole.clone();
        flipped[at.index(whole.len())] ^= 1 << bit;
        prop_assert!(PlaceList::decode(&flipped).is_err());
        prop_assert!(PlaceList::decode(&whole[..at.index(whole.len())]).is_err());
        let longer = [whole, vec![0]].concat();
        let refused_for_its_length = matches!(PlaceList::decode(&longer), Err(FileError::Length { .. }));
        prop_assert!(refused_for_its_length);
    }

    /// As somebody would who means it: with a checksum that fits. It may be refused or answer anything, but not panic.
    #[test]
    fn a_forged_file_never_panics(
        networks in prop::collection::vec(network(), 0..30),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        asked in prop::collection::vec(address(), 20),
    ) {
        let mut bytes = PlaceList::of([networks]).expect("few").encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(list) = PlaceList::decode(&sealed(bytes)) {
            let places = list.index();
            asked.into_iter().for_each(|ip| {
                places.get(ip);
            });
        }
    }

    #[test]
    fn bytes_of_anything_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(PlaceList::decode(&bytes).is_err());
    }
}

/// With the checksum that fits.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = blake3::hash(&[&bytes[..40], &bytes[HEADER_BYTES..]].concat());
    bytes[40..HEADER_BYTES].copy_from_slice(sum.as_bytes());
    bytes
}

#[test]
fn the_longest_network_wins_inside_a_layer_and_the_upper_layer_outside() {
    let layer = |networks: &[(&str, u16)]| networks.iter().map(|(text, number)| (net(text), place(*number))).collect();
    let upper: Vec<_> = layer(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2)]);
    let lower: Vec<_> = layer(&[("10.1.7.0/24", 3), ("0.0.0.0/0", 4), ("::/0", 5)]);
    let places = PlaceList::of([upper, lower]).expect("few").index();
    let at = |text| places.get(ip(text));
    assert_eq!(at("10.1.7.1"), Some(place(2)), "the lower layer's longer network is not asked");
    assert_eq!(at("10.2.0.0"), Some(place(1)));
    assert_eq!((at("9.255.255.255"), at("11.0.0.0")), (Some(place(4)), Some(place(4))));
    assert_eq!(at("2001:db8::"), Some(place(5)));
    assert_eq!(at("::ffff:10.1.0.1"), Some(place(2)), "IPv4 inside IPv6 is IPv4");
    assert_eq!(places.networks(), 5);
    assert_eq!(places.domains().into_iter().collect::<Vec<_>>(), [DomainId(3)]);
}

#[test]
fn nothing_is_known_of_nothing() {
    let places = PlaceList::of([]).expect("none").index();
    assert_eq!((places.get(ip("0.0.0.0")), places.get(ip("ffff::"))), (None, None));
}

#[test]
fn each_kind_of_wrong_file_is_refused_with_what_to_do() {
    let whole = list(&[("10.0.0.0/8", 1), ("2001:db8::/32", 2)]).encode();
    let refused = |bytes: &[u8]| PlaceList::decode(bytes).expect_err("a wrong file");
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    assert_eq!(refused(b""), FileError::Foreign);
    assert_eq!(refused(b"PK\x03\x04"), FileError::Foreign);
    assert!(matches!(refused(&whole[..5]), FileError::Length { .. }));
    assert!(matches!(refused(&whole[..HEADER_BYTES]), FileError::Length { .. }));
    assert_eq!(refused(&with(8, &[0])), FileError::Version(0));
    assert_eq!(refused(&with(20, &[255; 4])), FileError::Counts, "nothing of that size is allocated");
    assert_eq!(refused(&with(HEADER_BYTES, &[9])), FileError::Checksum);
    assert_eq!(refused(&sealed(with(28, &[9]))), FileError::Content("reserved bytes are not zero"));
    let content = |at, bytes: &[u8]| assert!(matches!(refused(&sealed(with(at, bytes))), FileError::Content(_)));
    let (places, v4) = (2 * 8, 3);
    content(HEADER_BYTES + 7, &[128]);
    content(HEADER_BYTES + places, &[1]);
    content(HEADER_BYTES + places + 4, &[0, 0, 0, 0]);
    content(HEADER_BYTES + places + 4 * v4 + 4, &[2, 0, 0, 0]);
    for error in [FileError::Foreign, FileError::Version(0), FileError::Counts, FileError::Checksum] {
        assert!(error.to_string().contains("weircast-route compile"), "{error}");
    }
}

#[test]
fn too_many_networks_are_refused() {
    let one = (net("10.0.0.0/8"), place(1));
    assert!(PlaceList::at_most(3, [vec![one], vec![one; 2]]).is_ok());
    assert_eq!(PlaceList::at_most(3, [vec![one; 2], vec![one; 2]]), Err(TooManyNetworks(4)));
}
