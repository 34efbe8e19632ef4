//! `weircast-index`: see [`weircast_server::index`].

use std::process::ExitCode;

use weircast_server::{host, index};

fn main() -> ExitCode {
    host::program::main(&index::ROLE, index::check, index::run)
}
