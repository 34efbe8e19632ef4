//! The real tools: ffmpeg publishes, ffprobe plays.

mod cache_rig;

use std::process::{Command, Stdio};

use cache_rig::{Cache, until};

/// Whether the tool is there; says so when it is not.
fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIP: needs {tool}");
    }
    found
}

fn ffmpeg(cache: &Cache, seconds: u32, method: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"])
        .args(["-f", "lavfi", "-i", "sine", "-t", &seconds.to_string()])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-c:a", "aac", "-f", "mpegts"])
        .args(["-method", method, &format!("http://{}/live/test", cache.listen)])
        .stderr(Stdio::piped());
    command
}

#[test]
fn what_ffmpeg_puts_ffprobe_plays_without_a_fault() {
    if !has("ffmpeg") || !has("ffprobe") {
        return;
    }
    let cache = Cache::start("http_back_chunks = 255\n");
    for method in ["PUT", "POST"] {
        let published = ffmpeg(&cache, 4, method).output().expect("ran");
        let said = String::from_utf8_lossy(&published.stderr);
        assert!(published.status.success() && said.is_empty(), "{method}: {said}");
    }
    let stream = cache.stream("test");
    assert!(stream["head"].as_u64() >= Some(30), "{stream}");
    let url = format!("http://{}/live/test.ts", cache.listen);
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-read_intervals", "%+2", "-show_entries", "stream=codec_name", "-of", "csv=p=0", &url])
        .output()
        .expect("ran");
    let (found, said) = (String::from_utf8_lossy(&probe.stdout), String::from_utf8_lossy(&probe.stderr));
    assert!(found.contains("h264") && found.contains("aac"), "{found} {said}");
    assert!(said.is_empty(), "{said}");
}

#[test]
fn ffmpeg_that_is_killed_leaves_a_stream_that_can_go_on() {
    if !has("ffmpeg") {
        return;
    }
    let cache = Cache::start("");
    let mut publisher = ffmpeg(&cache, 600, "PUT");
    publisher.arg("-y");
    let mut child = publisher.spawn().expect("started");
    until("chunks come", || cache.stream("test")["head"].as_u64().filter(|head| *head > 5));
    child.kill().expect("killed");
    child.wait().expect("gone");
    until("it is stalled", || (cache.stream("test")["state"] == "stalled").then_some(()));
    let head = cache.stream("test")["head"].as_u64().expect("a number");
    assert!(ffmpeg(&cache, 1, "PUT").output().expect("ran").status.success());
    let after = cache.stream("test");
    assert!(after["head"].as_u64() > Some(head) && after["missing"] == 0, "{after}");
}
