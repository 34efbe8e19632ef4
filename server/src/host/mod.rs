//! What every server needs of its host, so that a role's own folder holds its role only.
//!
//! | module | does |
//! |---|---|
//! | [`program`] | a role's `main`: command line, configuration, logs, `run` or `check`, exit code |
//! | [`cli`] | the options that all servers share |
//! | [`config`] | one TOML file per role, unknown key = error; listen and advertise addresses |
//! | [`logs`] | tracing to stderr, quiet by default |
//! | [`ready`] | the one line on stdout that says "serving, here" |
//! | [`signals`] | SIGTERM drains, SIGINT stops, a second one hurries |
//! | [`limits`] | memlock, descriptors, io_uring: raise, probe, say what mends it |
//! | [`findings`] | what `check` prints |
//! | [`congestion`] | how connections are paced |
//! | [`cpus`] | which CPUs and memory nodes it runs on |
//! | [`clock`], [`random`] | time and chance for machines that have neither |
//! | [`udp`] | the loop of a server that speaks datagrams (index, route) |
//!
//! A role uses these; none of them knows a role.

pub mod cli;
pub mod clock;
pub mod config;
pub mod congestion;
pub mod cpus;
pub mod findings;
pub mod limits;
pub mod logs;
pub mod program;
pub mod random;
pub mod ready;
pub mod signals;
pub mod udp;
