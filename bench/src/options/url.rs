//! `http://USER:PASS@HOST:PORT/PATH`: as much of a URL as other servers need.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::{Deserialize, Serialize};

/// A place on an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Url {
    pub(crate) address: SocketAddr,
    /// As it stands in the `Host` header.
    pub(crate) host: String,
    /// Begins with a slash; may hold `{stream}` and `{seq}`.
    pub(crate) path: String,
    /// `user:password`.
    pub(crate) login: Option<String>,
}

impl std::str::FromStr for Url {
    type Err = String;

    /// Resolves the host's name too.
    fn from_str(text: &str) -> Result<Url, String> {
        let rest = text.strip_prefix("http://").ok_or("a URL begins with http://")?;
        let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, host) = match place.rsplit_once('@') {
            Some((login, host)) => (Some(login.to_owned()), host),
            None => (None, place),
        };
        if path.contains([' ', '\r', '\n']) || host.contains(['\r', '\n']) {
            return Err("a URL holds no blanks".to_owned());
        }
        // A bracketed IPv6 address holds colons of its own.
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|digit| digit.is_ascii_digit()));
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{host} has no address"))?;
        let path = if path.is_empty() { "/" } else { path };
        Ok(Url { address, host: host.to_owned(), path: path.to_owned(), login })
    }
}

impl Url {
    /// The value of an `Authorization` header, if there is a login.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.login.as_ref().map(|login| format!("Basic {}", base64(login.as_bytes())))
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url: Url = "http://source:hack:me@127.0.0.1:8000/live.ts?x=1".parse().expect("a good URL");
        assert_eq!(url.address, "127.0.0.1:8000".parse().expect("an address"));
        assert_eq!((url.host.as_str(), url.path.as_str()), ("127.0.0.1:8000", "/live.ts?x=1"));
        assert_eq!(url.authorization().as_deref(), Some("Basic c291cmNlOmhhY2s6bWU="));
        let bare: Url = "http://127.0.0.1".parse().expect("a good URL");
        assert_eq!((bare.address.port(), bare.path.as_str(), bare.authorization()), (80, "/", None));
        let six: Url = "http://[::1]:81/".parse().expect("a good URL");
        assert_eq!(six.address, "[::1]:81".parse().expect("an address"));
        for wrong in ["https://127.0.0.1/", "127.0.0.1", "http://", "http://127.0.0.1/a b"] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn base64_as_the_rfc_has_it() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
