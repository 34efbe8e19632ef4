//! Real tools: ffmpeg finds nothing wrong with generated streams, and the slicer cuts what ffmpeg encodes. Each test
//! says `SKIP` when ffmpeg is missing.

mod media_kit;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use cache_core::media::packet::Packet;
use cache_core::media::{Content, GeneratorConfig, Pacer, Slice, TableMemory};
use cache_core::units::BitRate;
use media_kit::*;

/// Runs `program` with `input` on its standard input; `None`, with a word, when it is not installed.
#[allow(clippy::disallowed_methods, reason = "a thread feeds the program while its output is read")]
fn run(program: &str, args: &[&str], input: &[u8]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("SKIP: needs {program} (Debian: apt install ffmpeg)");
        return None;
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("the writer ends");
    Some(output)
}

/// ffmpeg's complaints about a transport stream.
fn complaints(stream: &[u8]) -> Option<String> {
    let output = run("ffmpeg", &["-v", "error", "-xerror", "-f", "mpegts", "-i", "-", "-f", "null", "-"], stream)?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn ffmpeg_finds_nothing_wrong_with_generated_streams() {
    for content in [
        Content::Picture { fps: 25, key_frame_every: 50 },
        Content::Picture { fps: 60, key_frame_every: 1 },
        Content::Picture { fps: 5, key_frame_every: 200 },
        Content::Sound,
    ] {
        for kbps in [50, 2_000] {
            let config = GeneratorConfig { rate: BitRate::from_kbps(kbps), content, ..GeneratorConfig::default() };
            let Some(complaints) = complaints(&generated(config, 300)) else { return };
            assert_eq!(complaints, "", "{config:?}");
        }
    }
}

#[test]
fn ffprobe_sees_the_generated_picture() {
    let content = Content::Picture { fps: 30, key_frame_every: 30 };
    let stream = generated(GeneratorConfig { content, ..GeneratorConfig::default() }, 90);
    let args = ["-v", "error", "-count_frames", "-show_entries"];
    let what = "stream=codec_name,profile,width,height,r_frame_rate,nb_read_frames:frame=key_frame";
    let Some(output) = run("ffprobe", &[&args[..], &[what, "-of", "flat", "-"]].concat(), &stream) else { return };
    let found = String::from_utf8_lossy(&output.stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    for line in [
        "stream.0.codec_name=\"h264\"",
        "stream.0.profile=\"Constrained Baseline\"",
        "stream.0.width=64",
        "stream.0.height=48",
        "stream.0.r_frame_rate=\"30/1\"",
        "stream.0.nb_read_frames=\"90\"",
    ] {
        assert!(found.contains(line), "no {line} in {found}");
    }
    let keys: Vec<bool> = found.lines().filter(|l| l.contains("key_frame")).map(|l| l.ends_with("=1")).collect();
    assert_eq!(keys.len(), 90);
    assert!(keys.iter().enumerate().all(|(i, key)| *key == (i % 30 == 0)));
}

/// Ten seconds of test picture and tone, a key frame every second.
fn encoded(video: &[&str]) -> Option<Vec<u8>> {
    let inputs = ["-v", "error", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-f", "lavfi", "-i", "sine"];
    let sound = ["-c:a", "aac", "-t", "10", "-f", "mpegts", "-"];
    let output = run("ffmpeg", &[&inputs[..], video, &sound].concat(), &[])?;
    if !output.status.success() {
        println!("SKIP: needs an ffmpeg with {video:?}: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(output.stdout)
}

/// What is true of the slices of ten seconds with a key frame every second, whatever the codec.
fn check_slices(stream: &[u8], slices: &[Slice]) {
    assert_eq!(joined(slices), stream, "no byte is lost, added or changed");
    assert!((49..=52).contains(&slices.len()), "{} slices", slices.len());
    assert!(durations(slices)[..slices.len() - 1].iter().all(|ms| *ms == 200));
    let keys: Vec<usize> = (0..slices.len()).filter(|i| slices[*i].key_frame.is_some()).collect();
    assert_eq!(keys.len(), 10, "{keys:?}");
    for slice in keys.iter().map(|key| &slices[*key]) {
        let at = slice.key_frame.expect("it is one") as usize;
        let packet = Packet(slice.stream_bytes()[at..].first_chunk().expect("a packet"));
        assert!(packet.starts_unit() && packet.adaptation().random_access, "ffmpeg marks it as well");
        let mut memory = TableMemory::new();
        memory.push_all(&slice.payload[..slice.tables_len.into()]);
        assert_eq!(memory.packets().len(), usize::from(slice.tables_len));
        assert_eq!(memory.program().map(|program| program.streams.len()), Some(2));
    }
    // Who joins in the middle: tables, then from the key frame on.
    let join = keys[4];
    let slice = &slices[join];
    let from = slice.key_frame.expect("it is one") as usize;
    let mut joined_late = slice.payload[..slice.tables_len.into()].to_vec();
    joined_late.extend_from_slice(&slice.stream_bytes()[from..]);
    joined_late.extend(joined(&slices[join + 1..]));
    assert_eq!(complaints(&joined_late).as_deref(), Some(""));
}

#[test]
fn h264_and_aac_are_cut_and_can_be_joined() {
    let Some(stream) = encoded(&["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"]) else { return };
    check_slices(&stream, &slice(&stream));
    let due = Pacer::new().due(&stream).expect("a transport stream").millis();
    assert!((9_500..10_100).contains(&due), "ten seconds are sent in {due} ms");
}

#[test]
fn hevc_and_aac_are_cut_and_can_be_joined() {
    let video = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=25:min-keyint=25:log-level=none"];
    let Some(stream) = encoded(&video) else { return };
    check_slices(&stream, &slice(&stream));
}

#[test]
fn mpeg2_and_aac_are_cut_and_can_be_joined() {
    let Some(stream) = encoded(&["-c:v", "mpeg2video", "-g", "25", "-b:v", "1M"]) else { return };
    check_slices(&stream, &slice(&stream));
}

#[test]
fn the_generated_picture_decodes_to_its_bars() {
    const FRAME: usize = 64 * 48 * 3 / 2;
    let content = Content::Picture { fps: 25, key_frame_every: 5 };
    let stream = generated(GeneratorConfig { content, ..GeneratorConfig::default() }, 15);
    let args = ["-v", "error", "-f", "mpegts", "-i", "-", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"];
    let Some(output) = run("ffmpeg", &args, &stream) else { return };
    let frames: Vec<&[u8]> = output.stdout.chunks(FRAME).collect();
    assert_eq!(frames.len(), 15);
    for (i, frame) in frames.iter().enumerate() {
        assert!(*frame == frames[i / 5 * 5], "frame {i} repeats its key frame");
        let bar = |column: usize, line: usize| 40 + ((column + line + i / 5 * 8) % 32) as u8 * 5;
        assert!((0..48 * 64).all(|at| frame[at] == bar(at % 64, at / 64)), "frame {i} shows its bars");
    }
}
