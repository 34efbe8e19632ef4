//! Where nodes are: uniform in the unit square, which is cut into k x k regions; a PeerID follows from the place.
//!
//! ```text
//!  region (k x k)        city (f x f of its region)     area (f x f of its city)     node number
//!  country               city                           area                         issued in turn, spread over 16 bits
//! ```
//! A region is a country of its own, so that any two regions are equally far from each other in a PeerID's eyes. How finely a PeerID says where a node is inside its region is `finer`: with 1
//! it says the region alone. Nodes are numbered in the order of their PeerIDs, so that near nodes are near in memory.

use cache_core::peer_id::{Location, PeerId};
use cache_core::prng::Prng;

/// Most cities along a region's side: the city field has 6 bits and 0 means unknown.
pub const FINER_MAX: u32 = 7;

/// All nodes' places, by node number.
#[derive(Clone, Debug)]
pub struct Places {
    /// Along a side.
    pub side: u32,
    /// In ascending order.
    pub ids: Vec<PeerId>,
    /// Where, 0 to 1 each.
    pub at: Vec<[f32; 2]>,
    /// Region of each, row by row.
    pub region: Vec<u16>,
}

/// k for k x k = `regions`; `None` when it is no square of 1 to 15.
pub fn side_of(regions: u32) -> Option<u32> {
    (1..=15).find(|side| side * side == regions)
}

/// The region at `at` of `side` x `side`.
pub fn region_at(at: [f32; 2], side: u32) -> u16 {
    let cell = |x: f32| ((x * side as f32) as u32).min(side - 1);
    (cell(at[1]) * side + cell(at[0])) as u16
}

fn location_at(at: [f32; 2], side: u32, finer: u32) -> Location {
    let cell = |x: f32, per_side: u32| ((x * (side * per_side) as f32) as u32).min(side * per_side - 1) % finer;
    let square = |per_side: u32| cell(at[1], per_side) * finer + cell(at[0], per_side);
    let region = u32::from(region_at(at, side));
    Location {
        country: (1 + region) as u8,
        carrier: 1,
        region: 1,
        city: (1 + square(finer)) as u8,
        area: (1 + square(finer * finer)) as u16,
    }
}

impl Places {
    /// `nodes` at random in `side` x `side` regions, of `finer` x `finer` cities (1 to [`FINER_MAX`]) of as many areas. An area takes 65 536 nodes; what is beyond goes to an area of its own
    /// number range in the same city, as the route server does it.
    pub fn random(nodes: u32, side: u32, finer: u32, rng: &mut Prng) -> Places {
        let unit = |rng: &mut Prng| (rng.next_u64() >> 40) as f32 / (1u32 << 24) as f32;
        let mut all: Vec<(PeerId, [f32; 2])> = (0..nodes)
            .map(|_| {
                let at = [unit(rng), unit(rng)];
                (PeerId::new(location_at(at, side, finer), 0), at)
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0).then(a.1[0].total_cmp(&b.1[0])).then(a.1[1].total_cmp(&b.1[1])));
        let mut issued = 0u32;
        let mut before = PeerId::NONE;
        for (id, _) in &mut all {
            issued = if *id == before { issued + 1 } else { 0 };
            before = *id;
            let mut location = id.location();
            location.area += (issued >> 16) as u16 * (finer * finer + 1) as u16;
            *id = PeerId::new(location, (issued as u16).wrapping_mul(40_503));
        }
        all.sort_by_key(|(id, _)| *id);
        Places {
            side,
            region: all.iter().map(|(_, at)| region_at(*at, side)).collect(),
            ids: all.iter().map(|(id, _)| *id).collect(),
            at: all.iter().map(|(_, at)| *at).collect(),
        }
    }

    /// How many.
    pub fn len(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Nobody.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The node with that id.
    pub fn node(&self, id: PeerId) -> Option<u32> {
        self.ids.binary_search(&id).ok().map(|node| node as u32)
    }

    /// Distance in the unit square.
    pub fn distance(&self, a: u32, b: u32) -> f64 {
        let ([ax, ay], [bx, by]) = (self.at[a as usize], self.at[b as usize]);
        f64::from(ax - bx).hypot(f64::from(ay - by))
    }

    /// Bytes of the arrays.
    pub fn bytes(&self) -> usize {
        self.ids.len() * (size_of::<PeerId>() + size_of::<[f32; 2]>() + size_of::<u16>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_ordered_and_say_the_region() {
        for side in [1, 4, 10] {
            let places = Places::random(3_000, side, 4, &mut Prng::new(1));
            assert!(places.ids.is_sorted_by(|a, b| a < b));
            for node in 1..places.len() {
                let (a, b) = (node as usize - 1, node as usize);
                let tier = places.ids[a].tier(places.ids[b]).0;
                assert_eq!(tier >= 3, places.region[a] == places.region[b], "{:?} {:?}", places.ids[a], places.ids[b]);
            }
        }
    }

    #[test]
    fn random_pairs_are_half_the_square_apart() {
        let places = Places::random(4_000, 4, 1, &mut Prng::new(1));
        let mut rng = Prng::new(2);
        let pairs = (0..4_000).map(|_| places.distance(rng.below(4_000) as u32, rng.below(4_000) as u32));
        let mean = pairs.sum::<f64>() / 4_000.0;
        assert!((0.50..0.54).contains(&mean), "0.5214 in theory, seen {mean}");
    }
}
