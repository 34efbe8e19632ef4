//! The configuration files of a cluster, as text.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::cluster::{ClusterBuilder, domain_id};

/// Shared by the servers of one cluster.
const CLUSTER_SECRET: &str = "a test bed's secret";

pub(crate) fn route(listen: SocketAddr, indexes: &[SocketAddr]) -> String {
    let mut text = format!("listen = \"{listen}\"\ncluster_secret = \"{CLUSTER_SECRET}\"\n");
    for (at, index) in indexes.iter().enumerate() {
        let id = domain_id(at);
        let name = char::from(b'a' + at as u8);
        // String's Write cannot fail.
        let _ = write!(
            text,
            "\n[[domain]]\nid = {id}\nname = \"{name}\"\nindexes = [\"{index}\"]\ncidrs = [\"127.0.{id}.0/24\"]\n\
             \n[[location]]\ncidr = \"127.0.{id}.0/24\"\ncountry = 86\ncarrier = 1\nregion = {id}\ncity = 1\narea = 1\n"
        );
    }
    text
}

pub(crate) fn index(builder: &ClusterBuilder, at: usize, listen: SocketAddr, route: SocketAddr) -> String {
    let mut text = format!(
        "listen = \"{listen}\"\ndomain = {}\nroute = [\"{route}\"]\ncluster_secret = \"{CLUSTER_SECRET}\"\n",
        domain_id(at)
    );
    for (name, secret) in &builder.publish {
        let _ = write!(text, "\n[[publish]]\nname = \"{name}\"\nsecret = \"{secret}\"\n");
    }
    text
}

/// The slab is a memfd: it goes with its process, so that even a killed cache leaves nothing behind.
pub(crate) fn cache(builder: &ClusterBuilder, index: Option<SocketAddr>) -> String {
    let index = index.map(|index| format!("\"{index}\"")).unwrap_or_default();
    format!(
        "listen = \"127.0.0.1:0\"\nindex = [{index}]\ncluster_secret = \"{CLUSTER_SECRET}\"\nshards = {}\n\
         memory_mib = {}\nslab = \"memfd\"\n",
        builder.shards, builder.memory_mib
    )
}
