//! The media tools of the host.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The path of a program of the host, if it is there.
pub fn host_program(name: &str) -> Option<PathBuf> {
    let dirs = std::env::var_os("PATH")?;
    std::env::split_paths(&dirs).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// ffmpeg, or a line that says why the test is not run.
pub fn ffmpeg_or_skip() -> Option<PathBuf> {
    let path = host_program("ffmpeg").filter(|_| host_program("ffprobe").is_some());
    if path.is_none() {
        println!("SKIP: needs ffmpeg");
    }
    path
}

/// A picture and a tone to encode.
#[derive(Clone, Copy, Debug)]
pub struct TestPicture {
    /// For example `1280x720`.
    pub size: &'static str,
    /// Video bit rate in kbit/s; audio adds 128.
    pub video_kbps: u32,
    /// Pictures between key frames, at 25 per second.
    pub key_frame_every: u32,
}

impl TestPicture {
    /// About 2 Mbit/s, a key frame each second.
    pub const DEMO: TestPicture = TestPicture { size: "1280x720", video_kbps: 1_900, key_frame_every: 25 };

    /// Small enough that many tests encode at once, a key frame each second.
    pub const SMALL: TestPicture = TestPicture { size: "320x180", video_kbps: 500, key_frame_every: 25 };

    /// ffmpeg's arguments up to the output: test picture and tone in real time as H.264 and AAC, `seconds` long or
    /// without end.
    pub fn arguments(&self, seconds: Option<u32>) -> Vec<String> {
        let kbps = self.video_kbps;
        let key = self.key_frame_every;
        let mut text = format!(
            "-hide_banner -nostdin -v error -re -f lavfi -i testsrc2=size={}:rate=25 \
             -re -f lavfi -i sine=frequency=440:sample_rate=48000 -map 0:v -map 1:a \
             -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -threads 1 \
             -g {key} -keyint_min {key} -sc_threshold 0 -b:v {kbps}k -maxrate {kbps}k -bufsize {}k \
             -c:a aac -b:a 128k -ac 2",
            self.size,
            kbps / 2
        );
        if let Some(seconds) = seconds {
            text.push_str(&format!(" -t {seconds}"));
        }
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// The same, uploaded as MPEG-TS to `url` by PUT.
    pub fn put_to(&self, url: &str, seconds: Option<u32>) -> Vec<String> {
        let mut args = self.arguments(seconds);
        args.extend(["-f", "mpegts", "-method", "PUT", url].map(str::to_owned));
        args
    }

    /// The same, uploaded to `url` and kept in `file`, byte for byte alike.
    pub fn put_and_keep(&self, url: &str, file: &Path, seconds: Option<u32>) -> Vec<String> {
        let mut args = self.arguments(seconds);
        // The copy is flushed packet by packet, so that it is never behind the upload for long.
        let both = format!("[f=mpegts:flush_packets=1]{}|[f=mpegts:method=PUT]{url}", file.display());
        args.extend(["-f".to_owned(), "tee".to_owned(), both]);
        args
    }
}

/// Decodes the whole file; an error when ffmpeg finds anything wrong in it.
pub fn decodes_cleanly(file: &Path) -> Result<()> {
    let ffmpeg = host_program("ffmpeg").context("ffmpeg is not in PATH")?;
    let output = Command::new(ffmpeg)
        .args(["-hide_banner", "-nostdin", "-v", "error", "-i"])
        .arg(file)
        .args(["-f", "null", "-"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.trim().is_empty() {
        bail!("ffmpeg finds errors in {}: {said}", file.display());
    }
    Ok(())
}

/// The codecs of a file's streams, as ffprobe names them, sorted.
pub fn codecs(file: &Path) -> Result<Vec<String>> {
    let ffprobe = host_program("ffprobe").context("ffprobe is not in PATH")?;
    let output = Command::new(ffprobe)
        .args(["-v", "error", "-show_entries", "stream=codec_name", "-of", "csv=p=0"])
        .arg(file)
        .output()?;
    if !output.status.success() || !output.stderr.is_empty() {
        bail!("ffprobe finds errors in {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
    // ffprobe lists the streams of a transport stream twice: by programme and by themselves.
    let mut names: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(|name| name.trim_matches(',').to_owned())
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}
