//! Who may publish. With index servers they decide; stand-alone the configuration's rules do.
//!
//! | | over Weircast's protocol | over HTTP (this cache signs) |
//! |---|---|---|
//! | with an index | the key and term shown must be among the stream's keys there | the index grants a term for this cache's key |
//! | stand-alone | only where no secret is asked for; the first key holds the name while it is live | secret, then a term one above the last |

use cache_core::limits::KEYS_PER_STREAM_MAX;
use cache_core::sign::{KeyRing, stream_id};
use cache_core::units::{ChunkSeq, Epoch, StreamId};
use cache_core::wire::exchange::Publish;
use cache_core::wire::index::{HoldState, KeysQuery, PublishRequest, StreamKey};
use cache_core::wire::{Blob, Message, RefusalReason, Refused, StreamName, Text};

use super::config::PublishRule;
use super::hub::Hub;
use super::index::ANSWER_WITHIN;

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

/// The rules of a stand-alone cache.
#[derive(Clone, Debug, Default)]
pub(super) struct LocalRules(Vec<PublishRule>);

/// What a rule says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs<'a> {
    Nothing,
    Secret(&'a str),
    /// Rules exist and none is for this name.
    MoreThanThereIs,
}

impl LocalRules {
    pub(super) fn new(rules: Vec<PublishRule>) -> LocalRules {
        LocalRules(rules)
    }

    fn needs(&self, name: &StreamName) -> Needs<'_> {
        if self.0.is_empty() {
            return Needs::Nothing;
        }
        let matches = |rule: &&PublishRule| match rule.name.strip_suffix('*') {
            Some(stem) => name.as_str().starts_with(stem),
            None => name.as_str() == rule.name,
        };
        match self.0.iter().find(matches) {
            Some(rule) if rule.secret.is_empty() => Needs::Nothing,
            Some(rule) => Needs::Secret(&rule.secret),
            None => Needs::MoreThanThereIs,
        }
    }
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
    key: [u8; 32],
    secret: Option<&str>,
    takeover: bool,
) -> Result<Grant, Refused> {
    let id = stream_id(name);
    if is_live(hub, id) && !takeover {
        return Err(Refused::because(RefusalReason::NameTaken));
    }
    if let Some(index) = &hub.index {
        let request = PublishRequest {
            stream: name.clone(),
            key,
            proof: [0; 32],
            takeover,
            at_cache: Some(hub.advertise),
            ticket: Blob::default(),
        };
        return match index.ask(hub.clock.now(), request, secret, ANSWER_WITHIN).await {
            Some(Message::PublishGrant(grant)) => Ok(Grant { epoch: grant.epoch, next: grant.next }),
            Some(Message::Refused(refused)) => Err(refused),
            Some(_) => Err(Refused::because(RefusalReason::BadMessage)),
            None => Err(nobody_answers(hub)),
        };
    }
    let proved = match hub.rules.needs(name) {
        Needs::Nothing => false,
        Needs::Secret(expected) if secret.is_some_and(|shown| same(shown, expected)) => true,
        _ => return Err(Refused::because(RefusalReason::NotAuthorised)),
    };
    if is_live(hub, id) && !proved {
        return Err(Refused::because(RefusalReason::NameTaken));
    }
    let store = hub.store.borrow();
    let last = store.streams.get(id).map_or(Epoch(0), |stream| stream.ingest().epoch());
    Ok(Grant { epoch: Epoch(last.0.saturating_add(1)), next: ChunkSeq::FIRST })
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
    if hub.rules.needs(&publish.stream) != Needs::Nothing {
        return Err(Refused {
            detail: Text::cut("this cache has no index server to prove the secret to: publish over HTTP with ?key="),
            ..Refused::because(RefusalReason::NotAuthorised)
        });
    }
    let held = hub.keys.borrow().get(&id).map(KeyRing::to_wire).unwrap_or_default();
    if is_live(hub, id) && !held.iter().any(|held| held.key == shown.key) {
        return Err(Refused::because(RefusalReason::NameTaken));
    }
    let mut keys = KeyRing::new(id);
    let older = held.into_iter().filter(|held| held.epoch != publish.epoch);
    let known: Vec<StreamKey> = std::iter::once(shown).chain(older).take(KEYS_PER_STREAM_MAX).collect();
    keys.replace(&known);
    if keys.is_empty() {
        return Err(Refused::because(RefusalReason::BadSignature));
    }
    Ok(keys)
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

/// Equality by hashes: the time it takes tells nothing of the secret.
fn same(shown: &str, expected: &str) -> bool {
    cache_core::sign::ClusterKey::derive(shown).tag(b"") == cache_core::sign::ClusterKey::derive(expected).tag(b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rule = |name: &str, secret: &str| PublishRule { name: name.into(), secret: secret.into() };
        let rules = LocalRules::new(vec![rule("news", "a"), rule("news*", "b"), rule("open*", "")]);
        let needs = |name: &str| rules.needs(&StreamName::new(name).expect("a name"));
        assert_eq!(needs("news"), Needs::Secret("a"));
        assert_eq!(needs("news2"), Needs::Secret("b"));
        assert_eq!(needs("open-air"), Needs::Nothing);
        assert_eq!(needs("other"), Needs::MoreThanThereIs);
        assert_eq!(LocalRules::default().needs(&StreamName::new("other").expect("a name")), Needs::Nothing);
    }
}
