//! Viewers over HTTP without sockets: what a discarding one makes of the generated stream, right and wrong.

use super::Appetite;
use super::http::HttpViewer;
use super::library::Library;
use super::sink::Sink;
use super::tests::{library_of, plan};
use crate::measure::{Account, Figures, Measured, Trouble};
use crate::publish::Source;

const HEAD: &[u8] = b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n";

/// The chunks `numbers` of the generated stream as a cache sends them, tables in front; without, as others do.
fn chunks(numbers: impl IntoIterator<Item = usize>, tables: bool) -> Vec<Vec<u8>> {
    let mut source = Source::generated(2_000);
    let numbers: Vec<usize> = numbers.into_iter().collect();
    let most = numbers.iter().copied().max().unwrap_or(0);
    let all: Vec<Vec<u8>> = (0..=most)
        .map(|_| {
            let slice = source.next().expect("generated");
            if tables { slice.payload } else { slice.stream_bytes().to_vec() }
        })
        .collect();
    numbers.into_iter().map(|number| all[number].clone()).collect()
}

struct Bench {
    viewer: HttpViewer,
    library: Library,
    account: Account,
    figures: Figures,
}

impl Bench {
    fn new(verify: bool, tables: bool) -> Bench {
        let plan = super::Plan { tables, generated: true, ..plan() };
        let viewer = HttpViewer::new("cache", "/live/x.ts", verify, &mut Vec::new());
        Bench { viewer, library: library_of(&plan), account: Account::default(), figures: Figures::new() }
    }

