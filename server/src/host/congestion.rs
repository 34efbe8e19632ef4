//! Which TCP congestion control connections begin with.
//!
//! BBR sends at a pace. With the `fq` queueing discipline that costs next to nothing; without it the kernel keeps a timer
//! for each connection, which on a busy node costs as much as sending: 0.269 CPU-s per GiB against 0.146 with CUBIC, in
//! answers of 125 KB to 1 000 connections over loopback (measured, paired; `docs/decisions/0028-congestion-control.md`).
//! Its documentation asks for `fq` too. So `auto` takes the system's choice, unless that is BBR without `fq`; then CUBIC, where
//! this process may have it. Not Reno, which recovers slowly over long lines: there the timers are the lesser evil.
//!
//! In a network namespace of its own (most containers) a process cannot read `net.core.default_qdisc`: whether there is `fq` is
//! unknown then, and taken for no, which costs less when it is wrong (0028). What is said says that it is unknown.

use std::net::TcpListener;
use std::path::Path;

use socket2::{Domain, SockRef, Socket, Type};

use super::config::ConfigError;

/// Longest name that the kernel takes (TCP_CA_NAME_MAX less its zero).
const NAME_MAX: usize = 15;

/// The key's word for "the system's, unless it is BBR without `fq`".
pub const AUTO: &str = "auto";

/// The key's word for the system's.
pub const SYSTEM: &str = "system";

/// What the key asks for, and what the host says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Congestion {
    name: Option<String>,
    why: String,
}

/// What decides.
#[derive(Clone, Debug, Default)]
struct Host {
    /// The system's congestion control.
    system: String,
    /// The queueing discipline that interfaces begin with; empty where it is not told.
    queueing: String,
    /// Whether a socket of ours may be set to [`INSTEAD`].
    instead: bool,
}

/// What is taken instead of BBR without `fq`.
const INSTEAD: &str = "cubic";

/// Whether a socket of this process may be set to `name`: the kernel knows it, and allows it to everybody or us in particular. A
/// module that is not loaded yet is, where we may.
fn may_be_set(name: &str) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    socket.is_ok_and(|socket| socket.set_tcp_congestion(name.as_bytes()).is_ok())
}

