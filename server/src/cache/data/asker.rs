//! Askers: connections over HTTP that ask for chunks one by one, and may ask ahead.
//!
//! ```text
//!  received --> inbox --> one request --> Waiting ------> answers: the head -----> the chunk's bytes --> next request
//!               (16 KiB)                  until the       MSG_MORE: one packet     from the slot
//!                                         chunk is there
//! ```
//! Requests are answered in their order, one at a time: what is sent ahead waits in the inbox. An asker counts as a
//! viewer of the stream that it asked for last, so that a pulled stream stays.
//!
//! | time | bound | afterwards |
//! |---|---|---|
//! | from a head's first byte to its last | `handshake_deadline` | cut off |
//! | for a chunk that is not there yet | `http_wait` | 404 with Retry-After |
//! | without a request | `http_idle` | closed |
//! | without taking a byte | `stall_cutoff` | cut off |

use cache_core::proto::cache::viewer::AHEAD_CHUNKS_MAX;
use cache_core::ring::{ChunkRef, Lookup};
use cache_core::sign::stream_id;
use cache_core::time::Time;
use cache_core::wire::{CHUNK_PREFIX_BYTES, RefusalReason, StreamName};

use super::config::ASKED_AHEAD_BYTES_MAX;
use super::connection::{Key, Phase, Sending};
use super::http::{self, Asked, HttpError, HttpVerdict, Request};
use super::pump::Step;
use super::shard::Shard;
use super::shelf::vouched_lookup;
use super::streams::{State, StreamKey};

/// One asker.
#[derive(Debug, Default)]
pub(super) struct Asker {
    /// Received and not looked at; empty, and without memory, while requests come one by one.
    inbox: Vec<u8>,
    work: Work,
    joined: Option<Joined>,
    /// The connection ends behind the present answer.
    last: bool,
    /// The other side sends nothing more.
    ended: bool,
}

/// The stream that was asked for last.
#[derive(Debug)]
struct Joined {
    name: StreamName,
    stream: StreamKey,
    place: u32,
}

/// What is being done for it.
#[derive(Debug, Default)]
enum Work {
    /// Nothing has been asked.
    #[default]
    Quiet,
    /// A request's head has begun.
    Head,
    /// This was asked for; nothing is answered yet.
    Waiting { asked: Asked, head_only: bool },
    /// The answer's head has been said, this follows.
    Body(Sending),
    /// All has been said.
    Said,
}

impl Asker {
    /// Its stream, and its place among that one's viewers.
    pub(super) fn place(&self) -> Option<(StreamKey, u32)> {
        self.joined.as_ref().map(|joined| (joined.stream, joined.place))
    }

    /// It has another place among the viewers.
    pub(super) fn moved(&mut self, place: u32) {
        if let Some(joined) = &mut self.joined {
            joined.place = place;
        }
    }

    /// Whether a new chunk may be what it waits for.
    pub(super) fn waits(&self) -> bool {
        matches!(self.work, Work::Waiting { .. })
    }

    /// Whether a chunk's bytes come next.
    pub(super) fn body_follows(&self) -> bool {
        matches!(self.work, Work::Body(_))
    }

    /// Whether a request could be begun.
    fn is_free(&self) -> bool {
        matches!(self.work, Work::Quiet | Work::Head)
    }
}

impl Shard {
    /// A connection whose first request is an asker's; `bytes` begin with it.
    pub(super) fn begin_asking(&mut self, key: Key, bytes: &[u8]) {
        self.connections[key as usize].phase = Phase::Asker(Asker::default());
        self.viewers.http += 1;
        self.on_asked(key, bytes);
    }

    /// Bytes from an asker.
    pub(super) fn on_asked(&mut self, key: Key, bytes: &[u8]) {
        let Some(asker) = self.asker(key) else { return };
        if asker.inbox.len() + bytes.len() > ASKED_AHEAD_BYTES_MAX {
            self.links.counters.cut_asked_ahead.one();
            return self.cut(key);
        }
        // The usual request comes alone and whole, and is read where it lies.
        let used = if asker.is_free() && asker.inbox.is_empty() { self.take_request(key, bytes) } else { 0 };
        if let Some(asker) = self.asker(key) {
            asker.inbox.extend_from_slice(&bytes[used..]);
        }
        self.schedule(key);
    }

    /// An asker has said all it will: what it asked for is sent, if that has been begun.
    pub(super) fn on_asked_all(&mut self, key: Key) {
        match self.asker(key) {
            Some(asker) if !asker.waits() => {
                asker.ended = true;
                self.schedule(key);
            }
            _ => self.close(key),
        }
    }

