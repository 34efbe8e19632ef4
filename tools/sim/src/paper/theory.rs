//! Lines of theory, and the static check: who becomes whose partner under each way of answering, without any streaming.

use cache_core::proto::peer::Tuning;

use super::figures::{Band, band};
use crate::cycle::dice;
use crate::cycle::mesh::{Answer, Index, Mesh};
use crate::cycle::places::{Places, side_of};

/// Mean distance of two random points of the unit square: (2 + sqrt 2 + 5 ln(1 + sqrt 2)) / 15.
pub const RANDOM_DISTANCE: f64 = 0.521_405_433_164_720_7;

/// Share of traffic between regions when partners are random.
pub fn random_share(regions: u32) -> f64 {
    1.0 - 1.0 / f64::from(regions.max(1))
}

/// Least traffic between regions over what is played: the stream enters each of the other regions once.
pub fn floor(regions: u32, nodes: u32) -> f64 {
    f64::from(regions.saturating_sub(1)) / f64::from(nodes.max(1))
}

/// A row of the static check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Static {
    /// Nodes.
    pub nodes: u32,
    /// Regions.
    pub regions: u32,
    /// How the index answers.
    pub answer: Answer,
    /// How finely a PeerID says where a peer is.
    pub finer: u32,
    /// Mean distance between partners.
    pub delay_factor: Band,
    /// Share of links between regions.
    pub links: Band,
}

/// Builds meshes and looks at their links.
pub fn static_check(nodes: u32, regions: u32, answer: Answer, finer: u32, seeds: u64) -> Option<Static> {
    let (side, tuning) = (side_of(regions)?, Tuning::default());
    let (mut distance, mut links) = (Vec::new(), Vec::new());
    for seed in 1..=seeds {
        let places = Places::random(nodes, side, finer, &mut dice(seed, 0, u32::MAX));
        let index = Index::new(&places, answer, &tuning);
        let mesh = Mesh::build(&places, &index, &tuning, 0, seed, 1);
        distance.push(mesh.delay_factor(&places));
        links.push(mesh.inter_region_links(&places));
    }
    Some(Static { nodes, regions, answer, finer, delay_factor: band(&distance)?, links: band(&links)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let exact = (2.0 + 2f64.sqrt() + 5.0 * (1.0 + 2f64.sqrt()).ln()) / 15.0;
        assert!((RANDOM_DISTANCE - exact).abs() < 1e-12);
        assert_eq!((random_share(4), random_share(16), floor(16, 500)), (0.75, 0.9375, 0.03));
    }

    #[test]
    fn a_list_sorted_by_location_gives_the_papers_delay() {
        let near = static_check(500, 16, Answer::Nearest, 1, 2).expect("a square number");
        assert!((0.05..0.13).contains(&near.delay_factor.mean), "about 0.1 in figure 6: {near:?}");
        let random = static_check(500, 16, Answer::Random, 1, 2).expect("a square number");
        assert!((0.35..0.53).contains(&random.delay_factor.mean), "0.4 to 0.5 in figure 6: {random:?}");
    }
}
