//! `weircast-route`: see [`weircast_server::route`].

use std::process::ExitCode;

use weircast_server::{host, route};

fn main() -> ExitCode {
    host::program::main_compiling(&route::ROLE, route::check, route::run, route::compile::compile)
}
