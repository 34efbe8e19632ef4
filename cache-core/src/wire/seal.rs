//! The seal of messages between Weircast's own servers: a tag under the cluster's secret.

/// Bytes of a [`ClusterKey::tag`].
pub const TAG_BYTES: usize = 16;

/// The secret that Weircast's own servers share. Derived from the configuration's `cluster_secret`; the empty one is
/// known to everybody and proves nothing.
#[derive(Clone)]
pub struct ClusterKey([u8; 32]);

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(secret)")
    }
}

impl ClusterKey {
    /// The key that follows from `secret`.
    pub fn derive(secret: &str) -> ClusterKey {
        ClusterKey(blake3::derive_key("weircast cluster secret v1", secret.as_bytes()))
    }

    /// The tag of `message`.
    pub fn tag(&self, message: &[u8]) -> [u8; TAG_BYTES] {
        first_16(&blake3::keyed_hash(&self.0, message))
    }

    /// Whether `tag` is `message`'s; takes the same time for every wrong one.
    pub fn check(&self, message: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        same(&self.tag(message), tag)
    }
}

/// The first 16 bytes of `hash`.
pub(crate) fn first_16(hash: &blake3::Hash) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    first
}

/// Equality whose time does not depend on where the two differ (BLAKE3's own comparison).
pub(crate) fn same(a: &[u8; 16], b: &[u8; 16]) -> bool {
    let wide = |half: &[u8; 16]| {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(half);
        blake3::Hash::from_bytes(bytes)
    };
    wide(a) == wide(b)
}
