//! The configuration file: everything is optional, an unknown key is an error with its line. Without file and command
//! line the route server of this host is asked, where `weircast-route` listens without a file.
//!
//! ```toml
//! routes = ["192.0.2.1:7200"]      # route servers, in the order to try
//! bind = "192.0.2.7"               # IP or IP:PORT; every socket is bound to it
//! http = "127.0.0.1:8080"          # where this machine's players find the stream
//! [peer]                           # the protocol's numbers, each key with its unit: `tools/peer/config/peer.toml` explains each
//! upload_kbps = 5000
//! ```
//! What the command line says has precedence.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;

use anyhow::{Context, ensure};
use cache_core::proto::peer::Tuning;
use serde::Deserialize;

use crate::cli::{Bind, Common};

/// The route server that is asked when none is named: `weircast-route`'s own default.
const ROUTE_HERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7200));

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    routes: Vec<SocketAddr>,
    bind: Option<Bind>,
    http: Option<SocketAddr>,
    peer: Tuning,
}

/// File and command line together.
#[derive(Debug)]
pub(crate) struct Settings {
    /// At least one.
    pub(crate) routes: Vec<SocketAddr>,
    pub(crate) bind: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) tuning: Tuning,
}

impl ConfigFile {
    /// Reads `path`; without one everything has its default.
    pub(crate) fn read(path: Option<&Path>) -> anyhow::Result<ConfigFile> {
        let Some(path) = path else { return Ok(ConfigFile::default()) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration {} cannot be read: check --config", path.display()))?;
        let file: ConfigFile =
            toml::from_str(&text).with_context(|| format!("mend the configuration {}", path.display()))?;
        file.peer.check().with_context(|| format!("mend the configuration {}, section [peer]", path.display()))?;
        Ok(file)
    }

    /// Lets the command line have its way.
    pub(crate) fn with(
        self,
        common: &Common,
        http: Option<SocketAddr>,
        uplink_kbps: Option<u64>,
    ) -> anyhow::Result<Settings> {
        let mut routes = if common.routes.is_empty() { self.routes } else { common.routes.clone() };
        if routes.is_empty() {
            routes.push(ROUTE_HERE);
        }
        let bind = common.bind.or(self.bind).unwrap_or(Bind::any_towards(routes[0])).0;
        for route in &routes {
            ensure!(
                route.port() != 0 && !route.ip().is_unspecified(),
                "route server {route} cannot be reached: give its own address and port"
            );
            ensure!(
                route.is_ipv4() == bind.is_ipv4(),
                "route server {route} cannot be reached from {}: give --bind an address of the same family",
                bind.ip()
            );
        }
        let http = http.or(self.http).unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let mut tuning = self.peer;
        tuning.upload_kbps = uplink_kbps.unwrap_or(tuning.upload_kbps);
        tuning.check()?;
        Ok(Settings { routes, bind, http, tuning })
    }
}

#[cfg(test)]
mod tests {
    use cache_core::proto::peer::Profile;

    use super::*;
    use crate::cli::StatusMode;

    fn read(text: &str) -> anyhow::Result<ConfigFile> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        ConfigFile::read(Some(file.path()))
    }

    fn common(routes: &[&str], bind: Option<&str>) -> Common {
        Common {
            routes: routes.iter().map(|route| route.parse().expect("an address")).collect(),
            bind: bind.map(|bind| bind.parse().expect("an address")),
            config: None,
            status: StatusMode::Off,
        }
    }

    #[test]
    fn the_command_line_has_precedence() {
        let text = "routes = ['127.0.0.1:1']\nbind = '127.0.0.2'\n[peer]\nupload_kbps = 7\n";
        let settings = read(text).expect("good").with(&common(&[], None), None, None).expect("complete");
        assert_eq!((settings.bind, settings.tuning.upload_kbps), ("127.0.0.2:0".parse().expect("an address"), 7));
        let given = common(&["127.0.0.1:2"], Some("127.0.0.3:4"));
        let settings = read(text).expect("good").with(&given, None, Some(9)).expect("complete");
        assert_eq!((settings.bind, settings.tuning.upload_kbps), ("127.0.0.3:4".parse().expect("an address"), 9));
        assert_eq!(settings.routes, given.routes);
    }

    #[test]
    fn the_example_file_shows_every_key_with_its_default() {
        let text = include_str!("../config/peer.toml");
        let file = read(text).expect("good");
        assert_eq!(file.peer, Tuning::default());
        let settings = file.with(&common(&["127.0.0.1:1"], None), None, None).expect("complete");
        assert_eq!(settings.http, "127.0.0.1:0".parse().expect("an address"));
        let keys = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
        // What a profile sets is shown as a comment, so that the profile can be changed.
        let (head, section) = text.split_once("[peer]").expect("a section");
        let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let lines = section.lines().map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line));
        let shown = format!("{head}[peer]\n{}", lines.collect::<Vec<_>>().join("\n"));
        assert_eq!(read(&shown).expect("good").peer, Tuning::default());
        let shown: toml::Table = toml::from_str(&shown).expect("good");
        let all = toml::Table::try_from(Tuning::default()).expect("a table");
        assert_eq!(keys(shown["peer"].as_table().expect("a section")), keys(&all));
    }

    #[test]
    fn a_profile_sets_its_numbers_and_a_key_beside_it_wins() {
        let low = read("[peer]\nprofile = 'low'\n").expect("good").peer;
        assert_eq!((low.clone(), low.window_chunks), (Profile::Low.tuning(), 16));
        let given = read("[peer]\ncache_reserve_ms = 700\nprofile = 'low'\n").expect("good").peer;
        assert_eq!(given, Tuning { cache_reserve_ms: 700, ..Profile::Low.tuning() });
        let said = format!("{:#}", read("[peer]\nprofile = 'quick'\n").expect_err("no such profile"));
        assert!(said.contains("classic") && said.contains("low"), "{said}");
    }

    #[test]
    fn a_typo_is_an_error_with_its_line() {
        let said = format!("{:#}", read("routes = []\n[peer]\nuplode_kbps = 7\n").expect_err("a typo"));
        assert!(said.contains("uplode_kbps") && said.contains("line 3"), "{said}");
    }

    #[test]
    fn a_value_out_of_range_names_its_key() {
        let said = format!("{:#}", read("[peer]\nexchange_share = 0.7\n").expect_err("too much"));
        assert!(said.contains("exchange_share: must be"), "{said}");
    }

    #[test]
    fn without_a_file_the_route_server_of_this_host_is_asked() {
        let settings = ConfigFile::default().with(&common(&[], None), None, None).expect("defaults suffice");
        assert_eq!(settings.routes, ["127.0.0.1:7200".parse().expect("an address")]);
    }

    #[test]
    fn a_route_that_nobody_can_have_is_told_at_once() {
        for route in ["0.0.0.0:7200", "127.0.0.1:0"] {
            let said = ConfigFile::default().with(&common(&[route], None), None, None).expect_err(route).to_string();
            assert!(said.contains(route) && said.contains("its own address"), "{said}");
        }
    }

    #[test]
    fn a_route_of_the_other_family_is_told_at_once() {
        let given = common(&["[::1]:5"], Some("127.0.0.1"));
        let said = ConfigFile::default().with(&given, None, None).expect_err("families differ").to_string();
        assert!(said.contains("--bind"), "{said}");
        let any = ConfigFile::default().with(&common(&["[::1]:5"], None), None, None).expect("any address");
        assert!(any.bind.is_ipv6());
    }
}
