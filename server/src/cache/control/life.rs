//! The life of a started cache server: ready, periodic work, and the end that a signal asks for.
//!
//! ```text
//!  serving --SIGTERM--> draining: the index is told, shards finish what they send --all stopped, or time is up--> end
//!     |                     '--second signal--> end at once (exit code 4)
//!     '--SIGINT--> end for good
//! ```
//! The ring's file stays for the next process (`keep_ring`), unless it was the end for good: a SIGINT means that whatever
//! comes before or after it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache_core::proto::cache::streams::Streams;
use cache_core::ring::{Node, Ring};
use cache_core::sign::ClusterKey;
use cache_core::time::Span;
use glommio::io::PollableFd;
use serde_json::json;

use super::config::CacheConfig;
use super::deadline;
use super::hub::Hub;
use super::huge::SlabFacts;
use super::index::IndexClient;
use super::room::NodeRoom;
use super::sessions;
use super::shards::Shards;
use super::slab;
use super::start::Started;
use super::store::Store;
use super::wait::{First, Mailbox, race, sleep};
use crate::cache::bridge::ToShard;
use crate::host::clock::{Clock, wall};
use crate::host::program::{Ended, Failed};
use crate::host::signals::{Asked, Signals};
use crate::host::{random, ready};

/// How often timeouts are looked at: half a chunk.
const TICK: Span = Span::from_millis(100);

/// How often the index hears of this cache ([`cache_core::wire::index::CacheReport`]: once a second).
const REPORT_EVERY: Span = Span::from_secs(1);

/// How long memory waits to be made clean after a chunk has taken a clean piece: until those who were told of the chunk
/// have begun to send it (our guess).
const TIDY_AFTER: Span = Span::from_millis(1);

/// How often streams' ranks are told to the ring, in ticks.
const RANK_TICKS: u32 = 10;

/// How often a drain looks whether it is done.
const DRAIN_LOOK: Span = Span::from_millis(20);

/// Serves until a signal asks to end.
pub(super) fn run(started: Started) -> Result<Ended, Failed> {
    let Started { config, listen, advertise, connections_max, signals, executor, index_socket, .. } = started;
    let index_servers = config.index.clone();
    let cluster = ClusterKey::derive(&config.cluster_secret);
    let streams = Streams::new(config.knobs(), config.streams_max as usize);
    let doorbells: Vec<_> = started.shards.iter().map(|shard| shard.doorbell_to_control.clone()).collect();
    let shard_counters = started.shards.iter().map(|shard| shard.counters.clone()).collect();
    let (writer, reader, ring, slab, handles) =
        (started.writer, started.reader, started.ring, started.slab, started.shards);
    let taken_over = started.taken_over;
    describe(&config, listen, connections_max, &ring, &slab, handles.len() as u32);
    let slab_file = started.slab_file;
    let at_ready = slab_file.as_ref();
    let for_good = signals.interrupted();
    let ended = executor.run(async move {
        let index = match index_socket {
            Some(socket) => Some(IndexClient::new(socket, index_servers, cluster, random::seed()? as u32)?),
            None => None,
        };
        let hub = Rc::new(Hub {
            knobs: config.knobs(),
            clock: Clock::start(),
            advertise,
            connections_max,
            room: NodeRoom::new(&config, advertise),
            store: RefCell::new(Store::new(writer, config.retention(), reader, ring.clone(), streams)),
            counters: ring.board().row(0),
            ring,
            slab,
            shards: Shards::new(handles),
            untidy: Mailbox::new(1),
            shard_counters,
            index,
            rules: config.rules(),
            keys: RefCell::default(),
            sources: RefCell::default(),
            waiting: RefCell::default(),
            sessions: Cell::new(0),
            shards_stopped: Cell::new(0),
            draining: Cell::new(false),
            config,
        });
        hub.take_over(taken_over);
        let work = spawn_work(&hub, doorbells);
        if let Some(index) = &hub.index {
            // Who waits for the ready line may publish at once: the index grants nothing through a cache it does not know.
            index.report(&hub).await;
        }
        if let Some(file) = at_ready {
            file.in_use();
        }
        ready::announce(&json!({ "role": "cache", "listen": listen, "advertise": advertise }));
        let told = until_told(&hub, signals, &work).await;
        hub.shards.tell_all(|| ToShard::Stop, &hub.counters);
        Ok((told, hub.shards.take()))
    });
    let (told, handles) = ended.map_err(Failed::Serving)?;
    let ended = told.map_err(Failed::Serving)?;
    let well = ended != Ended::AsAsked || handles.into_iter().all(|handle| handle.join());
    if let Some(file) = slab_file.as_ref().filter(|_| for_good.load(Ordering::Acquire)) {
        file.give_up();
    }
    drop(slab_file);
    if !well {
        return Err(Failed::Serving(anyhow::anyhow!("a shard has panicked; its message stands above")));
    }
    Ok(ended)
}

