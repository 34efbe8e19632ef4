//! PeerIDs: node numbers of an area, issued without replacement and leased.
//!
//! Random 16-bit numbers would collide with even odds at about 302 peers in an area (paper, decoded); so every area walks
//! through all 65 536 numbers in a shuffled order of its own, skipping those still leased. A number that was given back comes
//! again only after all others.
//!
//! **Beyond 65 536.** When [`PROBES_MAX`] numbers in a row are leased the area counts as full, and the peer gets a number of a
//! following area (up to [`OVERFLOW_AREAS`]): it is then one tier further from its neighbours than it should be. When those
//! are full as well it is refused.
//!
//! A lease belongs to the IP address that it was given to: only from there can it be renewed or given back. A repeated
//! question from the same address and port gets the same id. After a restart of the route server a renewal takes its id
//! back, unless the number was issued meanwhile; each area's shuffled order begins elsewhere then, so that this is rare.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::peer_id::{Location, PeerId};
use crate::prng::mix;
use crate::proto::gate::prefix_of;
use crate::time::{Span, Time};

/// Numbers tried in one area before it counts as full. Our guess: in an area nine tenths leased one in a thousand
/// searches fails.
pub const PROBES_MAX: u32 = 64;

/// Areas after a full one that take its peers. Our guess.
pub const OVERFLOW_AREAS: u16 = 4;

/// Areas whose walk is remembered: four times what one network type of IPv4 has as /16 (about 10 MB).
pub const AREAS_MAX: usize = 4 * 65_536;

/// Memory of a leased id, in bytes: 300 MB for 2 million.
pub const ID_MEMORY_BYTES: u64 = 150;

/// Leases looked at in one sweep: about 100 us of work.
const SWEEP_LEASES: usize = 2048;

/// Pause between two sweeps; ten million leases are passed in 81 minutes, a million in 8.
const SWEEP_PERIOD: Span = Span::from_secs(1);

/// Bounds and terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdsConfig {
    /// How long an id is leased.
    pub lease: Span,
    /// Most ids leased at once.
    pub ids_max: usize,
    /// Most ids leased to one network: the /24 of an IPv4 address, the /56 of an IPv6 one, of which a single subscriber has
    /// more addresses than there are ids.
    pub ids_per_prefix_max: u32,
}

impl Default for IdsConfig {
    /// 10 minutes (our guess: a viewer's pause), 2 million ids ([`ID_MEMORY_BYTES`] each), 4096 ids behind one /24 (a campus or a
    /// carrier's address translation; the index server's bound).
    fn default() -> IdsConfig {
        IdsConfig { lease: Span::from_secs(600), ids_max: 2_000_000, ids_per_prefix_max: 4096 }
    }
}

/// Why no id was issued; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssueError {
    /// The area and those that take its overflow are full.
    AreaFull,
    /// A bound of [`IdsConfig`] is met.
    TooMany,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdsStats {
    /// Ids issued anew.
    pub issued: u64,
    /// Leases renewed.
    pub renewed: u64,
    /// Ids issued in a following area because the peer's own was full.
    pub overflowed: u64,
    /// Refusals because areas were full.
    pub area_full: u64,
    /// Refusals because [`IdsConfig::ids_max`] was met.
    pub ids_full: u64,
    /// Refusals because [`IdsConfig::ids_per_prefix_max`] was met.
    pub prefix_full: u64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    holder: SocketAddr,
    until: Time,
}

/// All leases.
#[derive(Debug)]
pub struct Ids {
    config: IdsConfig,
    seed: u64,
    leases: BTreeMap<PeerId, Lease>,
    /// The id that each address and port has.
    holders: BTreeMap<SocketAddr, PeerId>,
    /// Leases of each network.
    prefixes: BTreeMap<u128, u32>,
    /// How far each area has walked.
    walks: BTreeMap<Location, u16>,
    sweep_at: Time,
    sweep_from: PeerId,
    stats: IdsStats,
}

impl Ids {
    /// No lease. `seed` decides where each area's order begins.
    pub fn new(config: IdsConfig, seed: u64) -> Ids {
        Ids {
            config,
            seed,
            leases: BTreeMap::new(),
            holders: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            walks: BTreeMap::new(),
            sweep_at: Time::NEVER,
            sweep_from: PeerId::NONE,
            stats: IdsStats::default(),
        }
    }

    /// The id of `holder`, who is at `location`: the one that it has, or `previous` if it is free or its own and of this
    /// location, or a new one. Leased from `now` on.
    pub fn issue(
        &mut self,
        now: Time,
        holder: SocketAddr,
        location: Location,
        previous: PeerId,
    ) -> Result<PeerId, IssueError> {
        let kept = [Some(previous), self.holders.get(&holder).copied()];
        for id in kept.into_iter().flatten().filter(|id| *id != PeerId::NONE && may_keep(*id, location)) {
            let lease = self.leases.get(&id).filter(|lease| lease.until > now);
            if lease.is_some_and(|lease| lease.holder.ip() == holder.ip()) {
                self.lease(now, id, holder);
                self.stats.renewed += 1;
                return Ok(id);
            }
            if lease.is_none() && self.has_room(holder.ip())? {
                self.lease(now, id, holder);
                self.stats.renewed += 1;
                return Ok(id);
            }
        }
        self.has_room(holder.ip())?;
        for overflow in 0..=OVERFLOW_AREAS {
            let area = Location { area: location.area.wrapping_add(overflow), ..location };
            if let Some(id) = self.walk(now, area) {
                self.lease(now, id, holder);
                self.stats.issued += 1;
                self.stats.overflowed += u64::from(overflow > 0);
                return Ok(id);
            }
        }
        self.stats.area_full += 1;
        Err(IssueError::AreaFull)
    }

