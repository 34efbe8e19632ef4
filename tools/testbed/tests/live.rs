//! A live stream end to end: ffmpeg encodes and uploads to the cache of domain A; whoever plays it, wherever, plays
//! exactly what was published from where he joined on.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weircast_testbed::ffmpeg::{codecs, decodes_cleanly, ffmpeg_or_skip};
use weircast_testbed::media::{KeptStream, is_live, stretch_of};
use weircast_testbed::wait::HANG;
use weircast_testbed::{Cluster, PeerProcess, eventually, http};

const STREAM: &str = "news";
const A: usize = 0;
const B: usize = 1;

/// A viewer that has played some seconds is well inside the stream.
const SOME_BYTES: u64 = 200_000;

fn two_domains() -> Result<Cluster> {
    Cluster::builder().domain().domain().start()
}

/// Waits until the file holds the stream up to its end, and checks it.
fn played_to_the_end(published: &[u8], file: &Path) -> Result<()> {
    let played = || std::fs::read(file).unwrap_or_default();
    let whole = eventually("the stream's end in the output", HANG, || {
        let played = played();
        stretch_of(published, &played).is_ok_and(|stretch| stretch.end == published.len()).then_some(())
    });
    if let Err(error) = whole {
        let stretch = stretch_of(published, &played())?;
        return Err(error).context(format!("{stretch:?} of {} bytes were played", published.len()));
    }
    ensure!(codecs(file)? == ["aac", "h264"], "{:?}", codecs(file)?);
    decodes_cleanly(file)
}

#[test]
fn a_viewer_in_another_domain_plays_exactly_what_was_published() -> Result<()> {
    let Some(ffmpeg) = ffmpeg_or_skip() else { return Ok(()) };
    let cluster = two_domains()?;
    let mut stream = KeptStream::start(&cluster, &ffmpeg, A, STREAM, 15)?;
    let viewer = cluster.watch(B, STREAM).to_file().start()?;
    let published = stream.finish()?;
    let output = viewer.output.clone().context("it plays to a file")?;
    played_to_the_end(&published, &output)?;
    let report = viewer.finish(HANG)?;
    ensure!(report.chunks_wrong == 0 && report.chunks_verified > 0, "{report:?}");
    Ok(())
}

#[test]
fn a_player_without_a_peer_plays_exactly_what_was_published() -> Result<()> {
    let Some(ffmpeg) = ffmpeg_or_skip() else { return Ok(()) };
    let cluster = two_domains()?;
    let mut stream = KeptStream::start(&cluster, &ffmpeg, A, STREAM, 10)?;
    // From the cache that the publisher uploads to, and from the one that has to fetch the stream first. A stream
    // whose publisher has gone may go on: the players are not dismissed at its end, so their files are looked at.
    let known_there = || is_live(&cluster, B, STREAM).then_some(());
    eventually("the other domain to have heard of the stream", HANG, known_there)?;
    let path = format!("/live/{STREAM}.ts");
    let players = [(A, "a.ts"), (B, "b.ts")].map(|(domain, name)| {
        let (cache, path, file) = (cluster.cache(domain).listen, path.clone(), cluster.file(name));
        let to = file.clone();
        (file, std::thread::spawn(move || play(cache, &path, &to)))
    });
    let published = stream.finish()?;
    for (file, player) in players {
        ensure!(!player.is_finished(), "{}: {:?}", file.display(), player.join());
        played_to_the_end(&published, &file)?;
    }
    Ok(())
}

/// Plays to a file until the connection ends.
fn play(cache: SocketAddr, path: &str, file: &Path) -> Result<()> {
    let mut file = std::fs::File::create(file)?;
    let mut player = http::download(cache, path)?;
    ensure!(player.status == 200, "the cache answers {}", player.status);
    let mut some = Vec::new();
    while player.read_some(&mut some)? {
        file.write_all(&some)?;
        some.clear();
    }
    Ok(())
}

#[test]
fn twenty_viewers_of_which_some_leave_and_some_are_killed() -> Result<()> {
    let Some(ffmpeg) = ffmpeg_or_skip() else { return Ok(()) };
    let cluster = two_domains()?;
    let mut stream = KeptStream::start(&cluster, &ffmpeg, A, STREAM, 30)?;
    let mut viewers: Vec<PeerProcess> =
        (0..20).map(|at| cluster.watch(at % 2, STREAM).to_file().start()).collect::<Result<_>>()?;
    for viewer in &viewers {
        let well_inside = || (viewer.output_len() > SOME_BYTES).then_some(());
        eventually("a viewer well inside the stream", HANG, well_inside).context(viewer.process.name().to_owned())?;
    }
    // Of both domains: four leave with a word, four without.
    let leaving = viewers.split_off(16);
    for viewer in viewers.split_off(12) {
        drop(viewer);
    }
    for viewer in leaving {
        let report = viewer.finish(HANG)?;
        ensure!(report.chunks_wrong == 0, "{report:?}");
    }
    let published = stream.finish()?;
    for viewer in &viewers {
        let output = viewer.output.clone().context("it plays to a file")?;
        played_to_the_end(&published, &output).context(viewer.process.name().to_owned())?;
    }
    for (at, viewer) in viewers.into_iter().enumerate() {
        let report = viewer.finish(HANG)?;
        ensure!(report.chunks_wrong == 0, "{report:?}");
        for source in report.bytes_by_source.keys() {
            let domain = cluster.domain_of(source.ip());
            ensure!(domain.is_none_or(|domain| domain == at % 2), "{source} is a peer of another domain");
        }
    }
    Ok(())
}

#[test]
fn a_viewers_player_is_served_over_http() -> Result<()> {
    let Some(ffmpeg) = ffmpeg_or_skip() else { return Ok(()) };
    let cluster = two_domains()?;
    let mut stream = KeptStream::start(&cluster, &ffmpeg, A, STREAM, 15)?;
    let mut viewer = cluster.watch(B, STREAM).args(&["--http", "127.0.0.1:0"]).start()?;
    let url = viewer.wait_ready(HANG)?.http.context("it plays out over HTTP")?;
    let (address, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).context("a URL")?;
    let mut player = http::download(address.parse()?, &format!("/{path}"))?;
    ensure!(player.status == 200, "the viewer answers {}", player.status);
    let mut played = Vec::new();
    while (played.len() as u64) < SOME_BYTES {
        ensure!(player.read_some(&mut played)?, "the viewer ends the play-out");
    }
    let published = stream.finish()?;
    stretch_of(&published, &played[..played.len() / 188 * 188])?;
    viewer.process.terminate();
    let status = viewer.process.wait_exit(Duration::from_secs(30))?;
    ensure!(status.success(), "{status}");
    Ok(())
}
