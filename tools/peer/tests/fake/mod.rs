//! Servers in a few lines each, so that the real program can be run alone: route and index behind one UDP socket, a
//! cache that keeps everything. Blocking sockets, a thread each; they end with the test's process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use cache_core::peer_id::{Location, PeerId};
use cache_core::sign::{ClusterKey, KeyRing, check_publish, stream_id};
use cache_core::units::{ChunkSeq, DomainId, Epoch};
use cache_core::wire::datagram::{Challenge, Cookie};
use cache_core::wire::exchange::{Ack, Ended, Publish, PublishOk, Role, Skipped, StreamInfo, Welcome};
use cache_core::wire::index::{Joined, Keys, PeerHeartbeatAck, PublishGrant, StreamKey};
use cache_core::wire::route::RouteJoined;
use cache_core::wire::{
    CHUNK_PREFIX_BYTES, ChunkHeader, Datagram, FRAME_HEAD_BYTES, Frame, FrameHead, KIND_CHUNK, List, Message,
    RefusalReason, Refused, StreamName,
};

/// Longer than any healthy test takes: only a hang meets it.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// What the servers know.
#[derive(Default)]
pub(crate) struct State {
    /// Frames of the chunks, oldest first; the first has the number `first`.
    pub chunks: Vec<Vec<u8>>,
    pub first: u64,
    pub keys: Vec<StreamKey>,
    pub ended: bool,
    /// Publisher links that got their PublishOk.
    pub sessions: u32,
    /// The index refuses publishers.
    pub refuse: Option<RefusalReason>,
    /// Chunks that are sent with a wrong byte, once each.
    pub(crate) spoil: Vec<u64>,
    /// Connections of publishers, to be cut by a test.
    publishers: Vec<TcpStream>,
}

/// The servers of one stream.
#[derive(Clone)]
pub(crate) struct Servers {
    pub name: StreamName,
    pub addr: SocketAddr,
    cache: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl State {
    /// The transport stream published so far.
    pub(crate) fn stream(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|frame| frame[CHUNK_PREFIX_BYTES + tables_len(frame)..].to_vec()).collect()
    }

    fn head(&self) -> Option<u64> {
        (self.first + self.chunks.len() as u64).checked_sub(1).filter(|_| !self.chunks.is_empty())
    }

    fn header(&self, seq: u64) -> ChunkHeader {
        ChunkHeader::decode(&self.chunks[(seq - self.first) as usize][FRAME_HEAD_BYTES..]).expect("a header")
    }
}

fn tables_len(frame: &[u8]) -> usize {
    usize::from(ChunkHeader::decode(&frame[FRAME_HEAD_BYTES..]).expect("a header").tables_len)
}

