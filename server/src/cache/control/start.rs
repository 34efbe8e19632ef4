//! Everything that can fail before anything is served, in one place: configuration, limits, addresses, memory, threads.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cache_core::proto::cache::admission::connections_limit;
use cache_core::ring::{Backing, Found, Inherited, Reader, Ring, RingConfig, RingError, SEGMENT_BYTES, Writer};
use cache_core::time::Span;
use glommio::{CpuSet, LocalExecutor, LocalExecutorBuilder, Placement};
use socket2::{Domain, Protocol, Socket, Type};

use super::config::CacheConfig;
use super::huge::SlabFacts;
use super::note::{self, TakenOver};
use super::{room, slab};
use crate::cache::data::{self, ShardConfig, ShardHandle, Siblings, is_whole};
use crate::host::config::{self as host_config, ConfigError};
use crate::host::congestion::Congestion;
use crate::host::cpus::CpuList;
use crate::host::findings::Findings;
use crate::host::limits::{self, Limits};
use crate::host::signals::Signals;

/// glommio's memory for storage I/O, which control does not do: its least (64 KiB).
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Entries of the executor's rings (glommio's default): a poll per connection and a few timers are under way at once.
const RING_DEPTH: usize = 128;

/// Room in a shard's queue beside one announcement for each stream: answers, which are kept when there is none.
const SPARE_MESSAGES: usize = 256;

/// How long tasks that are never out of work may go on before the reactor looks for news (our guess: a fortieth of a
/// chunk).
const PREEMPT: Duration = Duration::from_millis(5);

/// How long a killed predecessor may go on holding its ring (our guess: its io_urings are torn down in milliseconds).
const OWNER_PATIENCE: Duration = Duration::from_secs(2);

/// What a cache server has when nothing can fail any more. Dropped, nothing is left of it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) config: CacheConfig,
    pub(super) listen: SocketAddr,
    pub(super) advertise: SocketAddr,
    pub(super) connections_max: u32,
    pub(super) signals: Signals,
    pub(super) executor: LocalExecutor,
    pub(super) index_socket: Option<UdpSocket>,
    pub(super) ring: Ring,
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) shards: Vec<ShardHandle>,
    /// What its memory turned out to be.
    pub(super) slab: SlabFacts,
    /// Streams of the process before this one that are still in the ring.
    pub(super) taken_over: Vec<TakenOver>,
    /// The ring's file, if it has a name.
    pub(super) slab_file: Option<SlabFile>,
}

/// The ring's file. Dropped, it is removed, though threads may still have it open, unless it is kept: what a former process
/// left from the first moment on, a new one once it is served from.
#[derive(Debug)]
pub(super) struct SlabFile {
    path: PathBuf,
    /// Device and number: a successor's file may have the name by then.
    file: (u64, u64),
    /// Whether a next process is to find it.
    keep: bool,
    kept: Cell<bool>,
}

impl SlabFile {
    fn at(path: PathBuf, keep: bool, taken_over: bool) -> Option<SlabFile> {
        let file = SlabFile::file(&path)?;
        Some(SlabFile { path, file, keep, kept: Cell::new(keep && taken_over) })
    }

    /// It is served from.
    pub(super) fn in_use(&self) {
        self.kept.set(self.keep);
    }

    /// There will be no next process: it is removed whatever is configured.
    pub(super) fn give_up(&self) {
        self.kept.set(false);
    }

    fn file(path: &Path) -> Option<(u64, u64)> {
        std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
    }
}