    /// Gives the viewer what it wants of `bytes`, at most `piece` at once, as a socket does.
    fn draw(&mut self, mut bytes: &[u8], piece: usize) -> Result<(), Trouble> {
        let span = Some(Measured { start_us: 0, end_us: u64::MAX });
        while !bytes.is_empty() {
            let mut sink = Sink { account: &mut self.account, figures: &mut self.figures, span };
            let wants = self.viewer.wants();
            let (Appetite::Read(len) | Appetite::Discard(len)) = wants;
            let (some, rest) = bytes.split_at(len.min(bytes.len()).min(piece));
            match wants {
                Appetite::Read(_) => self.viewer.feed(some, &mut self.library, &mut sink)?,
                Appetite::Discard(_) => {
                    self.viewer.discarded(some.len(), &mut self.library, &mut sink);
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Which of the chunks 0 to 39 came whole.
    fn got(&self) -> Vec<u64> {
        (0..40).filter(|number| self.account.got.contains(*number)).collect()
    }
}

fn joined(chunks: &[Vec<u8>]) -> Vec<u8> {
    [HEAD, &chunks.concat()].concat()
}

#[test]
fn a_discarding_viewer_counts_every_chunk_and_reads_little() {
    for (tables, piece) in [(true, usize::MAX), (true, 1_000), (true, 13), (false, 4_096), (false, 188)] {
        let mut bench = Bench::new(false, tables);
        bench.draw(&joined(&chunks(0..30, tables)), piece).expect("good");
        let what = format!("tables {tables}, pieces of {piece}");
        assert_eq!((bench.got(), bench.account.wrong), ((0..30).collect(), 0), "{what}");
        let checked = bench.library.checked;
        assert_eq!(checked.not, 30, "{what}");
        assert!(checked.bytes_discarded > 20 * checked.bytes_read.min(70_000), "{what}: {checked:?}");
    }
}

#[test]
fn a_discarding_and_a_verifying_viewer_agree() {
    let bytes = joined(&chunks((3..12).chain(14..20), true));
    let (mut discarding, mut verifying) = (Bench::new(false, true), Bench::new(true, true));
    for bench in [&mut discarding, &mut verifying] {
        bench.draw(&bytes, 10_000).expect("good");
    }
    assert_eq!((discarding.account.wrong, discarding.account.skipped), (0, 2));
    assert_eq!(discarding.got(), (3..12).chain(14..20).collect::<Vec<_>>());
    // Who verifies knows of a chunk's beginning only by the one before (and of its end by the first packet that is due
    // later: the tables of the next picture, which stand at a chunk's end).
    assert_eq!(verifying.got(), (4..12).chain(15..20).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_begins_in_the_middle_of_a_packet_is_met() {
    for verify in [false, true] {
        let bytes = chunks(0..10, false).concat();
        let mut bench = Bench::new(verify, false);
        bench.draw(HEAD, usize::MAX).expect("good");
        bench.draw(&bytes[20_077..], 1_400).expect("good");
        assert_eq!((bench.got(), bench.account.wrong), ((1..10).collect(), 0), "verify {verify}");
    }
}

#[test]
fn an_old_servers_status_line_is_met() {
    for piece in [7, usize::MAX] {
        let mut bench = Bench::new(false, false);
        let icy = [b"ICY 200 OK\r\nicy-name: x\r\n\r\n".as_slice(), &chunks(0..5, false).concat()].concat();
        bench.draw(&icy, piece).expect("good");
        assert_eq!((bench.got(), bench.account.wrong), ((0..5).collect(), 0));
    }
}

#[test]
fn chunked_encoding_comes_off() {
    for piece in [100, 3_000, usize::MAX] {
        let mut coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in chunks(0..10, false).concat().chunks(1_777) {
            coded.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            coded.extend_from_slice(part);
            coded.extend_from_slice(b"\r\n");
        }
        let mut bench = Bench::new(false, false);
        bench.draw(&coded, piece).expect("good");
        assert_eq!((bench.got(), bench.account.wrong), ((0..10).collect(), 0));
    }
}

#[test]
fn wrong_bytes_at_a_chunks_beginning_are_found_and_the_viewer_finds_its_way_again() {
    for place in [0, 4, 100, 187] {
        let mut chunks = chunks(11..20, true);
        chunks[3][place] ^= 1;
        let mut bench = Bench::new(false, true);
        bench.draw(&joined(&chunks), 10_000).expect("good");
        assert_eq!(bench.account.wrong, 1, "byte {place}");
        assert_eq!(bench.got(), (11..14).chain(15..20).collect::<Vec<_>>(), "byte {place}");
    }
}

#[test]
fn a_byte_too_few_or_too_many_is_found() {
    for place in [500, 30_000] {
        let mut short = chunks(11..20, true);
        short[3].remove(place);
        let mut long = chunks(11..20, true);
        long[3].insert(place, 0);
        for chunks in [short, long] {
            let mut bench = Bench::new(false, true);
            bench.draw(&joined(&chunks), 10_000).expect("good");
            assert!(bench.account.wrong > 0, "byte {place}");
            assert!(bench.got().ends_with(&[16, 17, 18, 19]), "byte {place}: {:?}", bench.got());
        }
    }
}

#[test]
fn chunks_that_come_again_are_wrong() {
    let mut bench = Bench::new(false, true);
    bench.draw(&joined(&chunks([11, 12, 13, 12, 13, 14], true)), 10_000).expect("good");
    assert_eq!((bench.account.wrong, bench.got()), (1, vec![11, 12, 13, 14]));
}

#[test]
fn what_is_not_the_generators_stream_is_no_stream() {
    for (tables, verify) in [(true, false), (false, true), (false, false)] {
        let mut bench = Bench::new(verify, tables);
        let other = [HEAD, &[0x47; 200_000]].concat();
        assert!(matches!(bench.draw(&other, 10_000), Err(Trouble::Protocol(_))));
    }
    let mut bench = Bench::new(false, true);
    assert!(matches!(bench.draw(b"HTTP/1.1 503 Busy\r\n\r\n", 100), Err(Trouble::Refused(why)) if why == "503 Busy"));
}

#[test]
fn a_redirect_names_another_server() {
    let mut bench = Bench::new(true, true);
    let answer = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.2:7400/live/x.ts?hop=1\r\n\r\n";
    assert!(matches!(bench.draw(answer, usize::MAX), Err(Trouble::Refused(_))));
    assert_eq!(bench.viewer.instead(), "127.0.0.2:7400".parse().ok());
    // A refusal that happens to name a place is none.
    let mut bench = Bench::new(true, true);
    let answer = b"HTTP/1.1 404 Not Found\r\nLocation: http://127.0.0.2:7400/live/x.ts\r\n\r\n";
    assert!(matches!(bench.draw(answer, usize::MAX), Err(Trouble::Refused(_))));
    assert_eq!(bench.viewer.instead(), None);
}
