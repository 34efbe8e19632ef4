//! Datagrams to an index or route server as fast as it answers, and the CPU time that one takes it.
//!
//! Each question comes from one proved address and is of the kind that is most frequent: a heartbeat, a renewed lease.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cache_core::peer_id::PeerId;
use cache_core::sign::ClusterKey;
use cache_core::wire::Blob;
use cache_core::wire::datagram::{Cookie, Datagram, Message};
use cache_core::wire::index::PeerHeartbeat;
use cache_core::wire::route::RouteJoin;

use super::server::{Programs, Server};

/// For so long questions are asked.
const ASKED_FOR: Duration = Duration::from_secs(2);

/// Questions on their way at a time: the server always finds the next.
const UNDER_WAY: u32 = 64;

/// A server on loopback that is silent for so long has lost datagrams (our guess).
const PATIENCE: Duration = Duration::from_millis(200);

pub(super) fn index_us(programs: &Programs) -> Result<f64> {
    let server = programs.start("weircast-index", "listen = \"127.0.0.1:0\"\nroute = []\n")?;
    // Of a peer that it does not know: the answer says so, after the same search.
    us(&server, PeerHeartbeat { stream: Default::default(), peer: Default::default() }.into())
}

pub(super) fn route_us(programs: &Programs) -> Result<f64> {
    let domain = "[[domain]]\nid = 1\nname = \"plan\"\nindexes = [\"127.0.0.1:7300\"]\n";
    let server = programs.start("weircast-route", &format!("listen = \"127.0.0.1:0\"\n{domain}"))?;
    us(&server, RouteJoin { previous: PeerId::NONE, ticket: Blob::default() }.into())
}

fn us(server: &Server, question: Message) -> Result<f64> {
    let cluster = ClusterKey::derive("");
    let socket = UdpSocket::bind(("127.0.0.1", 0)).context("a socket on loopback")?;
    socket.connect(server.address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let ask = |exchange, cookie| {
        let datagram = Datagram { exchange, cookie, message: question.clone() };
        datagram.encode(&cluster).context("a question fits a datagram")
    };
    let mut buffer = [0; 2048];
    socket.send(&ask(0, Cookie::default())?)?;
    let read = socket.recv(&mut buffer).context("the server does not answer")?;
    let challenge = Datagram::decode(&buffer[..read], &cluster).context("the server's answer")?;
    if !matches!(challenge.message, Message::Challenge(_)) {
        bail!("the server answered an address that had proved nothing: {:?}", challenge.message);
    }
    let packet = ask(1, challenge.cookie)?;
    let (begun, cpu_s) = (Instant::now(), server.cpu_s()?);
    let (mut asked, mut answered) = (0_u64, 0_u64);
    while begun.elapsed() < ASKED_FOR {
        while asked < answered + u64::from(UNDER_WAY) {
            socket.send(&packet)?;
            asked += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(_) => answered += 1,
            // Lost ones are not waited for.
            Err(_) => asked = answered,
        }
    }
    let spent = server.cpu_s()? - cpu_s;
    if answered < 1_000 || spent <= 0.0 {
        bail!("the server answered only {answered} questions in {} s", ASKED_FOR.as_secs());
    }
    Ok(spent * 1e6 / answered as f64)
}
