//! How a cache server starts, fails to start, and ends.

mod cache_rig;

use std::net::TcpListener;

use cache_core::time::Span;
use cache_rig::{Cache, transport_stream};
use rustix::process::Signal;

#[test]
fn it_drains_at_sigterm_and_leaves_nothing() {
    let mut cache = Cache::start("");
    cache.put_all("/live/news", &transport_stream(1, Span::from_secs(1)));
    assert!(cache.slab().exists(), "an observer can open the ring");
    cache.signal(Signal::TERM);
    assert_eq!(cache.wait().code(), Some(0));
    assert!(!cache.slab().exists());
}

#[test]
fn it_stops_at_sigint_though_a_publisher_is_sending() {
    let mut cache = Cache::start("");
    let mut put = cache.put("/live/news");
    cache_rig::send_chunk(&mut put, &transport_stream(1, Span::from_secs(1)));
    cache.signal(Signal::INT);
    assert_eq!(cache.wait().code(), Some(0));
    assert!(!cache.slab().exists());
}

#[test]
fn a_file_that_a_killed_cache_left_is_replaced() {
    let mut first = Cache::start("");
    let (listen, slab) = (first.listen, first.slab());
    first.signal(Signal::KILL);
    first.wait();
    assert!(slab.exists(), "kill -9 leaves it");
    let second = Cache::start(&format!("listen = \"{listen}\"\n"));
    assert_eq!(second.put_all("/live/a", &transport_stream(1, Span::from_secs(1))).0, 200);
    assert_eq!(second.slab(), slab);
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
