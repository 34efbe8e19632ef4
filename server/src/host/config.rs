//! Configuration: one TOML file per role.
//!
//! A role's configuration is a serde struct with `#[serde(deny_unknown_fields, default)]`; without a file its `Default`
//! holds. A complaint names file, line, key and what would be right:
//!
//! ```text
//! /etc/weircast/index.toml:3: lisen: unknown field `lisen`, expected one of `listen`, `advertise`, ...
//! ```

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

/// Why a configuration cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: {error}; name a readable file with --config, or leave --config out to use the defaults")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not what the role expects.
    #[error("{file}:{line}: {key}{message}")]
    Content {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key and a colon; empty when the text is not TOML at all.
        key: String,
        /// What is wrong and what is expected.
        message: String,
    },
    /// Another program has the port.
    #[error("listen: {0}")]
    PortInUse(String),
    /// A value is readable and still makes no sense.
    #[error("{key}: {message}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl ConfigError {
    /// A complaint about the value of `key`.
    pub fn value(key: &'static str, message: impl Into<String>) -> ConfigError {
        ConfigError::Value { key, message: message.into() }
    }
}

/// Reads `file`; the defaults when there is none.
pub fn load<T: DeserializeOwned + Default>(file: Option<&Path>) -> Result<T, ConfigError> {
    let Some(file) = file else { return Ok(T::default()) };
    let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Read { file: file.to_owned(), error })?;
    parse(file, &text)
}

/// Reads `text`, which stands in `file`.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    let content = |key: String, error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        let mut message = error.message().trim().replace('\n', ", ");
        if message.contains("socket address syntax") {
            // What the standard library says of an address, names among them.
            message.push_str("; give an IP address and a port, for example \"192.0.2.10:7000\" or \"[::1]:7000\"");
        }
        ConfigError::Content { file: file.to_owned(), line, key, message }
    };
    let document = toml::Deserializer::parse(text).map_err(|error| content(String::new(), &error))?;
    serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        content(if path == "." { String::new() } else { format!("{path}: ") }, error.inner())
    })
}

/// The address to tell others: `advertise` where it is set, else `bound`, the address really listened on (so that port
/// 0 works). `bound` may be unspecified (0.0.0.0) only while nobody is told, that is when `told` is false.
pub fn advertised(bound: SocketAddr, advertise: Option<SocketAddr>, told: bool) -> Result<SocketAddr, ConfigError> {
    match advertise {
        Some(addr) if addr.ip().is_unspecified() || addr.port() == 0 => Err(ConfigError::value(
            "advertise",
            format!("{addr} cannot be reached by anybody; give the address and port that others connect to"),
        )),
        Some(addr) => Ok(addr),
        None if told && bound.ip().is_unspecified() => Err(ConfigError::value(
            "advertise",
            format!(
                "listen = \"{bound}\" is every address of this host; name the one that others reach it at, \
                 for example advertise = \"192.0.2.10:{}\"",
                bound.port()
            ),
        )),
        None => Ok(bound),
    }
}

/// A bound, non-blocking UDP socket, without address sharing: a second server on the port is an error, not a rival.
pub fn bind_udp(listen: SocketAddr) -> Result<UdpSocket, ConfigError> {
    let bound = UdpSocket::bind(listen).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    bound.map_err(|error| cannot_listen(listen, "UDP", &error))
}

/// How long a killed predecessor's port may stay taken. Binding a cache's port in a loop right after `kill -9` and wait
/// failed for 1.7 to 7.8 ms in 12 of 12 tries (Linux 6.18); we take it that the kernel ends an io_uring, and closes what
/// it held, after the process is gone. A second is our guess for a loaded host.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(1);

/// Binds at a server's start, and tries again for [`PREDECESSOR_PATIENCE`] while the port is in use: a server that is
/// started again at once after a `kill -9` must not fail. Blocks; before anything is served.
pub fn outwait_predecessor<T>(mut bind: impl FnMut() -> Result<T, ConfigError>) -> Result<T, ConfigError> {
    const PAUSE: Duration = Duration::from_millis(10);
    let deadline = Instant::now() + PREDECESSOR_PATIENCE;
    loop {
        match bind() {
            Err(ConfigError::PortInUse(_)) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            bound => return bound,
        }
    }
}

