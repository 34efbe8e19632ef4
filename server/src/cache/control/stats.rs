//! `GET /stats`: what the cache is doing, as JSON. Reading it changes nothing; each number is true of its moment. Counters
//! are read where `weircast top` reads them: on the ring's board.

use cache_core::proto::cache::admission::Reason;
use cache_core::ring::RingStats;
use serde_json::{Map, Value, json};

use super::hub::Hub;
use crate::cache::data::ShardRow;

/// The whole report.
pub(super) fn json(hub: &Hub) -> Value {
    let counters = &hub.counters;
    let mut control = Map::new();
    counters.each(|name, _, value| {
        control.insert(name.into(), value.into());
    });
    let shards: Vec<Value> = hub
        .shard_counters
        .iter()
        .map(|shard| {
            let mut all = Map::new();
            shard.each(|name, _, value| {
                all.insert(name.into(), value.into());
            });
            Value::Object(all)
        })
        .collect();
    let bytes_out: u64 = hub.shard_counters.iter().map(|shard| shard.chunk_bytes_sent.get()).sum();
    json!({
        "role": "cache",
        "listen": hub.config.listen,
        "advertise": hub.advertise,
        "draining": hub.draining.get(),
        "connections": hub.connections(),
        "connections_max": hub.connections_max,
        "viewers": hub.viewers(),
        "admission": admission(hub),
        "bytes_from_publishers": counters.bytes_from_publishers.get() + counters.bytes_from_uploads.get(),
        "bytes_from_caches": counters.bytes_from_caches.get(),
        "bytes_out": bytes_out,
        "streams": streams(hub),
        "ring": ring(hub.ring.stats(), hub.ring.inherited_checked()),
        "slab": hub.slab.json(),
        "control": control,
        "shards": shards,
    })
}

/// Whether joins are taken, by shard, and what decides it.
fn admission(hub: &Hub) -> Value {
    let state = |shard: &ShardRow| {
        json!({
            "closed": Reason::from_code(shard.admission.get()).map(Reason::text),
            "busy_permille": shard.busy_permille.get(),
            "turn_us_max": shard.turn_us_max.get(),
            "fanout_us_max": shard.fanout_us_max.get(),
            "bytes_per_s": shard.chunk_bytes_per_s.get(),
        })
    };
    let (memory_left, elsewhere) = hub.room.report();
    let limit = |value: u64| (value != u64::MAX).then_some(value);
    json!({
        "open": !hub.draining.get() && !hub.refuses_joins(),
        "busy_permille": hub.busy_permille(),
        "busy_max_permille": hub.config.busy_max_permille,
        "fanout_ms_max": hub.config.fanout_ms_max,
        "bytes_per_s_max": limit(hub.room.bytes_per_s_max),
        "memory_bytes_left": limit(memory_left),
        "elsewhere": elsewhere,
        "shards": hub.shard_counters.iter().map(state).collect::<Vec<_>>(),
    })
}

fn streams(hub: &Hub) -> Vec<Value> {
    let store = hub.store.borrow();
    let one = |(id, stream): (_, &cache_core::proto::cache::streams::Stream)| {
        json!({
            "name": stream.name().as_str(),
            "id": format!("{id}"),
            "state": format!("{:?}", stream.state()).to_lowercase(),
            "epoch": stream.ingest().epoch().0,
            "head": stream.ingest().head().map(|seq| seq.get()),
            "oldest": store.oldest(id).map(|seq| seq.get()),
            "missing": stream.missing(),
            "viewers": stream.viewers(),
        })
    };
    store.streams.iter().map(one).collect()
}

fn ring(stats: RingStats, (whole, broken): (u64, u64)) -> Value {
    let mut all = Map::new();
    stats.each(|name, value| {
        all.insert(name.into(), value.into());
    });
    all.insert("inherited_whole".into(), whole.into());
    all.insert("inherited_broken".into(), broken.into());
    Value::Object(all)
}
