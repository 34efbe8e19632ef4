//! Descriptors run out. Alone in its file: the limit is the process's.

mod shard_support;

use cache_core::wire::exchange::Role;
use cache_core::wire::{Frame, RefusalReason, Refused};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shard_support::*;
use socket2::{Domain, Socket, Type};

#[test]
fn accepting_pauses_when_descriptors_run_out_and_goes_on_when_they_are_back() {
    // Before the shard starts: an accept under way keeps the limit that it began with.
    let limit = Rlimit { current: Some(100), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).expect("a lower limit is allowed");
    let mut stage = Stage::new(|_| ());
    stage.publish(1, JOIN);
    let (mut viewer, info) = Client::watching(stage.addr);
    viewer.subscribe(info.stream, 1);
    assert_eq!(viewer.chunk(), 1);

    let socket = |_| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor");
    let sockets: Vec<_> = (0..4).map(socket).collect();
    let hoard: Vec<_> = std::iter::from_fn(|| rustix::io::dup(&viewer.0).ok()).collect();
    for socket in &sockets {
        socket.connect(&stage.addr.into()).expect("the kernel takes it");
    }
    let counters = stage.shard.counters.clone();
    until("accepting pauses", || counters.accept_pauses.get() > 0);
    stage.publish(2, PLAIN);
    assert_eq!(viewer.chunk(), 2, "those who are there are served");

    drop(hoard);
    for socket in sockets {
        let mut client = Client(socket.into());
        client.send(hello(Role::Viewer));
        let said = client.frame();
        let full = |no: &Refused| no.reason == RefusalReason::Full;
        assert!(matches!(&said, Frame::Welcome(_)) || matches!(&said, Frame::Refused(no) if full(no)), "{said:?}");
    }
    assert!(counters.accept_pauses.get() < 100, "it does not spin");
    until("joins are taken again", || {
        let mut client = Client::connect(stage.addr);
        client.send(hello(Role::Viewer));
        matches!(client.frame(), Frame::Welcome(_))
    });
    stage.stop();
}