    /// Frees `id` if `from`'s IP address holds it.
    pub fn give_back(&mut self, id: PeerId, from: SocketAddr) {
        if self.leases.get(&id).is_some_and(|lease| lease.holder.ip() == from.ip()) {
            self.free(id);
        }
    }

    /// Frees some of the leases that have run out: memory only, no decision depends on it.
    pub fn sweep(&mut self, now: Time) {
        if self.sweep_at > now {
            return;
        }
        let looked_at: Vec<(PeerId, Time)> =
            self.leases.range(self.sweep_from..).take(SWEEP_LEASES).map(|(id, lease)| (*id, lease.until)).collect();
        self.sweep_from = match looked_at.last() {
            Some((id, _)) if looked_at.len() == SWEEP_LEASES => *id,
            _ => PeerId::NONE,
        };
        for (id, _) in looked_at.iter().filter(|(_, until)| *until <= now) {
            self.free(*id);
        }
        self.sweep_at = if self.leases.is_empty() { Time::NEVER } else { now.after(SWEEP_PERIOD) };
    }

    /// When [`Ids::sweep`] has something to do.
    pub fn next_sweep(&self) -> Time {
        self.sweep_at
    }

    /// Leases held, those that ran out and are not yet swept included.
    pub fn leased(&self) -> usize {
        self.leases.len()
    }

    /// The counters.
    pub const fn stats(&self) -> IdsStats {
        self.stats
    }

    /// The next free number of `area`.
    fn walk(&mut self, now: Time, area: Location) -> Option<PeerId> {
        if self.walks.len() >= AREAS_MAX {
            // Its order begins anew when it is met again: leases, not walks, keep numbers unique.
            self.walks.pop_first();
        }
        let key = mix(self.seed ^ PeerId::new(area, 0).bits());
        // The unknown place's number 0 is PeerId::NONE and names nobody.
        let steps = self.walks.entry(area).or_insert((key >> 48) as u16);
        for _ in 0..PROBES_MAX {
            let id = PeerId::new(area, shuffled(*steps, key));
            *steps = steps.wrapping_add(1);
            if id != PeerId::NONE && self.leases.get(&id).is_none_or(|lease| lease.until <= now) {
                return Some(id);
            }
        }
        None
    }

    fn has_room(&mut self, ip: IpAddr) -> Result<bool, IssueError> {
        if self.prefixes.get(&prefix_of(ip)).is_some_and(|leased| *leased >= self.config.ids_per_prefix_max) {
            self.stats.prefix_full += 1;
            return Err(IssueError::TooMany);
        }
        if self.leases.len() >= self.config.ids_max {
            self.stats.ids_full += 1;
            return Err(IssueError::TooMany);
        }
        Ok(true)
    }

    fn lease(&mut self, now: Time, id: PeerId, holder: SocketAddr) {
        if let Some(other) = self.holders.get(&holder).copied().filter(|other| *other != id) {
            self.free(other);
        }
        self.free(id);
        self.holders.insert(holder, id);
        self.leases.insert(id, Lease { holder, until: now.after(self.config.lease) });
        *self.prefixes.entry(prefix_of(holder.ip())).or_default() += 1;
        if self.sweep_at == Time::NEVER {
            self.sweep_at = now.after(self.config.lease);
        }
    }

    fn free(&mut self, id: PeerId) {
        let Some(lease) = self.leases.remove(&id) else { return };
        self.holders.remove(&lease.holder);
        let prefix = prefix_of(lease.holder.ip());
        if let Some(leased) = self.prefixes.get_mut(&prefix) {
            *leased -= 1;
            if *leased == 0 {
                self.prefixes.remove(&prefix);
            }
        }
    }
}

/// Whether an id may stay with a peer at `location`: issued there, or in an area that takes its overflow.
fn may_keep(id: PeerId, location: Location) -> bool {
    let at = id.location();
    Location { area: location.area, ..at } == location && at.area.wrapping_sub(location.area) <= OVERFLOW_AREAS
}