impl Drop for SlabFile {
    fn drop(&mut self) {
        // The ring removes it too, when its last reader is gone: whoever is second finds nothing, or another's.
        if !self.kept.get() && SlabFile::file(&self.path) == Some(self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Starts everything but the control plane's tasks. An error says what to change.
pub(super) fn start(mut config: CacheConfig) -> anyhow::Result<Started> {
    config.validate()?;
    confine(&config)?;
    let limits = limits::prepare()?;
    let signals = Signals::install().context("signals cannot be taken over")?;
    let connections_max = connections(&config, limits)?;
    let shards = shard_count(&config);
    let listeners = listen(&config, shards)?;
    let listen = listeners[0].local_addr()?;
    config.keep_ring &= slab::can_be_found_again(&config)?;
    config.listen = listen;
    let told = !config.index.is_empty();
    let advertise = host_config::advertised(listen, config.advertise, told)?;
    if let Some(warning) = host_config::warn_of_open_cluster(&config.cluster_secret, listen).filter(|_| told) {
        tracing::warn!("{warning}");
    }
    let index_socket = told.then(|| host_config::bind_udp(SocketAddr::new(listen.ip(), 0))).transpose()?;
    let executor = executor(&config)?;
    let lonely = spinning(config.busy_poll_us, shards, cpus());
    for warning in spanned(&CpuList::allowed()).into_iter().chain(lonely) {
        tracing::warn!("{warning}");
    }
    let Memory { writer, ring, taken_over, slab, slab_file } = memory(&config, listen, shards)?;
    config.streams_max = streams(&config, &ring);
    say_memory(&config, &ring, &slab);
    let reader = ring.reader(shards as u32)?;
    let shards = start_shards(&config, connections_max, listeners, &ring)?;
    Ok(Started {
        config,
        listen,
        advertise,
        connections_max,
        signals,
        executor,
        index_socket,
        ring,
        writer,
        reader,
        shards,
        slab,
        taken_over,
        slab_file,
    })
}

/// Looks at what [`start`] would need, and starts nothing.
pub(super) fn check(config: &CacheConfig, findings: &mut Findings) {
    findings.record(config.validate().map(|()| "values: in their ranges".to_owned()));
    match confine(config) {
        Err(error) => findings.fail(error.to_string()),
        Ok(cpus) => {
            findings.good(format!("CPUs: {}", cpus.len()));
            spanned(&cpus).into_iter().for_each(|warning| findings.warn(warning));
            let lonely = spinning(config.busy_poll_us, shard_count(config), self::cpus());
            lonely.into_iter().for_each(|warning| findings.warn(warning));
        }
    }
    let limits = Limits { memlock: None, nofile: limits::raise_nofile() };
    let congestion = Congestion::choose(&config.congestion).and_then(|it| it.check().map(|()| it));
    findings.record(congestion.map(|it| format!("congestion control: {}", it.why())));
    findings.record(connections(config, limits).map(|max| format!("connections: at most {max}")));
    findings.good(budget(config));
    let told = !config.index.is_empty();
    findings
        .record(host_config::advertised(config.listen, config.advertise, told).map(|addr| format!("address: {addr}")));
    findings.record_listen(probe(config.listen).map(|()| format!("listen: {} is free", config.listen)));
    if let Some(warning) = host_config::warn_of_open_cluster(&config.cluster_secret, config.listen).filter(|_| told) {
        findings.warn(warning);
    }
    match slab::backing(config, config.listen) {
        Err(error) => findings.fail(error.to_string()),
        Ok(Backing::Memfd) => findings.good(format!("memory: {} MiB in a memfd", config.memory_mib)),
        Ok(Backing::File(path)) => {
            if let Err(error) = slab::is_sendable(config.send, &Backing::File(path.clone())) {
                findings.fail(error.to_string());
            }
            room(&path, config.memory_mib << 20, findings);
        }
    }
}

fn executor(config: &CacheConfig) -> anyhow::Result<LocalExecutor> {
    let failed = |error| anyhow::anyhow!("the control plane's executor cannot start: {error}");
    // glommio spins in an executor with CPUs of its own choosing only: those that it has anyway.
    let placement = match config.busy_poll_us {
        0 => Placement::Unbound,
        _ => {
            let allowed: BTreeSet<usize> = CpuList::allowed().iter().collect();
            Placement::Fenced(CpuSet::online().map_err(failed)?.filter(|cpu| allowed.contains(&cpu.cpu)))
        }
    };
    LocalExecutorBuilder::new(placement)
        .name("control")
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT)
        .spin_before_park(Duration::from_micros(config.busy_poll_us))
        .make()
        .map_err(failed)
}

/// What joins are measured by.
fn budget(config: &CacheConfig) -> String {
    let bandwidth = room::bandwidth(config, config.advertise.unwrap_or(config.listen));
    let bandwidth = bandwidth.map_or("no limit on bandwidth".to_owned(), |limit| limit.to_string());
    let elsewhere = match (config.alternates.len(), config.index.is_empty()) {
        (0, true) => "told to come again".to_owned(),
        (0, false) => "sent to other caches of the domain".to_owned(),
        (count, _) => format!("sent elsewhere ({count} in alternates)"),
    };
    format!(
        "budget: each shard busy up to {}/1000, a chunk at its last viewer within {} ms, {bandwidth}, {} MiB of memory left \
         free; who finds no room is {elsewhere}",
        config.busy_max_permille, config.fanout_ms_max, config.memory_reserve_mib
    )
}

fn room(path: &Path, needed: u64, findings: &mut Findings) {
    let Some(directory) = path.parent() else { return };
    match cache_core::ring::available_in(directory) {
        Err(error) => findings.fail(format!("slab: {error}")),
        Ok(free) => {
            // What a former process left is taken over, or makes room.
            let free = free + std::fs::metadata(path).map_or(0, |left| left.blocks() * 512);
            if free >= needed {
                findings.good(format!("memory: {} needs {needed} bytes, {free} are free", path.display()));
            } else {
                let missing = needed - free;
                findings.fail(format!(
                    "memory: {} needs {needed} bytes and {missing} are missing: lower memory_mib, or enlarge the tmpfs \
                     (mount -o remount,size=...; for a container --shm-size)",
                    path.display()
                ));
            }
        }
    }
}

/// Confines the process to the configured CPUs, before it allocates or starts anything; those that it runs on.
fn confine(config: &CacheConfig) -> anyhow::Result<CpuList> {
    if let Some(cpus) = config.cpu_list()? {
        cpus.confine().map_err(|absent| ConfigError::value("cpus", format!("\"{}\": {absent}", config.cpus)))?;
    }
    Ok(CpuList::allowed())
}

/// Whether memory is far from some of the CPUs.
fn spanned(cpus: &CpuList) -> Option<String> {
    let nodes = cpus.nodes();
    (nodes.len() > 1).then(|| {
        format!(
            "the CPUs belong to {} memory nodes ({nodes:?}), and the chunk ring is on one of them: run one cache for each, \
             with `cpus` (/sys/devices/system/node/nodeN/cpulist)",
            nodes.len()
        )
    })
}

/// Whether control, which does not sleep, leaves a shard without a processor of its own.
fn spinning(busy_poll_us: u64, shards: usize, cpus: usize) -> Option<String> {
    (busy_poll_us > 0 && shards >= cpus).then(|| {
        let instead = match cpus {
            0 | 1 => "set busy_poll_us = 0: there is no processor to spare".to_owned(),
            cpus => format!("set shards = {}, or busy_poll_us = 0", cpus - 1),
        };
        format!(
            "busy_poll_us = {busy_poll_us} keeps a processor busy, and {shards} shards have {cpus} in all, so that one of them is \
             left less: {instead}"
        )
    })
}

fn connections(config: &CacheConfig, limits: Limits) -> anyhow::Result<u32> {
    let max = connections_limit(config.connections_max, limits.nofile.unwrap_or(u64::MAX))?;
    if max < config.connections_max {
        tracing::warn!(
            "connections_max is {} and descriptors suffice for {max}: raise the limit (ulimit -Hn, LimitNOFILE=)",
            config.connections_max
        );
    }
    Ok(max)
}

/// Every stream needs a segment of its own: a publisher beyond that is better refused than taken and never served.
fn streams(config: &CacheConfig, ring: &Ring) -> u32 {
    let stats = ring.stats();
    let room = u32::try_from(stats.segments_free + stats.segments_in_use).unwrap_or(u32::MAX);
    if room < config.streams_max {
        tracing::warn!(
            "streams_max is {} and {} MiB hold {room}: raise memory_mib (2 MiB a stream at least)",
            config.streams_max,
            config.memory_mib
        );
    }
    config.streams_planned().min(room)
}

/// What was planned, and what was got.
fn say_memory(config: &CacheConfig, ring: &Ring, slab: &SlabFacts) {
    let stats = ring.stats();
    let segments = stats.segments_free + stats.segments_in_use;
    let segment_mib = SEGMENT_BYTES >> 20;
    let segments_mib = segments * segment_mib;
    tracing::info!(
        place = slab.place,
        "memory for chunks: {} MiB planned, {} MiB got, {} MiB in huge pages; {segments} segments of {segment_mib} MiB for \
         {} streams, {} MiB of tables",
        config.memory_mib,
        slab.allocated_bytes >> 20,
        slab.huge_bytes >> 20,
        config.streams_max,
        (slab.bytes >> 20).saturating_sub(segments_mib),
    );
}

fn shard_count(config: &CacheConfig) -> usize {
    match config.shards {
        0 => cpus(),
        count => count as usize,
    }
}

/// How many CPUs' time this process may use: those it may run on, or what its cgroup's quota comes to.
fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One listener per shard, on one port. They share it by SO_REUSEPORT, which another process of the same user would
/// join unnoticed: so the port is tried without it first.
fn listen(config: &CacheConfig, shards: usize) -> anyhow::Result<Vec<TcpListener>> {
    let addr = config.listen;
    let congestion = Congestion::choose(&config.congestion)?;
    host_config::outwait_predecessor(|| probe(addr))?;
    let first = data::bind(addr).map_err(|error| anyhow::anyhow!("listen: {error}"))?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(data::bind(bound).map_err(|error| anyhow::anyhow!("listen: {error}"))?);
    }
    for listener in &listeners {
        congestion.set(listener)?;
    }
    tracing::info!("congestion control: {}", congestion.why());
    Ok(listeners)
}

fn probe(addr: SocketAddr) -> Result<(), ConfigError> {
    let alone = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())
    };
    alone().map_err(|error| host_config::cannot_listen(addr, "TCP", &error))
}

