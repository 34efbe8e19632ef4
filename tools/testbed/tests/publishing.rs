//! Who may publish a name, and what a stream is when its publisher comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Result, ensure};
use weircast_testbed::media::is_live;
use weircast_testbed::native::CacheLink;
use weircast_testbed::wait::HANG;
use weircast_testbed::{Cluster, eventually, http};

use cache_core::media::{Generator, GeneratorConfig};

/// A generated transport stream of so many chunks (of five pictures).
fn transport_stream(chunks: usize) -> Vec<u8> {
    let mut generator = Generator::new(GeneratorConfig::default());
    let mut bytes = Vec::new();
    for _ in 0..5 * chunks {
        generator.next_frame(&mut bytes);
    }
    bytes
}

/// An upload that stays open until it is dropped.
struct Upload(TcpStream);

impl Upload {
    fn begin(cache: SocketAddr, target: &str) -> Result<Upload> {
        let mut socket = TcpStream::connect(cache)?;
        write!(socket, "PUT {target} HTTP/1.1\r\nHost: {cache}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        Ok(Upload(socket))
    }

    /// What the cache has said so far.
    fn answer(&mut self) -> String {
        let mut answer = [0; 1024];
        let got = self.0.set_nonblocking(true).and_then(|()| self.0.read(&mut answer)).unwrap_or(0);
        String::from_utf8_lossy(&answer[..got]).into_owned()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        write!(self.0, "{:x}\r\n", bytes.len())?;
        self.0.write_all(bytes)?;
        Ok(self.0.write_all(b"\r\n")?)
    }
}

/// Uploads, again while the cache refuses, until `taken` sees it: a name is its former publisher's until the index has
/// heard that he is gone.
fn upload_until<T>(
    cache: SocketAddr,
    target: &str,
    media: &[u8],
    taken: impl Fn() -> Option<T>,
) -> Result<(Upload, T)> {
    eventually("an upload that is taken", HANG, || {
        let mut upload = Upload::begin(cache, target).ok()?;
        upload.send(media).ok()?;
        let outcome = eventually("an answer, or the upload's stream", HANG, || {
            let taken = taken();
            (taken.is_some() || !upload.answer().is_empty()).then_some(taken)
        });
        Some((upload, outcome.ok()??))
    })
}

/// The status of an upload that the cache answers before it is over.
fn upload_status(cache: SocketAddr, target: &str, extra: &str, bytes: &[u8]) -> Result<u16> {
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: {cache}\r\n{extra}Content-Length: {}\r\n\r\n",
        bytes.len().max(1 << 20)
    );
    Ok(http::request(cache, &head, bytes)?.status)
}

fn one_domain() -> Result<Cluster> {
    Cluster::builder().domain().start()
}

#[test]
fn a_publisher_that_comes_back_goes_on_at_the_next_sequence() -> Result<()> {
    let cluster = one_domain()?;
    let cache = cluster.cache(0).listen;
    let media = transport_stream(30);
    let mut first = Upload::begin(cache, "/live/news")?;
    first.send(&media)?;
    eventually("the first publisher's stream", HANG, || is_live(&cluster, 0, "news").then_some(()))?;
    // Lost, not ended.
    drop(first);
    // The cache has noticed, and kept what had come.
    eventually("the stream to be without publisher", HANG, || {
        let stats = cluster.cache_stats(0).ok()?;
        (stats["streams"][0]["state"] == "stalled").then_some(())
    })?;
    let before = CacheLink::open(cache, "news")?.info;

    let newer = || {
        let info = CacheLink::open(cache, "news").ok()?.info;
        (info.head > before.head).then_some(info)
    };
    let (_upload, after) = upload_until(cache, "/live/news", &media, newer)?;
    ensure!(after.epoch > before.epoch, "{before:?} {after:?}");
    let mut link = CacheLink::open(cache, "news")?;
    // No number is left out, and none is used twice.
    let mut epoch = before.epoch;
    for seq in before.head.get()..=after.head.get() {
        let (header, _) = link.chunk(seq)?;
        ensure!(header.seq.get() == seq && header.epoch >= epoch, "{header:?}");
        epoch = header.epoch;
    }
    ensure!(epoch == after.epoch, "the last chunk is the new publisher's");
    Ok(())
}

#[test]
fn a_second_publisher_of_a_live_name_is_refused() -> Result<()> {
    let cluster = one_domain()?;
    let cache = cluster.cache(0).listen;
    let media = transport_stream(30);
    let mut first = Upload::begin(cache, "/live/news")?;
    first.send(&media)?;
    eventually("the first publisher's stream", HANG, || is_live(&cluster, 0, "news").then_some(()))?;
    ensure!(upload_status(cache, "/live/news", "", &media)? == 409);
    // The first one is not disturbed.
    first.send(&media)?;
    ensure!(is_live(&cluster, 0, "news"));
    Ok(())
}

#[test]
fn a_secret_name_is_published_with_its_secret_only() -> Result<()> {
    let cluster = Cluster::builder().domain().publish_secret("live-*", "open sesame").start()?;
    let cache = cluster.cache(0).listen;
    let media = transport_stream(30);
    for (target, extra) in
        [("/live/live-1", ""), ("/live/live-1?key=wrong", ""), ("/live/live-1", "Authorization: Bearer wrong\r\n")]
    {
        let status = upload_status(cache, target, extra, &media)?;
        ensure!(status == 403, "{target} {extra}: {status}");
    }
    let mut rightful = Upload::begin(cache, "/live/live-1?key=open%20sesame")?;
    rightful.send(&media)?;
    eventually("the rightful publisher's stream", HANG, || is_live(&cluster, 0, "live-1").then_some(()))?;
    // A name that the pattern does not cover is open.
    let mut open = Upload::begin(cache, "/live/open-1")?;
    open.send(&media)?;
    eventually("an open name's stream", HANG, || is_live(&cluster, 0, "open-1").then_some(()))
}

#[test]
fn what_is_not_a_transport_stream_is_refused() -> Result<()> {
    let cluster = one_domain()?;
    let cache = cluster.cache(0).listen;
    let prose = b"This is no transport stream. ".repeat(10_000);
    let status = upload_status(cache, "/live/news", "", &prose)?;
    ensure!((400..500).contains(&status), "{status}");
    // The name is free for others.
    let live = || is_live(&cluster, 0, "news").then_some(());
    upload_until(cache, "/live/news", &transport_stream(30), live).map(drop)
}
