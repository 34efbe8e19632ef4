//! What is trusted: chunk signatures, a publisher's proofs, address cookies and cluster tags. Keys and nonces come
//! from the caller; nothing here draws a random number.

use std::net::SocketAddr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::time::{Span, Time};
use crate::units::{ChunkSeq, Epoch, StreamId};
use crate::wire::datagram::Cookie;
use crate::wire::index::StreamKey;
pub use crate::wire::seal::ClusterKey;
use crate::wire::seal::{first_16, same};
use crate::wire::{ChunkHeader, StreamName};

/// How long a cookie's key is used; a cookie is good for one to two of these (our guess: longer than any join, short
/// enough that a captured one is soon useless).
pub const COOKIE_PERIOD: Span = Span::from_secs(120);

/// The id of the stream called `name`.
pub fn stream_id(name: &StreamName) -> StreamId {
    let hash = blake3::hash(name.as_str().as_bytes());
    let mut id = [0; 8];
    id.copy_from_slice(&hash.as_bytes()[..8]);
    StreamId(u64::from_be_bytes(id))
}

/// BLAKE3 of a chunk's payload, as its header carries it.
pub fn payload_hash(payload: &[u8]) -> [u8; 32] {
    *blake3::hash(payload).as_bytes()
}

/// A publisher's key pair.
#[derive(Clone)]
pub struct PublisherKey(SigningKey);

impl std::fmt::Debug for PublisherKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublisherKey(secret)")
    }
}

impl PublisherKey {
    /// The pair that follows from 32 secret random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> PublisherKey {
        PublisherKey(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Fills in `header`'s hash (over `payload`) and signature. `header.payload_len` must be `payload.len()`.
    pub fn sign_chunk(&self, header: &mut ChunkHeader, payload: &[u8]) {
        debug_assert_eq!(header.payload_len as usize, payload.len());
        header.hash = payload_hash(payload);
        self.sign_header(header);
    }

    /// Fills in `header`'s signature; its hash must be there already ([`payload_hash`]): for a payload that several
    /// streams carry.
    pub fn sign_header(&self, header: &mut ChunkHeader) {
        header.signature = self.0.sign(&header.signed_bytes()).to_bytes();
    }

    /// Signs [`request_proof`].
    pub fn sign_request(&self, stream: StreamId, cookie: &Cookie) -> [u8; 64] {
        self.0.sign(&request_proof(stream, cookie)).to_bytes()
    }

    /// Signs [`publish_proof`].
    pub fn sign_publish(&self, stream: StreamId, epoch: Epoch, nonce: &[u8; 16]) -> [u8; 64] {
        self.0.sign(&publish_proof(stream, epoch, nonce)).to_bytes()
    }
}

/// What a publisher signs to ask an index for a term: bound to the cookie, and so to its address and to minutes.
pub fn request_proof(stream: StreamId, cookie: &Cookie) -> [u8; 40] {
    let mut proof = [0; 40];
    proof[..16].copy_from_slice(b"weircast request");
    proof[16..24].copy_from_slice(&stream.0.to_be_bytes());
    proof[24..].copy_from_slice(&cookie.0);
    proof
}

/// Whether `signature` is `key`'s over [`request_proof`].
pub fn check_request(key: &[u8; 32], stream: StreamId, cookie: &Cookie, signature: &[u8; 64]) -> bool {
    is_signed(key, &request_proof(stream, cookie), signature)
}

/// What a publisher signs to open its upload: bound to the cache's nonce, so that it cannot be replayed.
pub fn publish_proof(stream: StreamId, epoch: Epoch, nonce: &[u8; 16]) -> [u8; 48] {
    let mut proof = [0; 48];
    proof[..16].copy_from_slice(b"weircast publish");
    proof[16..24].copy_from_slice(&stream.0.to_be_bytes());
    proof[24..32].copy_from_slice(&epoch.0.to_be_bytes());
    proof[32..].copy_from_slice(nonce);
    proof
}

/// Whether `signature` is `key`'s over [`publish_proof`].
pub fn check_publish(key: &[u8; 32], stream: StreamId, epoch: Epoch, nonce: &[u8; 16], signature: &[u8; 64]) -> bool {
    is_signed(key, &publish_proof(stream, epoch, nonce), signature)
}

fn is_signed(key: &[u8; 32], what: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(what, &Signature::from_bytes(signature)).is_ok())
}