/// The ring, and what it began with.
struct Memory {
    writer: Writer,
    ring: Ring,
    taken_over: Vec<TakenOver>,
    slab: SlabFacts,
    slab_file: Option<SlabFile>,
}

fn memory(config: &CacheConfig, listen: SocketAddr, shards: usize) -> anyhow::Result<Memory> {
    let backing = slab::backing(config, listen)?;
    slab::is_sendable(config.send, &backing)?;
    for path in slab::sweep(&backing) {
        tracing::warn!(path = %path.display(), "removed the chunk ring of a cache that ended more than a minute ago");
    }
    let path = match &backing {
        Backing::Memfd => None,
        Backing::File(path) => Some(path.clone()),
    };
    let ring = RingConfig {
        backing,
        budget_bytes: config.memory_mib << 20,
        streams_max: config.streams_planned(),
        // One more for control, which reports.
        readers_max: shards as u32 + 1,
        recycle: slab::recycle(config.send),
        retain_chunks: config.retention().most(),
        // Whether it goes is [`SlabFile`]'s to know.
        keep_file: config.keep_ring,
    };
    let opened = outwait_owner(|| {
        if slab::remove_own_if_stale(&ring.backing) {
            tracing::warn!(
                backing = ?ring.backing,
                "the chunk ring that a former process left is not used: it ended more than a minute ago"
            );
        }
        Ring::open_or_create(&ring, is_whole)
    });
    let (mut writer, ring, inherited) = opened.context("memory_mib, streams_max, slab")?;
    let taken_over = take_over(&inherited, &mut writer, path.as_deref());
    let slab = SlabFacts::of(&ring, path.as_deref());
    let slab_file = path.and_then(|path| SlabFile::at(path, config.keep_ring, inherited.found == Found::Ring));
    Ok(Memory { writer, ring, taken_over, slab, slab_file })
}

