//! `weircast-cache`: takes streams from publishers and other caches, and serves them to viewers.

use std::process::ExitCode;

use weircast_server::cache::control::{self, CacheConfig};
use weircast_server::host::cli::Role;
use weircast_server::host::program;

const ROLE: Role = Role {
    program: "weircast-cache",
    about: "Weircast's cache server: takes live streams in and serves them to viewers",
    prepares: true,
    compiles: false,
    help: "\
A publisher sends MPEG-TS over HTTP, or comes with weircast-peer:
  ffmpeg -re -i INPUT -c copy -f mpegts -method PUT http://127.0.0.1:7400/live/NAME
A viewer plays, or comes with weircast-peer:
  ffplay http://127.0.0.1:7400/live/NAME.ts
What it is doing, from this host:
  curl http://127.0.0.1:7400/stats
With huge pages it serves more; root makes them ready once after each start of the host (ExecStartPre=+):
  weircast-cache prepare --config FILE

Without index servers in its configuration it stands alone: it serves what is published to it.
The configuration's keys, with their defaults, stand in server/config/cache.toml.",
};

fn main() -> ExitCode {
    program::main_preparing::<CacheConfig>(&ROLE, control::check, control::run, control::prepare)
}
