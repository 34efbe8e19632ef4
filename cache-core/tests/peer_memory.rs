//! What a peer holds in memory when it plays among twelve partners.

mod counting_alloc;
#[allow(dead_code, reason = "the other tests use more of it")]
mod peer_net;

use cache_core::proto::peer::{Profile, Tuning};
use peer_net::Net;

#[global_allocator]
static ALLOCATOR: counting_alloc::Counting = counting_alloc::Counting;

/// Most bytes of a peer's machine, its counters included.
const PEER_BYTES_MAX: usize = 48 << 10;

#[test]
fn a_peer_with_twelve_partners_is_small() {
    for profile in [Profile::Classic, Profile::Low] {
        let mut net = Net::new(1, 1_000, 1);
        net.run(3_000);
        for _ in 0..24 {
            net.watch(Tuning { neighbours_min: 12, ..profile.tuning() });
            net.run(100);
        }
        net.run(30_000);
        let partners = |node: &usize| net.viewers[node].peer.snapshot(net.now).partners;
        let node = *net.viewers.keys().max_by_key(|node| partners(node)).expect("24");
        let peer = net.viewers.remove(&node).expect("there").peer;
        let partners = peer.snapshot(net.now).partners;
        assert!(partners >= 12, "{partners} partners");
        let held = size_of_val(&peer) + counting_alloc::held_by(peer);
        println!("{profile:?}: {held} bytes with {partners} partners");
        assert!(held < PEER_BYTES_MAX, "{held} bytes");
    }
}