/// The kernel lets go of a killed process's files a moment after the process is gone, later than of its port.
fn outwait_owner<T>(mut open: impl FnMut() -> Result<T, RingError>) -> Result<T, RingError> {
    let deadline = std::time::Instant::now() + OWNER_PATIENCE;
    loop {
        match open() {
            Err(RingError::InUse { .. }) if std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

/// Says what stood at the ring's path, and closes streams that nobody could name.
fn take_over(inherited: &Inherited, writer: &mut Writer, path: Option<&Path>) -> Vec<TakenOver> {
    let path = path.unwrap_or(Path::new("")).display();
    match &inherited.found {
        Found::Nothing => {}
        Found::Replaced(why) => tracing::warn!(%path, "the chunk ring that a former process left is not used: {why}"),
        Found::SetAside { to, removed } => {
            let to = to.display();
            tracing::warn!(%path, "was no chunk ring and is now {to}: it takes memory until you remove it");
            if let Some(removed) = removed {
                tracing::warn!("{} was set aside earlier and has been removed", removed.display());
            }
        }
        Found::Ring => {
            let Inherited { chunks, torn, .. } = inherited;
            tracing::info!(%path, streams = inherited.streams.len(), chunks, torn, "took over a chunk ring");
        }
    }
    let mut streams = Vec::new();
    for found in &inherited.streams {
        match note::read(found) {
            Some(stream) => streams.push(stream),
            None => {
                tracing::warn!(stream = %found.id, "a stream without its name was in the ring, and is dropped");
                writer.close_stream(found.slot);
            }
        }
    }
    streams
}

fn start_shards(
    config: &CacheConfig,
    connections_max: u32,
    listeners: Vec<TcpListener>,
    ring: &Ring,
) -> anyhow::Result<Vec<ShardHandle>> {
    let count = listeners.len();
    let cpus: Vec<usize> = CpuList::allowed().iter().collect();
    let chosen = !config.cpus.trim().is_empty();
    let siblings = Arc::new(Siblings::new(count));
    let mut handles = Vec::with_capacity(count);
    for (index, listener) in (0u32..).zip(listeners) {
        let shard = ShardConfig {
            send: config.send,
            connections_max: connections_max.div_ceil(count as u32),
            // With one shard per CPU each has its own; with fewer the kernel places them better, beside others' work,
            // unless the CPUs were chosen for this cache.
            pin_to: cpus.get(index as usize).copied().filter(|_| cpus.len() == count || chosen && count < cpus.len()),
            queue_messages: ShardConfig::QUEUE_MESSAGES_MIN.max(config.streams_max as usize + SPARE_MESSAGES),
            stall_cutoff: Span::from_secs(config.viewer_stall_s),
            http_back_chunks: config.http_back_chunks,
            http_idle: Span::from_secs(config.http_idle_s),
            drain_deadline: Span::from_secs(config.drain_timeout_s),
            // Those who pull from a cache have its name from an index server.
            caches_max: if config.index.is_empty() { 0 } else { ShardConfig::CACHES_MAX.div_ceil(count as u32) },
            budget: config.budget(),
            siblings: siblings.clone(),
            ..ShardConfig::new(config.listen)
        };
        handles.push(data::start(index, shard, listener, ring.reader(index)?, ring.clone())?);
    }
    Ok(handles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_that_does_not_sleep_needs_a_processor_to_spare() {
        assert_eq!(spinning(0, 2, 2), None);
        assert_eq!(spinning(50, 1, 2), None);
        assert!(spinning(50, 2, 2).is_some_and(|said| said.ends_with("set shards = 1, or busy_poll_us = 0")));
        assert!(spinning(50, 1, 1).is_some_and(|said| said.ends_with("there is no processor to spare")));
    }
}
