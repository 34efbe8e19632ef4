//! Every bound of the system, with the reason for its value. A program that meets one counts it (the counter's name
//! stands beside the bound where the bound is used) and degrades or refuses; nothing grows with a number a peer sent.

/// Slots of a buffer map and chunks of a peer's window: 256 x 200 ms = 51.2 s (paper, section 3.2.1).
pub const WINDOW_CHUNKS: u64 = 256;

/// Chunks kept behind the play position for others: slots 0..48 (paper, section 3.2.2).
pub const HISTORY_CHUNKS: u64 = 48;

/// Largest chunk on the wire, header apart: 1 MiB, that is 40 Mbit/s at 200 ms. A faster stream is cut more often.
pub const CHUNK_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// MPEG-TS packet.
pub const TS_PACKET_BYTES: usize = 188;

/// Largest PAT and PMT in front of a chunk: 16 packets hold a PMT of maximal length (1024 bytes) and the PAT, twice.
pub const TABLES_BYTES_MAX: usize = 16 * TS_PACKET_BYTES;

/// Most chunks from one copy of the tables to the next: 5 s (our guess: a player that lost its tables waits no longer).
pub const TABLES_EVERY_CHUNKS: u32 = 25;

/// Bytes of a publisher's upload within which the first transport stream packets must be found (our guess: enough to
/// step over a partial packet or a header, too little to feed a web page or an MP4 file for long).
pub const SYNC_SEARCH_BYTES_MAX: u64 = 64 << 10;

/// Largest section of a PAT or PMT, its first three bytes included (ISO/IEC 13818-1, 2.4.4).
pub const SECTION_BYTES_MAX: usize = 1024;

/// Most packets that one PAT or PMT is remembered in: a section of 1024 bytes fills 6, adaptation fields take some.
pub const SECTION_PACKETS_MAX: usize = 8;

/// Most programs of a transport stream whose PMTs are remembered (our guess: a live stream has one).
pub const PROGRAMS_MAX: usize = 8;

/// Most elementary streams remembered of a program (our guess: a picture and the sound of a dozen languages is less).
pub const ELEMENTARY_STREAMS_MAX: usize = 32;

/// Bytes of a PES within which the first picture's start must come for its kind to be told (our guess: parameter sets
/// and SEI of real encoders end within 1 KiB).
pub const KEY_FRAME_SEARCH_BYTES_MAX: usize = 16 << 10;

/// Largest body of a frame that is not a chunk. Our guess: the largest real one is a list of partners, under 2 KiB.
pub const CONTROL_BODY_BYTES_MAX: usize = 4096;

/// Largest datagram: the smallest IPv6 MTU (1280) less IPv6 and UDP headers, so that none is ever fragmented.
pub const DATAGRAM_BYTES_MAX: usize = 1232;

/// Descriptors without which no server starts: standard streams, two rings of an executor and its timers, signals, a
/// socket, a database (measured: 13 in the index and the route server). A cache needs more, see its configuration.
pub const DESCRIPTORS_MIN: u64 = 32;

/// Longest stream name in bytes. Names are `[A-Za-z0-9._-]`, so that they stand unescaped in URLs and file names.
pub const STREAM_NAME_BYTES_MAX: usize = 64;

/// Most peers in one answer of the index server; a domain of 65 536 wants 3 ln N = 33 (paper, section 3.1.4).
pub const MEMBERS_PER_ANSWER_MAX: usize = 40;

/// Most peers in the partner list that a full peer answers with.
pub const PARTNERS_PER_ANSWER_MAX: usize = 32;

/// Most caches named in one answer.
pub const CACHES_PER_ANSWER_MAX: usize = 4;

/// Most index servers of a domain named in one answer.
pub const INDEXES_PER_ANSWER_MAX: usize = 4;

/// Most publisher keys of one stream: the present epoch's and those whose chunks are still in windows.
pub const KEYS_PER_STREAM_MAX: usize = 4;

/// Most runs of chunks in one request.
pub const RUNS_PER_REQUEST_MAX: usize = 32;

/// Most sequence numbers in one announcement.
pub const HAVE_PER_MESSAGE_MAX: usize = 32;

/// Streams in one datagram of a cache's report.
pub const STREAMS_PER_REPORT_MAX: usize = 24;

/// Sub-streams of a stream: the chunks whose numbers leave the same remainder when divided by this. One byte on the wire
/// has a bit for each. Our guess: an eighth of the stream is what the smallest uplink that helps at all can promise.
pub const SUB_STREAMS: u64 = 8;

/// Room for a signed join ticket.
pub const TICKET_BYTES_MAX: usize = 256;

/// Longest text in a refusal.
pub const REASON_BYTES_MAX: usize = 160;

const _: () = assert!(WINDOW_CHUNKS == 256, "the buffer map has 256 bits");
const _: () = assert!(CHUNK_PAYLOAD_BYTES_MAX > TABLES_BYTES_MAX, "tables ride inside a chunk");
const _: () = assert!(
    2 * SECTION_PACKETS_MAX * TS_PACKET_BYTES <= TABLES_BYTES_MAX,
    "a PAT and a PMT of the largest size fit in front of a chunk"
);
const _: () =
    assert!(MEMBERS_PER_ANSWER_MAX * 26 < DATAGRAM_BYTES_MAX, "a full answer of IPv6 members has room for its head");