/// The proof in a `PublishRequest`: keyed BLAKE3 under the name's secret over cookie, name and key.
pub fn publish_authorisation(secret: &str, cookie: &Cookie, name: &StreamName, key: &[u8; 32]) -> [u8; 32] {
    let mut mac = blake3::Hasher::new_keyed(&blake3::derive_key("weircast publish secret v1", secret.as_bytes()));
    mac.update(&cookie.0).update(key).update(name.as_str().as_bytes());
    *mac.finalize().as_bytes()
}

/// Whether `proof` is [`publish_authorisation`] under `secret`; takes the same time for every wrong one.
pub fn check_authorisation(secret: &str, cookie: &Cookie, name: &StreamName, key: &[u8; 32], proof: &[u8; 32]) -> bool {
    blake3::Hash::from_bytes(publish_authorisation(secret, cookie, name, key)) == blake3::Hash::from_bytes(*proof)
}

/// Why a chunk is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// The chunk is of another stream.
    #[error("the chunk is of another stream")]
    Stream,
    /// No key of this epoch is known; ask the index for the stream's keys.
    #[error("no key is known for epoch {0:?}")]
    UnknownEpoch(Epoch),
    /// The signature is not that key's.
    #[error("the signature of chunk {0} is wrong")]
    Signature(ChunkSeq),
    /// The payload is not the one that was signed.
    #[error("the payload of chunk {0} is not the one that was signed")]
    Payload(ChunkSeq),
}

/// The keys of one stream, decoded once, with the check that every chunk passes once.
#[derive(Clone, Debug)]
pub struct KeyRing {
    stream: StreamId,
    keys: Vec<(Epoch, VerifyingKey)>,
}

impl KeyRing {
    /// No key yet.
    pub const fn new(stream: StreamId) -> KeyRing {
        KeyRing { stream, keys: Vec::new() }
    }

    /// Replaces the keys by those of `keys` that are points of the curve.
    pub fn replace(&mut self, keys: &[StreamKey]) {
        self.keys = keys.iter().filter_map(|k| Some((k.epoch, VerifyingKey::from_bytes(&k.key).ok()?))).collect();
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The newest epoch with a key.
    pub fn newest(&self) -> Option<Epoch> {
        self.keys.iter().map(|(epoch, _)| *epoch).max()
    }

    /// The keys, as they go on the wire.
    pub fn to_wire(&self) -> Vec<StreamKey> {
        self.keys.iter().map(|(epoch, key)| StreamKey { epoch: *epoch, key: key.to_bytes() }).collect()
    }

    /// Checks stream, signature and payload. Cost: one Ed25519 verification (about 30 us) and BLAKE3 of the payload.
    pub fn check(&self, header: &ChunkHeader, payload: &[u8]) -> Result<(), ChunkFault> {
        let mut check = self.begin(header)?;
        check.add(payload);
        check.end()
    }

    /// Checks stream and signature, which is over the header: before the payload is there. What is returned judges the
    /// payload while it comes.
    pub fn begin(&self, header: &ChunkHeader) -> Result<PayloadCheck, ChunkFault> {
        if header.stream != self.stream {
            return Err(ChunkFault::Stream);
        }
        let key = self.keys.iter().find(|(epoch, _)| *epoch == header.epoch).map(|(_, key)| key);
        let key = key.ok_or(ChunkFault::UnknownEpoch(header.epoch))?;
        key.verify_strict(&header.signed_bytes(), &Signature::from_bytes(&header.signature))
            .map_err(|_| ChunkFault::Signature(header.seq))?;
        Ok(PayloadCheck {
            seq: header.seq,
            len: header.payload_len.into(),
            hash: blake3::Hash::from_bytes(header.hash),
            hasher: blake3::Hasher::new(),
        })
    }
}

/// A chunk whose signature is right, and whose payload comes piece by piece.
#[derive(Clone, Debug)]
#[must_use = "a chunk is good only when its payload is"]
pub struct PayloadCheck {
    seq: ChunkSeq,
    len: u64,
    hash: blake3::Hash,
    hasher: blake3::Hasher,
}

impl PayloadCheck {
    /// The payload's next bytes. Pieces of 16 KiB and more cost least: BLAKE3 looks at up to 16 KiB side by side.
    pub fn add(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
    }