/// States the node's facts on the ring's board.
fn describe(
    config: &CacheConfig,
    listen: SocketAddr,
    connections_max: u32,
    ring: &Ring,
    slab: &SlabFacts,
    shards: u32,
) {
    let backend = serde_json::to_value(config.send).unwrap_or_default();
    ring.board().describe(&Node {
        pid: std::process::id(),
        started: wall(),
        version: env!("CARGO_PKG_VERSION"),
        listen: &listen.to_string(),
        backend: backend.as_str().unwrap_or_default(),
        shards,
        connections_max,
        huge_bytes: Some(slab.huge_bytes),
    });
}

/// What runs beside the connections. A task of this list ends only by failing.
fn spawn_work(hub: &Rc<Hub>, doorbells: Vec<Arc<crate::uring::Doorbell>>) -> Rc<Cell<Option<anyhow::Error>>> {
    let failure = Rc::new(Cell::new(None));
    let fail = |failure: &Rc<Cell<Option<anyhow::Error>>>, what: &'static str, error: std::io::Error| {
        failure.set(Some(anyhow::anyhow!("{what} failed: {error}")));
    };
    for (shard, doorbell) in doorbells.into_iter().enumerate() {
        let (hub, failure) = (hub.clone(), failure.clone());
        glommio::spawn_local(async move {
            if let Err(error) = sessions::hear(&hub, shard, doorbell).await {
                fail(&failure, "waiting for shards", error);
            }
        })
        .detach();
    }
    let tidying = hub.clone();
    glommio::spawn_local(async move {
        loop {
            tidying.untidy.take().await;
            loop {
                sleep(TIDY_AFTER).await;
                if !tidying.store.borrow_mut().tidy() {
                    break;
                }
            }
        }
    })
    .detach();
    let ticking = hub.clone();
    glommio::spawn_local(async move {
        for count in 0u32.. {
            sleep(TICK).await;
            tick(&ticking);
            if count.is_multiple_of(RANK_TICKS) {
                ticking.store.borrow_mut().rank_all(ticking.clock.now());
            }
        }
    })
    .detach();
    let alive = hub.clone();
    glommio::spawn_local(async move {
        loop {
            // A failure says that the file is not on a file system with times; then nobody removes it by its age.
            let _ = alive.ring.touch();
            sleep(slab::TOUCH_EVERY).await;
        }
    })
    .detach();
    if hub.index.is_some() {
        let (receiving, failure) = (hub.clone(), failure.clone());
        glommio::spawn_local(async move {
            let Some(index) = &receiving.index else { return };
            if let Err(error) = index.receive(&receiving).await {
                fail(&failure, "the socket to the index server", error);
            }
        })
        .detach();
        let reporting = hub.clone();
        glommio::spawn_local(async move {
            let Some(index) = &reporting.index else { return };
            loop {
                race(
                    async {
                        index.report(&reporting).await;
                        sleep(REPORT_EVERY).await
                    },
                    sleep(REPORT_EVERY),
                )
                .await;
            }
        })
        .detach();
    }
    failure
}

fn tick(hub: &Hub) {
    hub.ring.board().beat(wall());
    hub.counters.deadlines.set(deadline::waiting() as u64);
    let now = hub.clock.now();
    {
        let store = &mut *hub.store.borrow_mut();
        store.streams.tick(now, &mut store.out);
        store.show();
    }
    hub.settle();
    hub.shards.flush();
    hub.room.tick(hub);
    if let Some(index) = &hub.index {
        index.tick(now);
    }
}

async fn until_told(
    hub: &Rc<Hub>,
    mut signals: Signals,
    failure: &Cell<Option<anyhow::Error>>,
) -> anyhow::Result<Ended> {
    // glommio waits on a second handle of the signal pipe; this one is read.
    let wake = PollableFd::new(signals.as_fd().try_clone_to_owned()?)
        .map_err(|error| anyhow::anyhow!("signals cannot be waited for: {error}"))?;
    loop {
        if let First::This(woken) = race(wake.readable(), sleep(TICK)).await {
            woken.map_err(|error| anyhow::anyhow!("the reactor failed: {error}"))?;
        }
        if let Some(error) = failure.take() {
            return Err(error);
        }
        match signals.take() {
            None => {}
            Some(Asked::Drain) => return Ok(drain(hub, &mut signals).await),
            Some(Asked::Stop) => return Ok(Ended::AsAsked),
            Some(Asked::Hurry) => return Ok(Ended::CutShort),
        }
    }
}

/// Takes nothing new, and waits for the shards to finish.
async fn drain(hub: &Rc<Hub>, signals: &mut Signals) -> Ended {
    tracing::info!("draining");
    hub.draining.set(true);
    hub.ring.board().drain();
    let shards = hub.shard_counters.len();
    hub.shards.tell_all(|| ToShard::Drain, &hub.counters);
    let reporting = hub.clone();
    let _report = glommio::spawn_local(async move {
        if let Some(index) = &reporting.index {
            index.report(&reporting).await;
        }
    });
    let until = hub.clock.now().after(Span::from_secs(hub.config.drain_timeout_s));
    while hub.shards_stopped.get() < shards && hub.clock.now() < until {
        sleep(DRAIN_LOOK).await;
        if signals.take().is_some() {
            return Ended::CutShort;
        }
    }
    Ended::AsAsked
}
