//! What shards send: connections that are control's become tasks, wants and viewer counts go to the hub.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use glommio::io::PollableFd;

use super::hub::Hub;
use super::link::Link;
use super::{http, publisher};
use crate::cache::bridge::ToControl;
use crate::uring::Doorbell;

/// Connections in hand beyond one for each stream: requests for statistics, publishers that are about to be refused
/// (our guess).
const SPARE: usize = 64;

/// Messages of one shard taken before others have their turn.
const BATCH: usize = 64;

/// Hears one shard for as long as the server runs. `doorbell` is its doorbell to control. Fails when the reactor does.
pub(super) async fn hear(hub: &Rc<Hub>, shard: usize, doorbell: Arc<Doorbell>) -> std::io::Result<()> {
    let rung = PollableFd::new(doorbell.as_fd().try_clone_to_owned()?).map_err(std::io::Error::other)?;
    loop {
        rung.readable().await.map_err(std::io::Error::other)?;
        doorbell.quiet();
        let mut taken = 0;
        while let Some(message) = hub.shards.hear(shard) {
            take(hub, shard, message);
            taken += 1;
            if taken % BATCH == 0 {
                glommio::executor().yield_now().await;
            }
        }
    }
}

fn take(hub: &Rc<Hub>, shard: usize, message: ToControl) {
    match message {
        ToControl::NativePublisher { socket, from, read } => {
            session(hub, socket, from, async move |hub, link| publisher::serve(&hub, link, read).await);
        }
        ToControl::Http { socket, from, read } => {
            session(hub, socket, from, async move |hub, link| http::serve(&hub, link, read).await);
        }
        ToControl::Want { stream } => hub.want(shard, stream),
        ToControl::Viewers { stream, count, lowest } => hub.viewers_of(shard, stream, count, lowest),
        ToControl::Stopped => hub.shards_stopped.set(hub.shards_stopped.get() + 1),
    }
}

/// Runs a connection's task; over the bound the connection is closed unread.
fn session(hub: &Rc<Hub>, socket: OwnedFd, from: SocketAddr, serve: impl AsyncFnOnce(Rc<Hub>, Link) + 'static) {
    let max = hub.config.streams_max as usize + SPARE;
    if hub.sessions.get() >= max {
        hub.counters.connections_refused.one();
        return;
    }
    let link = match Link::adopt(socket, from) {
        Ok(link) => link,
        Err(error) => {
            tracing::warn!(%from, %error, "connection lost on its way to control");
            return;
        }
    };
    hub.sessions.set(hub.sessions.get() + 1);
    let hub = hub.clone();
    glommio::spawn_local(async move {
        serve(hub.clone(), link).await;
        hub.sessions.set(hub.sessions.get() - 1);
    })
    .detach();
}
