//! `weircast-route`: see [`weircast_server::route`].

use std::process::ExitCode;

use weircast_server::{host, route};

fn main() -> ExitCode {
    host::program::main(&route::ROLE, route::check, route::run)
}