    /// What the pump does next for an asker that has taken everything so far.
    pub(super) fn next_asked(&mut self, key: Key) -> Step {
        if self.asker(key).is_some_and(|asker| asker.waits()) {
            return if self.answer_if_there(key) { Step::Again } else { Step::Done };
        }
        let connection = &mut self.connections[key as usize];
        let Phase::Asker(asker) = &mut connection.phase else { return Step::Done };
        match asker.work {
            Work::Body(sending) => {
                connection.sending = Some(sending);
                asker.work = Work::Said;
                return Step::Again;
            }
            Work::Said if asker.last => {
                self.finish(key);
                return Step::Done;
            }
            Work::Said => asker.work = Work::Quiet,
            Work::Quiet | Work::Head | Work::Waiting { .. } => {}
        }
        if !asker.inbox.is_empty() {
            let mut inbox = std::mem::take(&mut asker.inbox);
            let used = self.take_request(key, &inbox);
            inbox.drain(..used);
            let Some(asker) = self.asker(key) else { return Step::Done };
            if !inbox.is_empty() {
                asker.inbox = inbox;
            }
            if used > 0 {
                return Step::Again;
            }
        }
        self.rest(key);
        Step::Done
    }

    /// Nothing whole has been asked: its time begins, if it has not.
    fn rest(&mut self, key: Key) {
        let (now, idle, head) = (self.now, self.config.http_idle, self.config.handshake_deadline);
        let connection = &mut self.connections[key as usize];
        let Phase::Asker(asker) = &mut connection.phase else { return };
        if asker.ended {
            return self.finish(key);
        }
        match (asker.inbox.is_empty(), &asker.work) {
            (true, _) => {
                asker.work = Work::Quiet;
                connection.deadline = now.after(idle);
            }
            (false, Work::Head) => {}
            (false, _) => {
                asker.work = Work::Head;
                connection.deadline = now.after(head);
            }
        }
    }

    /// Takes in the request that `bytes` begin with; how many bytes it had, 0 while it is not whole.
    fn take_request(&mut self, key: Key, bytes: &[u8]) -> usize {
        match http::parse(bytes) {
            None => 0,
            Some(Ok(request)) => {
                self.on_request_head(key, &request);
                request.len
            }
            Some(Err(error)) => {
                self.say_error(key, error, false, true);
                bytes.len()
            }
        }
    }

    fn on_request_head(&mut self, key: Key, request: &Request<'_>) {
        let Some(asker) = self.asker(key) else { return };
        asker.last = request.close;
        let head_only = request.method == "HEAD";
        if request.body {
            // Its end is not looked for, so nothing behind it can be understood.
            return self.say_error(key, HttpError::Malformed, head_only, true);
        }
        let Some((name, asked)) = http::asked(request) else { return self.on_other(key, request) };
        if matches!(asked, Asked::Chunk(_)) {
            self.links.counters.chunks_requested.one();
        }
        if let Err(error) = self.join_asked(key, name) {
            return self.say_error(key, error, head_only, false);
        }
        let deadline = self.now.after(self.config.http_wait);
        self.connections[key as usize].deadline = deadline;
        if let Some(asker) = self.asker(key) {
            asker.work = Work::Waiting { asked, head_only };
        }
        self.answer_if_there(key);
    }

    /// A request that is no asker's.
    fn on_other(&mut self, key: Key, request: &Request<'_>) {
        match http::route(request) {
            HttpVerdict::Playout { name, head_only, back } => {
                // As one that has just come: `play` makes a viewer of it, or refuses it.
                self.leave_asked(key);
                self.viewers.http -= 1;
                self.connections[key as usize].phase = Phase::Handshake(Vec::new());
                self.play(key, name, head_only, back);
            }
            HttpVerdict::Error(error) => self.say_error(key, error, request.method == "HEAD", false),
            HttpVerdict::Asker | HttpVerdict::Control => self.say_error(key, HttpError::Anew, false, true),
        }
    }

    /// Makes the asker a viewer of the stream called `name`, wanted from control if it is not in the ring. Asked for
    /// again, a stream costs a comparison.
    fn join_asked(&mut self, key: Key, name: &str) -> Result<(), HttpError> {
        let Shard { connections, streams, sender, .. } = self;
        let Phase::Asker(asker) = &connections[key as usize].phase else { return Ok(()) };
        let joined = asker.joined.as_ref().filter(|joined| joined.name.as_str() == name);
        let known = joined.is_some_and(|joined| match streams.get(joined.stream).state {
            State::Wanted(_) => true,
            State::Live(slot) => sender.reader().head(slot).is_some(),
        });
        if known {
            return Ok(());
        }
        let name = StreamName::new(name).map_err(|_| HttpError::NoSuchPath)?;
        let stream = self.find_or_want(stream_id(&name), name.clone()).map_err(|_| HttpError::Unavailable)?;
        if self.asker(key).and_then(|asker| asker.place()).is_none_or(|(joined, _)| joined != stream) {
            self.leave_asked(key);
            let place = self.streams.join(stream, key);
            if let Some(asker) = self.asker(key) {
                asker.joined = Some(Joined { name, stream, place });
            }
        }
        Ok(())
    }

    fn leave_asked(&mut self, key: Key) {
        if let Some((stream, place)) =
            self.asker(key).and_then(|asker| asker.joined.take()).map(|j| (j.stream, j.place))
        {
            self.leave(stream, place);
        }
    }