/// A bijection of 16 bits under `key`: four rounds of a Feistel network of two bytes.
fn shuffled(step: u16, key: u64) -> u16 {
    let [mut left, mut right] = step.to_be_bytes();
    for round in 0..4u64 {
        let f = mix(key ^ (round << 8) ^ u64::from(right)) as u8;
        (left, right) = (right, left ^ f);
    }
    u16::from_be_bytes([left, right])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HERE: Location = Location { country: 86, carrier: 1, region: 2, city: 3, area: 4 };

    fn ids(config: IdsConfig) -> Ids {
        Ids::new(config, 99)
    }

    fn holder(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::from((0x0a00_0000 | n).to_be_bytes()), 1000)
    }

    #[test]
    fn the_shuffle_leaves_no_number_out() {
        let all: BTreeSet<u16> = (0..=u16::MAX).map(|step| shuffled(step, 12345)).collect();
        assert_eq!(all.len(), 65_536);
    }

    #[test]
    fn an_area_gives_every_number_once_then_overflows_into_the_next() {
        let mut ids = ids(IdsConfig::default());
        let mut seen = BTreeSet::new();
        for n in 0..65_536 {
            let id = ids.issue(Time::ZERO, holder(n), HERE, PeerId::NONE).expect("room");
            assert!(id.location() == HERE && seen.insert(id), "{id} twice or elsewhere");
        }
        let next = ids.issue(Time::ZERO, holder(65_536), HERE, PeerId::NONE).expect("overflow");
        assert_eq!(next.location(), Location { area: 5, ..HERE });
        assert_eq!(ids.stats().overflowed, 1);
    }

    #[test]
    fn nobody_is_never_issued() {
        let mut ids = ids(IdsConfig::default());
        for n in 0..65_535 {
            let id = ids.issue(Time::ZERO, holder(n), Location::default(), PeerId::NONE).expect("room");
            assert_ne!(id, PeerId::NONE);
        }
    }

    #[test]
    fn the_same_address_keeps_its_id_and_a_repeated_question_gets_no_second_one() {
        let mut ids = ids(IdsConfig::default());
        let id = ids.issue(Time::ZERO, holder(1), HERE, PeerId::NONE).expect("room");
        assert_eq!(ids.issue(Time::ZERO, holder(1), HERE, PeerId::NONE), Ok(id));
        assert_eq!(ids.issue(Time::ZERO, holder(1), HERE, id), Ok(id));
        let other_port = SocketAddr::new(holder(1).ip(), 2000);
        assert_eq!(ids.issue(Time::ZERO, other_port, HERE, id), Ok(id), "another port of the same address renews");
        assert_eq!(ids.leased(), 1);
    }

    #[test]
    fn anothers_id_cannot_be_taken_or_freed() {
        let mut ids = ids(IdsConfig::default());
        let id = ids.issue(Time::ZERO, holder(1), HERE, PeerId::NONE).expect("room");
        assert_ne!(ids.issue(Time::ZERO, holder(2), HERE, id), Ok(id));
        ids.give_back(id, holder(2));
        assert_eq!(ids.issue(Time::ZERO, holder(1), HERE, PeerId::NONE), Ok(id), "still leased");
        ids.give_back(id, holder(1));
        assert_eq!(ids.leased(), 1);
    }

    #[test]
    fn an_id_returns_after_its_lease_and_a_restart_honours_it() {
        let mut before = ids(IdsConfig::default());
        let id = before.issue(Time::ZERO, holder(1), HERE, PeerId::NONE).expect("room");
        let after_lease = Time::ZERO.after(IdsConfig::default().lease);
        assert_eq!(before.issue(after_lease, holder(2), HERE, id), Ok(id), "the lease has run out");
        let mut restarted = Ids::new(IdsConfig::default(), 1);
        assert_eq!(restarted.issue(Time::ZERO, holder(1), HERE, id), Ok(id));
        let moved = Location { city: 9, ..HERE };
        assert_ne!(restarted.issue(Time::ZERO, holder(1), moved, id), Ok(id), "who moves gets an id of the new place");
    }

    #[test]
    fn sweeping_frees_what_has_run_out() {
        let mut ids = ids(IdsConfig::default());
        for n in 0..5_000 {
            ids.issue(Time::ZERO, holder(n), HERE, PeerId::NONE).expect("room");
        }
        for _ in 0..10 {
            let at = ids.next_sweep();
            if at != Time::NEVER {
                ids.sweep(at);
            }
        }
        assert_eq!((ids.leased(), ids.holders.len(), ids.prefixes.len(), ids.next_sweep()), (0, 0, 0, Time::NEVER));
    }

    #[test]
    fn one_network_cannot_take_more_than_its_share() {
        let mut ids = ids(IdsConfig { ids_per_prefix_max: 3, ..IdsConfig::default() });
        let issue = |ids: &mut Ids, port| {
            ids.issue(Time::ZERO, SocketAddr::new(holder(1).ip(), port), HERE, PeerId::NONE).is_ok()
        };
        assert_eq!([1, 2, 3, 4, 3].map(|port| issue(&mut ids, port)), [true, true, true, false, true]);
        assert_eq!(ids.stats().prefix_full, 1);
        let six = |n: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 1));
        let issued = |ids: &mut Ids, n| ids.issue(Time::ZERO, six(n), HERE, PeerId::NONE);
        let first = issued(&mut ids, 1).expect("another network");
        assert_eq!(
            [2, 3, 4].map(|n| issued(&mut ids, n).is_ok()),
            [true, true, false],
            "one subscriber's many addresses"
        );
        ids.give_back(first, six(1));
        assert!(issued(&mut ids, 4).is_ok());
    }
}
