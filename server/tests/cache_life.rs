//! How a cache server starts, fails to start, and ends.

mod cache_rig;

use std::io::Read;
use std::net::TcpListener;
use std::process::Command;

use cache_core::time::Span;
use cache_rig::{Cache, transport_stream, until};
use rustix::process::Signal;

#[test]
fn it_drains_at_sigterm_and_keeps_its_ring_unless_it_is_told_not_to() {
    let listen = || format!("listen = \"{}\"\n", cache_rig::free_port("127.0.0.1"));
    for (extra, keeps) in [
        (listen(), true),
        (listen() + "keep_ring = false\n", false),
        // A port that the kernel chooses: the next process has another.
        ("listen = \"127.0.0.1:0\"\n".to_owned(), false),
    ] {
        let mut cache = Cache::start(&extra);
        cache.put_all("/live/news", &transport_stream(1, Span::from_secs(1)));
        assert!(cache.slab().exists(), "an observer can open the ring");
        cache.signal(Signal::TERM);
        assert_eq!(cache.wait().code(), Some(0));
        assert_eq!(cache.slab().exists(), keeps, "{extra:?}");
    }
}

/// A stream that is over is kept for a while. Who comes then has not heard that it ended.
#[test]
fn who_comes_after_the_end_gets_the_end() {
    let cache = Cache::start("stall_forget_s = 1\n");
    cache.put_all("/live/news", &transport_stream(1, Span::from_secs(2)));
    until("it is over", || (cache.stream("news")["state"] == "ended").then_some(()));
    for _ in 0..2 {
        let mut viewer = cache.request("GET /live/news.ts HTTP/1.0\r\n\r\n");
        assert!(cache_rig::head(&mut viewer).starts_with("HTTP/1.1 200"));
        let mut played = Vec::new();
        assert!(viewer.read_to_end(&mut played).is_ok(), "the end comes behind what is kept");
        assert!(!played.is_empty() && played.len().is_multiple_of(188), "{} bytes", played.len());
    }
}

#[test]
fn it_stops_at_sigint_for_good_though_a_publisher_is_sending() {
    let mut cache = Cache::start(&format!("listen = \"{}\"\n", cache_rig::free_port("127.0.0.1")));
    let mut put = cache.put("/live/news");
    cache_rig::send_chunk(&mut put, &transport_stream(1, Span::from_secs(1)));
    cache.signal(Signal::INT);
    assert_eq!(cache.wait().code(), Some(0));
    assert!(!cache.slab().exists(), "the memory is given back");
}

#[test]
fn a_memfd_is_no_contradiction_to_a_kept_ring() {
    let mut cache = Cache::start("slab = \"memfd\"\nkeep_ring = true\n");
    cache.signal(Signal::TERM);
    assert_eq!(cache.wait().code(), Some(0));
}

/// Descriptors suffice for the listeners and the ring, and not for the shards.
#[test]
fn a_start_that_fails_after_the_ring_was_made_leaves_no_file() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let slab = directory.path().join("ring");
    let config = directory.path().join("cache.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nmemory_mib = 64\nshards = 200\nconnections_max = 10\nslab = \"{}\"\n",
        slab.display()
    );
    std::fs::write(&config, text).expect("written");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 300; exec \"$0\" --log info -c \"$1\"", env!("CARGO_BIN_EXE_weircast-cache")]);
    let output = shell.arg(&config).output().expect("ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("memory for chunks"), "it came to the shards: {said}");
    assert!(!slab.exists(), "nobody was served from it");
}

/// Exit code 1, one line with all of `words`, and no ready line.
fn refuses(extra: &str, words: &[&str]) {
    let (status, said) = Cache::refused(extra);
    assert_eq!(status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word:?} is not in {last:?}");
    }
}

#[test]
fn a_port_in_use_is_said_with_the_cure() {
    let other = TcpListener::bind("127.0.0.1:0").expect("bound");
    let addr = other.local_addr().expect("bound");
    refuses(&format!("listen = \"{addr}\"\n"), &["listen", &addr.to_string(), "ss -lnp"]);
    let cache = Cache::start("");
    refuses(&format!("listen = \"{}\"\n", cache.listen), &["listen", "another"]);
}

#[test]
fn too_little_memory_is_said_in_bytes() {
    refuses("memory_mib = 1048576\n", &["memory_mib", "bytes are missing"]);
}

#[test]
fn a_typo_in_the_configuration_is_said_with_its_line() {
    refuses("lisen = \"127.0.0.1:0\"\n", &["cache.toml:", "lisen", "unknown field"]);
    refuses("memory_mib = 1\n", &["memory_mib", "range"]);
    refuses("slab = \"here\"\n", &["slab", "absolute path"]);
}

#[test]
fn a_second_signal_does_not_wait_for_the_drain() {
    let mut cache = Cache::start("keep_ring = false\n");
    cache.put_all("/live/news", &transport_stream(1, Span::from_secs(1)));
    // A viewer that never reads and never leaves.
    let _viewer = cache.request("GET /live/news.ts HTTP/1.1\r\n\r\n");
    until("it is watching", || (cache.stats()["viewers"] == 1).then_some(()));
    cache.signal(Signal::TERM);
    until("it drains", || cache.log().contains("draining").then_some(()));
    cache.signal(Signal::TERM);
    let code = cache.wait().code();
    assert!(code == Some(4) || code == Some(0), "cut short, or over already: {code:?}");
    assert!(!cache.slab().exists());
}

#[test]
fn an_interrupt_is_for_good_whatever_comes_before_or_after_it() {
    for both in [[Signal::TERM, Signal::INT], [Signal::INT, Signal::TERM]] {
        let mut cache = Cache::start(&format!("listen = \"{}\"\n", cache_rig::free_port("127.0.0.1")));
        // It finds them together.
        cache.signal(Signal::STOP);
        both.iter().for_each(|signal| cache.signal(*signal));
        cache.signal(Signal::CONT);
        cache.wait();
        assert!(!cache.slab().exists(), "{both:?}");
    }
}

#[test]
fn check_looks_and_starts_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |text: &str| {
        let config = directory.path().join("cache.toml");
        std::fs::write(&config, text).expect("written");
        let program = env!("CARGO_BIN_EXE_weircast-cache");
        let output = Command::new(program).arg("check").arg("-c").arg(&config).output().expect("ran");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check("listen = \"127.0.0.1:0\"\nmemory_mib = 8\n");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check("listen = \"127.0.0.1:0\"\nmemory_mib = 16777216\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("FAILED") && said.contains("missing"), "{said}");
    let (code, said) = check("listen = \"127.0.0.1:0\"\nmemory_mib = 8\nslab = \"/proc/not-memory.ring\"\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("slab") && said.contains("/dev/shm"), "{said}");
    let (code, said) = check("listen = \"127.0.0.1:0\"\nmemory_mib = 8\ncongestion = \"no-such\"\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("congestion: the kernel does not take \"no-such\""), "{said}");
    assert_eq!(check("typo = 1\n").0, Some(1));
}