impl Congestion {
    /// What `key` comes to on this host.
    ///
    /// # Errors
    /// A name that cannot be one. Whether the kernel knows it is seen in [`Congestion::set`].
    pub fn choose(key: &str) -> Result<Congestion, ConfigError> {
        let read = |name: &str| {
            let text = std::fs::read_to_string(Path::new("/proc/sys/net").join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        let host = Host {
            system: read("ipv4/tcp_congestion_control"),
            queueing: read("core/default_qdisc"),
            instead: may_be_set(INSTEAD),
        };
        Congestion::of(key, &host)
    }

    fn of(key: &str, host: &Host) -> Result<Congestion, ConfigError> {
        let system = if host.system.is_empty() { "the system's" } else { &host.system };
        match key {
            SYSTEM => Ok(Congestion { name: None, why: format!("{system} (the system's)") }),
            AUTO if host.system.starts_with("bbr") && host.queueing != "fq" => Ok(Congestion {
                name: host.instead.then(|| INSTEAD.to_owned()),
                why: Congestion::why_not_bbr(system, host),
            }),
            AUTO => Ok(Congestion { name: None, why: format!("{system} (the system's)") }),
            name if (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Congestion { name: Some(name.to_owned()), why: format!("{name} (congestion)") })
            }
            other => {
                let message = format!("\"{other}\" is neither {AUTO}, {SYSTEM} nor the name of a congestion control");
                Err(ConfigError::value("congestion", message))
            }
        }
    }

    fn why_not_bbr(system: &str, host: &Host) -> String {
        let allow = format!("allow {INSTEAD} (net.ipv4.tcp_allowed_congestion_control)");
        let without = format!("without the fq queueing discipline (net.core.default_qdisc = {})", host.queueing);
        match (host.queueing.is_empty(), host.instead) {
            (false, true) => format!("{INSTEAD}, because {system} {without} keeps a timer for each connection"),
            (false, false) => {
                format!(
                    "{system} {without}, which costs time for each connection: set net.core.default_qdisc = fq, or {allow}"
                )
            }
            (true, true) => format!(
                "{INSTEAD}, because {system} without the fq queueing discipline keeps a timer for each connection, and whether \
                 there is fq is not told here (a network namespace): if there is, set congestion = \"{SYSTEM}\""
            ),
            (true, false) => format!(
                "{system}, which costs time for each connection without the fq queueing discipline; whether there is fq is not \
                 told here (a network namespace): see to it, or {allow}"
            ),
        }
    }

    /// What it is and why, in a line.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Sets it for the connections that `listener` will take.
    ///
    /// # Errors
    /// The kernel does not know the name, or does not allow it; the listener is as before.
    pub fn set(&self, listener: &TcpListener) -> Result<(), ConfigError> {
        self.set_on(SockRef::from(listener))
    }

    /// Whether it could be set, tried on a socket of its own.
    ///
    /// # Errors
    /// As [`Congestion::set`].
    pub fn check(&self) -> Result<(), ConfigError> {
        match Socket::new(Domain::IPV4, Type::STREAM, None) {
            Ok(socket) => self.set_on(SockRef::from(&socket)),
            Err(error) => Err(ConfigError::value("congestion", format!("cannot be tried without a socket ({error})"))),
        }
    }

    fn set_on(&self, socket: SockRef<'_>) -> Result<(), ConfigError> {
        let Some(name) = &self.name else { return Ok(()) };
        socket.set_tcp_congestion(name.as_bytes()).map_err(|error| {
            let message = format!(
                "the kernel does not take \"{name}\" ({error}): choose one of `sysctl \
                 net.ipv4.tcp_available_congestion_control`, load its module, or leave it at \"{AUTO}\""
            );
            ConfigError::value("congestion", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(system: &str, queueing: &str, instead: bool) -> Host {
        Host { system: system.into(), queueing: queueing.into(), instead }
    }

    fn name(key: &str, host: &Host) -> Option<String> {
        Congestion::of(key, host).expect("a good key").name
    }

    #[test]
    fn bbr_is_left_where_fq_paces_it_and_replaced_where_timers_would() {
        assert_eq!(name(AUTO, &host("bbr", "fq", true)), None);
        assert_eq!(name(AUTO, &host("bbr", "pfifo_fast", true)).as_deref(), Some("cubic"));
        assert_eq!(name(AUTO, &host("bbr", "fq_codel", false)), None, "it may not be had");
        let why = Congestion::of(AUTO, &host("bbr", "fq_codel", false)).expect("a good key").why;
        assert!(why.contains("default_qdisc = fq") && why.contains("allow cubic"), "{why}");
        assert_eq!(name(AUTO, &host("cubic", "pfifo_fast", true)), None);
        assert_eq!(name(AUTO, &host("cubic", "", true)), None);
        assert_eq!(name(SYSTEM, &host("bbr", "pfifo_fast", true)), None);
        assert_eq!(name("dctcp", &host("cubic", "fq", true)).as_deref(), Some("dctcp"));
    }

    #[test]
    fn a_queueing_discipline_that_is_not_told_is_not_said_to_be_another() {
        for (instead, taken, advice) in [(true, Some("cubic"), "congestion = \"system\""), (false, None, "allow cubic")]
        {
            let it = Congestion::of(AUTO, &host("bbr", "", instead)).expect("a good key");
            assert_eq!(it.name.as_deref(), taken);
            assert!(it.why.contains("not told here") && it.why.contains(advice), "{}", it.why);
            assert!(!it.why.contains("default_qdisc"), "{}", it.why);
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for wrong in ["", "a name", "sixteen-letters-"] {
            let said = Congestion::of(wrong, &Host::default()).expect_err(wrong).to_string();
            assert!(said.starts_with("congestion: ") && said.contains("auto"), "{said}");
        }
    }

    #[test]
    fn what_is_set_on_the_listener_holds_for_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let reno = Congestion::choose("reno").expect("a name");
        reno.set(&listener).expect("every kernel has reno");
        let _dialled = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (accepted, _) = listener.accept().expect("accepted");
        let now = SockRef::from(&accepted).tcp_congestion().expect("it has one");
        assert_eq!(now.split(|b| *b == 0).next(), Some(b"reno".as_slice()));
        let unknown = Congestion::choose("no-such").expect("it could be one");
        let said = unknown.set(&listener).expect_err("it is none").to_string();
        assert!(said.contains("tcp_available_congestion_control"), "{said}");
    }
}
