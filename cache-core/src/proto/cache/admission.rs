//! How many connections a cache takes, and how loaded it says it is.
//!
//! The paper's eq. (2) limits a peer by its uplink; a cache is given its own budget, counted in connections, because
//! descriptors are what it runs out of first.

/// Descriptors that a cache needs beside its connections: rings, slab, logs, sockets of the control plane, three per
/// shard (our guess, rounded up).
pub const DESCRIPTORS_RESERVED: u64 = 128;

/// Fewest connections that are worth starting for (our guess).
pub const CONNECTIONS_MIN: u32 = 16;

/// The process may open too few descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only {have} descriptors may be open, at least {need} are needed: raise the limit (ulimit -n, LimitNOFILE=)")]
pub struct TooFewDescriptors {
    /// The limit found.
    pub have: u64,
    /// The least that works.
    pub need: u64,
}

/// The connections to take: what was asked for, or less when descriptors do not suffice. `wanted` 0 means as many as
/// there are descriptors for.
pub fn connections_limit(wanted: u32, descriptors: u64) -> Result<u32, TooFewDescriptors> {
    let need = DESCRIPTORS_RESERVED + u64::from(CONNECTIONS_MIN);
    if descriptors < need {
        return Err(TooFewDescriptors { have: descriptors, need });
    }
    let room = u32::try_from(descriptors - DESCRIPTORS_RESERVED).unwrap_or(u32::MAX);
    Ok(if wanted == 0 { room } else { wanted.min(room) })
}

/// Load for the index, 0 idle to 1000 full: the fuller of connections and processor. `busy_permille` is the busiest
/// shard's share of time at work.
pub fn load_permille(connections: u32, connections_max: u32, busy_permille: u16) -> u16 {
    let full = u64::from(connections) * 1000 / u64::from(connections_max.max(1));
    let full = u16::try_from(full.min(1000)).unwrap_or(1000);
    full.max(busy_permille.min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_bound_the_connections() {
        assert_eq!(connections_limit(0, 20_000), Ok(19_872));
        assert_eq!(connections_limit(1_000, 20_000), Ok(1_000));
        assert_eq!(connections_limit(1_000_000, 20_000), Ok(19_872));
        assert_eq!(connections_limit(10, 100), Err(TooFewDescriptors { have: 100, need: 144 }));
    }

    #[test]
    fn load_is_the_fuller_of_connections_and_processor() {
        assert_eq!(load_permille(0, 100, 0), 0);
        assert_eq!(load_permille(50, 100, 100), 500);
        assert_eq!(load_permille(50, 100, 800), 800);
        assert_eq!(load_permille(500, 100, 0), 1000);
        assert_eq!(load_permille(0, 0, 0), 0);
    }
}