impl Servers {
    /// Servers of the stream called `name`, whose first chunk must have the number `first`.
    pub(crate) fn start(name: &str, first: u64) -> Servers {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let servers = Servers {
            name: name.parse().expect("a name"),
            addr: udp.local_addr().expect("bound"),
            cache: tcp.local_addr().expect("bound"),
            shared: Arc::default(),
        };
        servers.state().first = first;
        let (index, cache) = (servers.clone(), servers.clone());
        thread::spawn(move || index.serve_datagrams(&udp));
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let cache = cache.clone();
                thread::spawn(move || cache.serve_link(stream));
            }
        });
        servers
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("no server has failed")
    }

    /// Waits until `done`, or fails as a hang.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let (mut state, until) = (self.state(), Instant::now() + HANG);
        while !done(&state) {
            let left = until.checked_duration_since(Instant::now()).unwrap_or_else(|| panic!("hangs: {what}"));
            state = self.shared.1.wait_timeout(state, left).expect("no server has failed").0;
        }
        state
    }

    /// Cuts the publishers' links.
    pub(crate) fn cut_publishers(&self) {
        for link in self.state().publishers.drain(..) {
            let _ = link.shutdown(std::net::Shutdown::Both);
        }
    }

    fn serve_datagrams(&self, socket: &UdpSocket) {
        let (cluster, cookie) = (ClusterKey::derive(""), Cookie([7; 16]));
        let mut packet = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut packet) {
            let Ok(question) = Datagram::decode(&packet[..len], &cluster) else { continue };
            let message = match question.message {
                _ if question.cookie != cookie => Some(Challenge {}.into()),
                message => self.answer(message, from),
            };
            let Some(message) = message else { continue };
            let answer = Datagram { exchange: question.exchange, cookie, message };
            let _ = socket.send_to(&answer.encode(&cluster).expect("fits"), from);
        }
    }

    fn answer(&self, question: Message, from: SocketAddr) -> Option<Message> {
        let (mut state, stream) = (self.state(), stream_id(&self.name));
        let unknown = || Refused::because(RefusalReason::UnknownStream).into();
        Some(match question {
            Message::RouteJoin(_) => RouteJoined {
                peer: PeerId::new(Location::default(), 77),
                lease_s: 3_600,
                domain: DomainId(3),
                indexes: List::first_of([self.addr]),
                seen: from,
            }
            .into(),
            Message::PublishRequest(request) => match state.refuse {
                Some(reason) => Refused::because(reason).into(),
                None => {
                    let epoch = Epoch(state.keys.len() as u64 + 1);
                    state.keys.insert(0, StreamKey { epoch, key: request.key });
                    PublishGrant {
                        stream,
                        epoch,
                        next: ChunkSeq::new(state.first),
                        caches: List::first_of([self.cache]),
                    }
                    .into()
                }
            },
            Message::Join(join) if join.stream != self.name || state.chunks.is_empty() => unknown(),
            Message::Join(_) => Joined {
                stream,
                size: 1,
                heartbeat_ms: 5_000,
                seen: from,
                keys: List::first_of(state.keys.clone()),
                caches: List::first_of([self.cache]),
                members: List::new(),
            }
            .into(),
            Message::KeysQuery(_) => Keys { stream, keys: List::first_of(state.keys.clone()) }.into(),
            Message::PeerHeartbeat(_) => PeerHeartbeatAck { stream, size: 1 }.into(),
            _ => return None,
        })
    }

    fn serve_link(&self, mut link: TcpStream) {
        let (out, queue) = channel();
        let (writer, servers) = (link.try_clone().expect("a descriptor"), self.clone());
        thread::spawn(move || servers.write(writer, queue));
        let mut publisher = None;
        while let Some((head, body)) = read_frame(&mut link) {
            if head[2] == KIND_CHUNK {
                self.take_chunk([head.as_slice(), &body].concat(), &out);
                continue;
            }
            match Frame::decode(head[2], &body).expect("a frame") {
                Frame::Hello(hello) => {
                    publisher = (hello.role == Role::Publisher).then_some(());
                    say(&out, Welcome { peer: PeerId::NONE, nonce: [8; 16] });
                }
                Frame::Publish(publish) => {
                    publisher.expect("only a publisher publishes");
                    self.take_publisher(&publish, link.try_clone().expect("a descriptor"), &out);
                }
                Frame::Open(open) => self.open(usize::from(open.back), &out),
                Frame::Request(request) => {
                    for run in request.runs.iter() {
                        let seqs = run.first.get()..run.first.get() + u64::from(run.count);
                        seqs.for_each(|seq| drop(out.send(Say::Chunk(seq))));
                    }
                }
                Frame::Subscribe(subscribe) => drop(out.send(Say::From(subscribe.from.get()))),
                _ => {}
            }
        }
    }

    fn take_publisher(&self, publish: &Publish, link: TcpStream, out: &Sender<Say>) {
        let (mut state, stream) = (self.state(), stream_id(&self.name));
        let known = state.keys.iter().any(|k| k.epoch == publish.epoch && k.key == publish.key);
        assert!(known && check_publish(&publish.key, stream, publish.epoch, &[8; 16], &publish.signature));
        state.publishers.push(link);
        state.sessions += 1;
        let next = ChunkSeq::new(state.first + state.chunks.len() as u64);
        say(out, PublishOk { stream, next });
        self.shared.1.notify_all();
    }

    fn take_chunk(&self, frame: Vec<u8>, out: &Sender<Say>) {
        let (mut state, stream) = (self.state(), stream_id(&self.name));
        let header = ChunkHeader::decode(&frame[FRAME_HEAD_BYTES..]).expect("a header");
        let mut keys = KeyRing::new(stream);
        keys.replace(&state.keys);
        keys.check(&header, &frame[CHUNK_PREFIX_BYTES..]).expect("signed");
        assert_eq!(header.seq.get(), state.first + state.chunks.len() as u64, "in order, without a gap");
        state.chunks.push(frame);
        state.ended |= header.end;
        say(out, Ack { stream, seq: header.seq });
        self.shared.1.notify_all();
    }

    fn open(&self, back: usize, out: &Sender<Say>) {
        let (state, stream) = (self.state(), stream_id(&self.name));
        let head = state.head().expect("opened when there are chunks");
        let wished = head.saturating_sub(back as u64).max(state.first);
        let join = |seq: &u64| state.header(*seq).is_join_point();
        let begin = (state.first..=wished).rev().find(join).or_else(|| (wished..=head).find(join)).unwrap_or(head);
        say(
            out,
            StreamInfo {
                stream,
                epoch: state.header(head).epoch,
                oldest: ChunkSeq::new(state.first),
                head: ChunkSeq::new(head),
                head_published: state.header(head).published,
                begin: ChunkSeq::new(begin),
                spare_permille: 500,
            },
        );
    }

    fn write(&self, mut link: TcpStream, queue: Receiver<Say>) {
        for say in queue {
            let bytes = match say {
                Say::Bytes(bytes) => Some(bytes),
                Say::Chunk(seq) => self.chunk(seq),
                Say::From(first) => {
                    let skipped = Skipped { stream: stream_id(&self.name), next: ChunkSeq::new(first) };
                    let mut bytes = Vec::new();
                    Frame::from(skipped).encode(&mut bytes);
                    let pushed = (first..).map_while(|seq| self.chunk(seq));
                    if pushed.into_iter().any(|chunk| link.write_all(&chunk).is_err()) {
                        return;
                    }
                    let last = self.state().head().expect("some chunk was pushed");
                    let mut ended = Vec::new();
                    Frame::from(Ended { stream: stream_id(&self.name), last: ChunkSeq::new(last) }).encode(&mut ended);
                    Some(ended)
                }
            };
            if bytes.is_some_and(|bytes| link.write_all(&bytes).is_err()) {
                return;
            }
        }
    }

    /// A chunk once it is there; none behind the end.
    fn chunk(&self, seq: u64) -> Option<Vec<u8>> {
        let mut state = self.wait("a chunk", |state| state.ended || state.head() >= Some(seq));
        let mut chunk = state.chunks.get((seq - state.first) as usize).cloned()?;
        if let Some(at) = state.spoil.iter().position(|spoilt| *spoilt == seq) {
            state.spoil.remove(at);
            *chunk.last_mut().expect("a header") ^= 1;
        }
        Some(chunk)
    }
}

enum Say {
    Bytes(Vec<u8>),
    Chunk(u64),
    From(u64),
}

fn say(out: &Sender<Say>, frame: impl Into<Frame>) {
    let mut bytes = Vec::new();
    frame.into().encode(&mut bytes);
    let _ = out.send(Say::Bytes(bytes));
}

/// Head and body of the next frame; none at the link's end.
fn read_frame(link: &mut TcpStream) -> Option<([u8; FRAME_HEAD_BYTES], Vec<u8>)> {
    let mut head = [0; FRAME_HEAD_BYTES];
    link.read_exact(&mut head).ok()?;
    let mut body = vec![0; FrameHead::decode(&head).expect("a head").body_len];
    link.read_exact(&mut body).ok()?;
    Some((head, body))
}