    /// Whether what was added is the payload that was signed, all of it and no more.
    pub fn end(self) -> Result<(), ChunkFault> {
        match self.hasher.count() == self.len && self.hasher.finalize() == self.hash {
            true => Ok(()),
            false => Err(ChunkFault::Payload(self.seq)),
        }
    }
}

/// Makes and checks address cookies without remembering anybody: keyed BLAKE3 of address and period.
#[derive(Clone)]
pub struct CookieJar {
    key: [u8; 32],
}

impl std::fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieJar(secret)")
    }
}

impl CookieJar {
    /// A jar under a secret random key; another key makes all former cookies worthless.
    pub const fn new(key: [u8; 32]) -> CookieJar {
        CookieJar { key }
    }

    /// The cookie of `addr` at `now`.
    pub fn bake(&self, addr: SocketAddr, now: Time) -> Cookie {
        self.of_period(addr, now.micros() / COOKIE_PERIOD.micros())
    }

    /// Whether `cookie` was made for `addr` in this period or the one before.
    pub fn check(&self, cookie: &Cookie, addr: SocketAddr, now: Time) -> bool {
        let period = now.micros() / COOKIE_PERIOD.micros();
        let matches = |period| same(&self.of_period(addr, period).0, &cookie.0);
        matches(period) || period.checked_sub(1).is_some_and(matches)
    }

    fn of_period(&self, addr: SocketAddr, period: u64) -> Cookie {
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        match addr.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => mac.update(&ip.octets()),
            std::net::IpAddr::V6(ip) => mac.update(&ip.octets()),
        };
        mac.update(&addr.port().to_be_bytes()).update(&period.to_be_bytes());
        Cookie(first_16(&mac.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallClock;

    fn signed(payload: &[u8]) -> (KeyRing, ChunkHeader) {
        let (key, stream, epoch) = (PublisherKey::from_seed(&[7; 32]), StreamId(5), Epoch(3));
        let mut keys = KeyRing::new(stream);
        keys.replace(&[StreamKey { epoch, key: key.public() }]);
        let mut header = ChunkHeader {
            stream,
            epoch,
            seq: ChunkSeq::new(9),
            published: WallClock::from_micros(1),
            payload_len: payload.len() as u32,
            tables_len: 0,
            duration_ms: 200,
            key_frame: None,
            discontinuity: false,
            end: false,
            hash: [0; 32],
            signature: [0; 64],
        };
        key.sign_chunk(&mut header, payload);
        (keys, header)
    }

    fn in_pieces(keys: &KeyRing, header: &ChunkHeader, pieces: &[&[u8]]) -> Result<(), ChunkFault> {
        let mut check = keys.begin(header)?;
        pieces.iter().for_each(|piece| check.add(piece));
        check.end()
    }

    #[test]
    fn a_payload_in_pieces_is_judged_as_the_whole_is() {
        let payload: Vec<u8> = (0..50_000u32).map(|at| at as u8).collect();
        let (keys, header) = signed(&payload);
        for cut in [0, 1, 1_024, 16_384, 49_999, 50_000] {
            let (front, back) = payload.split_at(cut);
            assert_eq!(in_pieces(&keys, &header, &[front, back]), Ok(()), "cut at {cut}");
            let fault = Err(ChunkFault::Payload(header.seq));
            assert_eq!(in_pieces(&keys, &header, &[back, front, &[0]]), fault, "one byte more");
            assert_eq!(
                in_pieces(&keys, &header, &[&payload[..cut], &payload[(cut + 1).min(50_000)..]]).is_ok(),
                cut == 50_000
            );
        }
        assert_eq!(keys.check(&header, &payload), Ok(()));
    }

    #[test]
    fn a_header_is_judged_before_its_payload() {
        let (keys, header) = signed(b"what was signed");
        let mut forged = header;
        forged.published = WallClock::from_micros(2);
        assert_eq!(keys.begin(&forged).err(), Some(ChunkFault::Signature(header.seq)));
        assert_eq!(keys.begin(&ChunkHeader { stream: StreamId(6), ..header }).err(), Some(ChunkFault::Stream));
        let later = ChunkHeader { epoch: Epoch(4), ..header };
        assert_eq!(keys.begin(&later).err(), Some(ChunkFault::UnknownEpoch(Epoch(4))));
    }
}
