//! Who may publish. With index servers they decide; stand-alone the configuration's rules do.
//!
//! | | over Weircast's protocol | over HTTP (this cache signs) |
//! |---|---|---|
//! | with an index | the key and term shown must be among the stream's keys there | the index grants a term for this cache's key |
//! | stand-alone | only where no secret is asked for; the first key holds the name while it is live; its term is its own, below 2^48 | secret, then a term one above the last |

use cache_core::limits::KEYS_PER_STREAM_MAX;
use cache_core::proto::asker::Credentials;
use cache_core::proto::cache::ingest::OWN_EPOCH_END;
use cache_core::proto::index::publish::Authority;
use cache_core::sign::{KeyRing, PublisherKey, publish_authorisation, stream_id};
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::datagram::Cookie;
use cache_core::wire::exchange::Publish;
use cache_core::wire::index::{HoldState, KeysQuery, PublishRequest, StreamKey};
use cache_core::wire::{Blob, Message, RefusalReason, Refused, StreamName, Text};

use super::hub::Hub;
use super::index::{ANSWER_WITHIN, IndexClient};

/// Pause that a publisher is asked for when nobody could decide (our guess: an index server restarts faster).
const RETRY_MS: u32 = 1_000;

/// The right to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// The term.
    pub(super) epoch: Epoch,
    /// Where numbering goes on, as far as is known outside this cache.
    pub(super) next: ChunkSeq,
}

/// A publisher of this cache that is sending now.
fn is_live(hub: &Hub, id: StreamId) -> bool {
    let store = hub.store.borrow();
    store.streams.get(id).is_some_and(|stream| stream.has_publisher() && stream.state() != HoldState::Stalled)
}

/// Whether an upload over HTTP may begin, signed here by `key`.
pub(super) async fn for_upload(
    hub: &Hub,
    name: &StreamName,
    key: &PublisherKey,
    secret: Option<&str>,
    takeover: bool,
) -> Result<Grant, Refused> {
    let id = stream_id(name);
    if is_live(hub, id) && !takeover {
        return Err(Refused::because(RefusalReason::NameTaken));
    }
    let mut request = PublishRequest {
        stream: name.clone(),
        key: key.public(),
        proof: [0; 32],
        possession: [0; 64],
        takeover,
        at_cache: Some(hub.advertise),
        ticket: Blob::default(),
    };
    if let Some(index) = &hub.index {
        let credentials = Credentials { key: key.clone(), secret: secret.map(str::to_owned) };
        let granted = ask_for_upload(hub, index, &request, &credentials).await;
        if !matches!(&granted, Err(refused) if refused.reason == RefusalReason::NoCache) {
            return granted;
        }
        // The index does not know this cache, or no longer: it has been restarted.
        index.report(hub).await;
        return ask_for_upload(hub, index, &request, &credentials).await;
    }
    if let Some(secret) = secret {
        request.proof = publish_authorisation(secret, &Cookie::default(), name, &request.key);
    }
    let authority = hub.rules.judge(&request, &Cookie::default());
    let authority = authority.map_err(|_| Refused::because(RefusalReason::NotAuthorised))?;
    if is_live(hub, id) && authority == Authority::Open {
        return Err(Refused::because(RefusalReason::NameTaken));
    }
    let store = hub.store.borrow();
    let last = store.streams.get(id).map_or(Epoch(0), |stream| stream.ingest().epoch());
    Ok(Grant { epoch: Epoch(last.0.saturating_add(1)), next: ChunkSeq::FIRST })
}

async fn ask_for_upload(
    hub: &Hub,
    index: &IndexClient,
    request: &PublishRequest,
    credentials: &Credentials,
) -> Result<Grant, Refused> {
    match index.ask(hub.clock.now(), request.clone(), Some(credentials.clone()), ANSWER_WITHIN).await {
        Some(Message::PublishGrant(grant)) => Ok(Grant { epoch: grant.epoch, next: grant.next }),
        Some(Message::Refused(refused)) => Err(refused),
        Some(_) => Err(Refused::because(RefusalReason::BadMessage)),
        None => Err(nobody_answers(hub)),
    }
}

/// Whether a publisher with a key of its own may begin; then the keys that its chunks are checked with. Its signature
/// has been checked.
pub(super) async fn for_native(hub: &Hub, publish: &Publish) -> Result<KeyRing, Refused> {
    let id = stream_id(&publish.stream);
    let shown = StreamKey { epoch: publish.epoch, key: publish.key };
    if hub.index.is_some() {
        let keys = keys_of(hub, &publish.stream).await?;
        if !keys.to_wire().contains(&shown) {
            return Err(Refused::because(RefusalReason::NotAuthorised));
        }
        return Ok(keys);
    }
    let request = PublishRequest {
        stream: publish.stream.clone(),
        key: publish.key,
        proof: [0; 32],
        possession: [0; 64],
        takeover: false,
        at_cache: None,
        ticket: Blob::default(),
    };
    if hub.rules.judge(&request, &Cookie::default()) != Ok(Authority::Open) {
        return Err(Refused {
            detail: Text::cut("this cache has no index server to prove the secret to: publish over HTTP with ?key="),
            ..Refused::because(RefusalReason::NotAuthorised)
        });
    }
    if publish.epoch >= OWN_EPOCH_END {
        return Err(Refused {
            detail: Text::cut("a term is below 2^48: the clock's seconds or milliseconds are one"),
            ..Refused::because(RefusalReason::BadMessage)
        });
    }
    let held = hub.keys.borrow().get(&id).map(KeyRing::to_wire).unwrap_or_default();
    if is_live(hub, id) && !held.iter().any(|held| held.key == shown.key) {
        return Err(Refused::because(RefusalReason::NameTaken));
    }
    let keys = with_key(hub, id, shown);
    if keys.newest() < Some(publish.epoch) {
        return Err(Refused::because(RefusalReason::BadSignature));
    }
    Ok(keys)
}

/// The keys known of a stream, with one more in front.
pub(super) fn with_key(hub: &Hub, id: StreamId, newest: StreamKey) -> KeyRing {
    let mut known = hub.keys.borrow().get(&id).map(KeyRing::to_wire).unwrap_or_default();
    known.retain(|key| key.epoch != newest.epoch);
    known.insert(0, newest);
    known.truncate(KEYS_PER_STREAM_MAX);
    let mut keys = KeyRing::new(id);
    keys.replace(&known);
    keys
}

/// A stream's keys, from the index.
pub(super) async fn keys_of(hub: &Hub, name: &StreamName) -> Result<KeyRing, Refused> {
    let Some(index) = &hub.index else { return Err(Refused::because(RefusalReason::UnknownStream)) };
    let query = KeysQuery { stream: name.clone() };
    match index.ask(hub.clock.now(), query, None, ANSWER_WITHIN).await {
        Some(Message::Keys(answer)) => {
            let mut keys = KeyRing::new(stream_id(name));
            keys.replace(&answer.keys);
            Ok(keys)
        }
        Some(Message::Refused(refused)) => Err(refused),
        Some(_) => Err(Refused::because(RefusalReason::BadMessage)),
        None => Err(nobody_answers(hub)),
    }
}

fn nobody_answers(hub: &Hub) -> Refused {
    hub.counters.index_silent.one();
    Refused { detail: Text::cut("no index server answers"), ..Refused::for_now(RefusalReason::Busy, RETRY_MS) }
}