/// The complaint that `listen` cannot be bound.
pub fn cannot_listen(listen: SocketAddr, protocol: &str, error: &std::io::Error) -> ConfigError {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    let cure = match error.kind() {
        AddrInUse => format!("another program has this {protocol} port (see: ss -lnp); stop it or choose another port"),
        AddrNotAvailable => "this host has no such address (see: ip addr); use one of its own, or 0.0.0.0".into(),
        PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one".into(),
        _ => "choose another address or port".into(),
    };
    let message = format!("cannot listen on {listen}: {error}; {cure}");
    if error.kind() == AddrInUse { ConfigError::PortInUse(message) } else { ConfigError::value("listen", message) }
}

/// Warns of an empty cluster secret where strangers can reach the server. `secret_key` names the setting.
pub fn warn_of_open_cluster(cluster_secret: &str, listen: SocketAddr) -> Option<String> {
    (cluster_secret.is_empty() && !listen.ip().is_loopback()).then(|| {
        format!(
            "cluster_secret is empty and {listen} is reachable from outside: anybody can pose as a server of this \
             cluster; set the same cluster_secret on all of its servers"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::host::findings::Findings;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        listen: Option<SocketAddr>,
        limits: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        peers_max: u32,
    }

    fn complaint(text: &str) -> String {
        parse::<Sample>(Path::new("sample.toml"), text).expect_err("bad configuration").to_string()
    }

    #[test]
    fn a_port_that_a_predecessor_frees_is_had() {
        let mut left = 3;
        let bound = outwait_predecessor(|| {
            left -= 1;
            if left > 0 { Err(ConfigError::PortInUse(String::new())) } else { Ok(left) }
        });
        assert_eq!(bound.expect("free at last"), 0);
        let other = outwait_predecessor(|| Err::<(), _>(ConfigError::value("listen", "no such address")));
        assert!(other.is_err(), "only a port in use is waited for");
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        assert_eq!(load::<Sample>(None).expect("defaults"), Sample::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
        let said = complaint("listen = \"127.0.0.1:1\"\n[limits]\npeers = 3\n");
        assert!(said.starts_with("sample.toml:3: limits.peers: unknown field `peers`"), "{said}");
        assert!(said.contains("peers_max"), "{said}");
    }

    #[test]
    fn a_bad_value_is_named_with_its_line() {
        let said = complaint("\n\nlisten = \"localhost\"\n");
        assert!(said.starts_with("sample.toml:3: listen: ") && said.contains("for example"), "{said}");
    }

    #[test]
    fn text_that_is_not_toml_is_named_with_its_line() {
        let said = complaint("listen = \"127.0.0.1:1\"\nlimits {\n");
        assert!(said.starts_with("sample.toml:2: "), "{said}");
    }

    #[test]
    fn a_missing_file_is_named_with_the_way_out() {
        let said = load::<Sample>(Some(Path::new("/nowhere/x.toml"))).expect_err("missing").to_string();
        assert!(said.contains("/nowhere/x.toml") && said.contains("--config"), "{said}");
    }

    #[test]
    fn every_address_is_nobodys_address() {
        let any = "0.0.0.0:7300".parse().expect("an address");
        let own: SocketAddr = "10.0.0.1:7300".parse().expect("an address");
        assert!(advertised(any, None, true).is_err());
        assert_eq!(advertised(any, None, false).expect("nobody is told"), any);
        assert_eq!(advertised(any, Some(own), true).expect("named"), own);
        assert_eq!(advertised(own, None, true).expect("its own"), own);
        assert!(advertised(own, Some(any), true).is_err());
    }

    #[test]
    fn a_port_in_use_is_named_with_its_key() {
        let first = bind_udp("127.0.0.1:0".parse().expect("an address")).expect("free");
        let taken = first.local_addr().expect("bound");
        let said = bind_udp(taken).expect_err("in use").to_string();
        assert!(said.starts_with(&format!("listen: cannot listen on {taken}")), "{said}");
        let mut findings = Findings::new();
        findings.record_listen(bind_udp(taken).map(|_| String::new()));
        assert!(findings.passed(), "the server that is being checked may well be running");
        findings.record_listen(bind_udp("192.0.2.1:0".parse().expect("an address")).map(|_| String::new()));
        assert!(!findings.passed(), "an address of another host");
    }
}
