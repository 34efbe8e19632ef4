//! Hosts of their own: they reach each other at the rates that were asked for, and leave nothing behind.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use weircast_testbed::namespaces::shape::Shape;
use weircast_testbed::namespaces::{Host, HostPlan, Network, permitted_or_skip, probe};
use weircast_testbed::wait::HANG;
use weircast_testbed::workdir::Workdir;
use weircast_testbed::{Process, Programs};

fn host(last: u8, up: Option<Shape>, down: Option<Shape>) -> HostPlan {
    HostPlan { addr: Ipv4Addr::new(10, 0, 0, last), up, down }
}

/// Names of namespaces that this process has made.
fn ours() -> Vec<String> {
    let prefix = format!("weircast-{}.", std::process::id());
    let entries = std::fs::read_dir("/run/netns").map(|all| all.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let names = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&prefix)).collect()
}

#[test]
fn what_is_sent_passes_at_the_rate_of_the_slower_end() {
    if !permitted_or_skip() {
        return;
    }
    let (slow, fast) = (Some(Shape::kbps(2_000)), Some(Shape::kbps(40_000)));
    let net = Network::new(&[host(1, slow, None), host(2, None, fast), host(3, None, None)]).expect("hosts");
    let [a, b, c] = net.hosts() else { panic!("three hosts") };
    for (from, to, bytes, kbps) in [(a, c, 200_000, 2_000.0), (c, b, 2_000_000, 40_000.0)] {
        let rate = probe::tcp_bps(from, to, bytes).expect("a transfer") / 1e3 / kbps;
        // Whole segments of up to 64 KB that do not fit the bucket are cut, not dropped.
        assert!((0.8..1.0).contains(&rate), "{rate} of {kbps} kbit/s");
    }
    a.set_up_rate(None).expect("a change");
    let rate = probe::tcp_bps(a, c, 4_000_000).expect("a transfer") / 1e3;
    assert!(rate > 4_000.0, "{rate} kbit/s without a limit");
}

#[test]
fn who_is_cut_off_hears_nothing_until_healed() {
    if !permitted_or_skip() {
        return;
    }
    let net = Network::new(&[host(1, Some(Shape::kbps(9_000)), None), host(2, None, None)]).expect("hosts");
    let socket = |host: &Host| {
        let at = SocketAddr::from((host.addr, 0));
        let socket = host.within(|| UdpSocket::bind(at)).expect("entered").expect("a socket");
        socket.set_read_timeout(Some(HANG)).expect("a timeout");
        socket
    };
    let [a, b] = net.hosts() else { panic!("two hosts") };
    let (near, far) = (socket(a), socket(b));
    let (here, there) = (near.local_addr().expect("bound"), far.local_addr().expect("bound"));
    let mut datagram = [0; 8];
    for (host, word) in [(a, b"sender  "), (b, b"receiver")] {
        host.cut().expect("cut");
        // Whether it is told does not matter here: some kernels report a link without carrier.
        let _ = near.send_to(b"lost    ", there);
        let _ = far.send_to(b"lost    ", here);
        for socket in [&near, &far] {
            socket.set_nonblocking(true).expect("set");
            assert!(socket.recv(&mut datagram).is_err(), "nothing comes through");
            socket.set_nonblocking(false).expect("set");
        }
        host.heal().expect("healed");
        for (from, to, at) in [(&near, &far, there), (&far, &near, here)] {
            from.send_to(word, at).expect("sent");
            // What the kernel kept while it asked for the neighbour's address comes first.
            while to.recv(&mut datagram).expect("a datagram") == 8 && &datagram == b"lost    " {}
            assert_eq!(&datagram, word);
        }
    }
}

#[test]
fn programs_run_inside_and_end_with_their_owner() {
    if !permitted_or_skip() {
        return;
    }
    let net = Network::new(&[host(1, None, None)]).expect("a host");
    let dir = Arc::new(Workdir::new().expect("a directory"));
    let programs = Programs::find().expect("programs");
    let script = r#"echo "ready {\"net\":\"$(readlink /proc/self/ns/net)\"}"; exec tail -f /dev/null"#;
    let args = ["-c".to_owned(), script.to_owned()];
    let mut shell: Process =
        net.hosts()[0].spawn(&dir, &programs, "shell", Path::new("/bin/sh"), &args).expect("a shell");
    let inside = shell.wait_ready(HANG).expect("ready")["net"].as_str().expect("a name").to_owned();
    let own = std::fs::read_link("/proc/self/ns/net").expect("a name").display().to_string();
    assert!(inside.starts_with("net:") && inside != own, "{inside} inside, {own} here");
    assert!(shell.is_running(), "the process that was started is the shell itself");
}

#[test]
fn nothing_is_left_after_a_drop_a_panic_or_an_error() {
    if !permitted_or_skip() {
        return;
    }
    let before = ours().len();
    let net = Network::new(&[host(1, None, None), host(2, None, None)]).expect("hosts");
    assert_eq!(ours().len(), before + 3, "two hosts and the router");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _net = net;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(ours().len(), before);
    // Refused when half is made: no bucket holds what passes at such a rate.
    let absurd = Shape::kbps(1_000_000_000_000);
    let error = Network::new(&[host(1, None, None), host(2, Some(absurd), None)]).expect_err("an absurd rate");
    assert!(format!("{error:#}").contains("tc refuses"), "{error:#}");
    assert_eq!(ours().len(), before);
    let twice = Network::new(&[host(1, None, None), host(1, None, None)]).expect_err("one address for two");
    assert!(twice.to_string().contains("10.0.0.1"), "{twice}");
}

#[test]
fn what_a_killed_owner_left_is_removed() {
    if !permitted_or_skip() {
        return;
    }
    // No process has an id beyond 4194304.
    let left = "weircast-4194305.1-0-h0";
    let made = Command::new("ip").args(["netns", "add", left]).status().expect("ip");
    assert!(made.success());
    drop(Network::new(&[host(1, None, None)]).expect("a host"));
    assert!(!Path::new("/run/netns").join(left).exists());
}