    /// Answers what is waited for, if that can be done now.
    fn answer_if_there(&mut self, key: Key) -> bool {
        let Shard { connections, streams, sender, .. } = self;
        let Phase::Asker(asker) = &connections[key as usize].phase else { return false };
        let (Work::Waiting { asked, head_only }, Some(joined)) = (&asker.work, &asker.joined) else { return false };
        let (asked, head_only) = (*asked, *head_only);
        let stream = streams.get(joined.stream);
        let State::Live(slot) = stream.state else { return false };
        let (ended, reader) = (stream.ended, sender.reader());
        match asked {
            Asked::Head => match reader.head(slot) {
                Some(head) => {
                    let oldest = reader.oldest(slot).unwrap_or(head);
                    self.say_asked(key, |out, close| http::put_live(out, oldest, head, head_only, close), Work::Said);
                }
                None => self.say_error(key, HttpError::NoSuchStream, head_only, false),
            },
            Asked::Chunk(seq) => match vouched_lookup(reader, slot, seq) {
                Lookup::Ready(chunk) => {
                    let body = transport_stream_whole(chunk);
                    let len = body.rest().map_or(0, |(_, len)| len);
                    let next = if head_only { Work::Said } else { Work::Body(body) };
                    self.say_asked(key, |out, close| http::put_chunk_head(out, len, close), next);
                }
                Lookup::Gone => self.say_no_chunk(key, HttpError::GoneChunk, head_only),
                Lookup::NotYet => {
                    let too_far = reader.head(slot).is_some_and(|head| head.ahead(AHEAD_CHUNKS_MAX) < seq);
                    if !too_far && ended.is_none_or(|last| seq <= last) {
                        return false;
                    }
                    self.say_no_chunk(key, HttpError::NotYetChunk, head_only);
                }
            },
        }
        true
    }

    /// The stream that is waited for cannot be had.
    pub(super) fn refuse_asker(&mut self, key: Key, reason: RefusalReason) {
        self.leave_asked(key);
        let Some(Asker { work: Work::Waiting { head_only, .. }, .. }) = self.asker(key) else { return };
        let head_only = *head_only;
        let error = match reason {
            RefusalReason::UnknownStream => HttpError::NoSuchStream,
            _ => HttpError::Unavailable,
        };
        self.say_error(key, error, head_only, false);
        self.schedule(key);
    }

    /// An asker's time is up: for what it waits for, or to ask.
    pub(super) fn on_asker_late(&mut self, key: Key) {
        match self.asker(key).map(|asker| &asker.work) {
            Some(Work::Waiting { head_only, .. }) => {
                let head_only = *head_only;
                self.say_no_chunk(key, HttpError::NotYetChunk, head_only);
                self.schedule(key);
            }
            Some(Work::Head) => {
                self.links.counters.handshakes_late.one();
                self.cut(key);
            }
            Some(Work::Quiet) => {
                self.links.counters.http_idle_closed.one();
                self.close(key);
            }
            Some(Work::Body(_) | Work::Said) | None => {}
        }
    }

    /// Ends an asker's connection behind what was begun.
    pub(super) fn finish_asking(&mut self, key: Key) {
        match self.asker(key) {
            Some(Asker { last, work: Work::Body(_) | Work::Said, .. }) => *last = true,
            Some(Asker { work: Work::Waiting { head_only, .. }, .. }) => {
                let head_only = *head_only;
                self.refuse_http(key, HttpError::Unavailable, head_only);
            }
            _ => self.finish(key),
        }
    }

    fn say_no_chunk(&mut self, key: Key, error: HttpError, head_only: bool) {
        self.links.counters.chunks_unavailable.one();
        self.say_error(key, error, head_only, false);
    }

    /// Answers with an error; with `last` the connection ends behind it.
    fn say_error(&mut self, key: Key, error: HttpError, head_only: bool, last: bool) {
        self.links.counters.http_errors.one();
        if let Some(asker) = self.asker(key) {
            asker.last |= last;
        }
        self.say_asked(
            key,
            |out, close| out.extend_from_slice(error.response(head_only, close).as_bytes()),
            Work::Said,
        );
    }

    /// Appends an answer, which is told whether it is the last one; `next` is what remains of it to be done.
    fn say_asked(&mut self, key: Key, put: impl FnOnce(&mut Vec<u8>, bool), next: Work) {
        let connection = &mut self.connections[key as usize];
        connection.about_to_append(self.now);
        connection.deadline = Time::NEVER;
        let Phase::Asker(asker) = &mut connection.phase else { return };
        asker.work = next;
        put(connection.answers.append(), asker.last);
    }

    fn asker(&mut self, key: Key) -> Option<&mut Asker> {
        match &mut self.connections.get_mut(key as usize)?.phase {
            Phase::Asker(asker) => Some(asker),
            _ => None,
        }
    }
}

/// All of a chunk's payload. Its head has been said, so it comes whole or the connection ends.
fn transport_stream_whole(chunk: ChunkRef) -> Sending {
    Sending { chunk, parts: [(CHUNK_PREFIX_BYTES as u32, chunk.len), (0, 0)], started: true }
}
