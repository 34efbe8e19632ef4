//! An index server of a few lines: grants whoever asks, remembers keys, and names the parents that the test has set.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cache_core::sign::{ClusterKey, stream_id};
use cache_core::units::{ChunkSeq, Epoch};
use cache_core::wire::datagram::Cookie;
use cache_core::wire::index::{
    CacheLoad, CachePull, CacheReport, CacheReportAck, CacheStreams, HeldStream, Keys, PublishGrant, Resolved,
    StreamKey,
};
use cache_core::wire::{Datagram, List, Message, RefusalReason, Refused, StreamName};

#[derive(Default)]
pub struct State {
    pub keys: BTreeMap<StreamName, Vec<StreamKey>>,
    pub parents: BTreeMap<StreamName, Vec<SocketAddr>>,
    /// Caches by the address they advertise: where their datagrams come from, and their last report.
    pub caches: BTreeMap<SocketAddr, (SocketAddr, CacheReport)>,
    /// What each cache said last of each stream.
    pub held: BTreeMap<(SocketAddr, u64), HeldStream>,
    /// The other caches that each cache is told of.
    pub others: Vec<CacheLoad>,
    pub pull_acks: u32,
    pub resolves: u32,
    pub refuse_publish: Option<RefusalReason>,
    stop: bool,
}

pub struct FakeIndex {
    pub addr: SocketAddr,
    pub state: Arc<Mutex<State>>,
    socket: UdpSocket,
    thread: Option<JoinHandle<()>>,
}

impl FakeIndex {
    pub fn start() -> FakeIndex {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
        let addr = socket.local_addr().expect("bound");
        let state = Arc::new(Mutex::new(State::default()));
        let (ours, theirs) = (socket.try_clone().expect("cloned"), state.clone());
        let thread = std::thread::spawn(move || serve(&ours, &theirs));
        FakeIndex { addr, state, socket, thread: Some(thread) }
    }

    /// The configuration of a cache that has this index.
    pub fn config(&self) -> String {
        format!("index = [\"{}\"]\n", self.addr)
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("not poisoned"))
    }

    /// Tells the cache that advertises `cache` to fetch a stream.
    pub fn order_pull(&self, cache: SocketAddr, name: &StreamName) {
        let (to, pull) = self.with(|state| {
            let keys = List::first_of(state.keys.get(name).cloned().unwrap_or_default());
            let parents = List::first_of(state.parents.get(name).cloned().unwrap_or_default());
            (state.caches[&cache].0, CachePull { stream: name.clone(), keys, parents })
        });
        let datagram = Datagram { exchange: 99, cookie: Cookie::default(), message: pull.into() };
        self.socket.send_to(&datagram.encode(&ClusterKey::derive("")).expect("fits"), to).expect("sent");
    }
}

impl Drop for FakeIndex {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.stop = true;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, state: &Mutex<State>) {
    let cluster = ClusterKey::derive("");
    let mut packet = [0; 2048];
    loop {
        let received = socket.recv_from(&mut packet);
        let Ok(mut state) = state.lock() else { return };
        if state.stop {
            return;
        }
        let Ok((len, from)) = received else { continue };
        let Ok(datagram) = Datagram::decode(&packet[..len], &cluster) else { continue };
        if let Some(message) = answer(&mut state, from, datagram.message) {
            let answer = Datagram { exchange: datagram.exchange, cookie: Cookie::default(), message };
            let _ = socket.send_to(&answer.encode(&cluster).expect("fits"), from);
        }
    }
}

fn answer(state: &mut State, from: SocketAddr, message: Message) -> Option<Message> {
    Some(match message {
        Message::CacheReport(report) => {
            state.caches.insert(report.advertise, (from, report));
            CacheReportAck { others: List::first_of(state.others.clone()) }.into()
        }
        Message::CacheStreams(CacheStreams { advertise, streams }) => {
            for held in streams.iter() {
                state.held.insert((advertise, held.stream.0), held.clone());
            }
            match state.caches.contains_key(&advertise) {
                true => CacheReportAck { others: List::new() }.into(),
                false => Refused::because(RefusalReason::NotJoined).into(),
            }
        }
        Message::CacheKeys(keys) => {
            state.keys.insert(keys.stream, keys.keys.into_vec());
            CacheReportAck { others: List::new() }.into()
        }
        Message::PublishRequest(request) if request.at_cache.is_some_and(|at| !state.caches.contains_key(&at)) => {
            Refused::because(RefusalReason::NoCache).into()
        }
        Message::PublishRequest(request) => match state.refuse_publish {
            Some(reason) => Refused::because(reason).into(),
            None => {
                let keys = state.keys.entry(request.stream.clone()).or_default();
                let epoch = Epoch(keys.iter().map(|key| key.epoch.0).max().unwrap_or(0) + 1);
                keys.insert(0, StreamKey { epoch, key: request.key });
                keys.truncate(4);
                let stream = stream_id(&request.stream);
                let heads = state.held.values().filter(|held| held.stream == stream).map(|held| held.head.next());
                let next = heads.max().unwrap_or(ChunkSeq::FIRST);
                PublishGrant { stream, epoch, next, caches: List::new() }.into()
            }
        },
        Message::KeysQuery(query) => match state.keys.get(&query.stream) {
            Some(keys) => Keys { stream: stream_id(&query.stream), keys: List::first_of(keys.clone()) }.into(),
            None => Refused::because(RefusalReason::UnknownStream).into(),
        },
        Message::Resolve(resolve) => {
            state.resolves += 1;
            match state.parents.get(&resolve.stream) {
                Some(parents) => Resolved {
                    keys: List::first_of(state.keys.get(&resolve.stream).cloned().unwrap_or_default()),
                    parents: List::first_of(parents.iter().copied().filter(|parent| *parent != resolve.advertise)),
                    stream: resolve.stream,
                }
                .into(),
                None => Refused::because(RefusalReason::UnknownStream).into(),
            }
        }
        Message::CachePullAck(_) => {
            state.pull_acks += 1;
            return None;
        }
        _ => return None,
    })
}
