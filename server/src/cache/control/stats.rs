//! `GET /stats`: what the cache is doing, as JSON. Reading it changes nothing; each number is true of its moment.

use cache_core::ring::RingStats;
use serde_json::{Map, Value, json};

use super::hub::Hub;

/// The whole report.
pub(super) fn json(hub: &Hub) -> Value {
    let counters = &hub.counters;
    let mut control = Map::new();
    counters.each(|name, value| {
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
    json!({
        "segments_free": stats.segments_free,
        "segments_in_use": stats.segments_in_use,
        "segments_quarantined": stats.segments_quarantined,
        "segments_retired": stats.segments_retired,
        "streams_open": stats.streams_open,
        "published": stats.published,
        "publish_refused": stats.publish_refused,
        "recycled": stats.recycled,
        "evicted": stats.evicted,
        "quarantined": stats.quarantined,
        "no_space": stats.no_space,
        "withheld": stats.withheld,
        "inherited": stats.inherited,
        "inherited_whole": whole,
        "inherited_broken": broken,
        "torn": stats.torn,
    })
}
