//! The demo's stream: ffmpeg's test picture and tone over HTTP PUT, else the built-in generator over Weircast's own
//! protocol.

use std::time::Duration;

use anyhow::{Result, bail};
use weircast_testbed::ffmpeg::{TestPicture, host_program};
use weircast_testbed::workdir::tail;
use weircast_testbed::{Cluster, Process};

/// The program that publishes.
pub(crate) struct Publisher {
    process: Process,
    /// For a person.
    pub(crate) what: &'static str,
}

/// Starts publishing `stream` into the first domain.
pub(crate) fn start(cluster: &Cluster, stream: &str, builtin: bool) -> Result<Publisher> {
    if let Some(ffmpeg) = host_program("ffmpeg").filter(|_| !builtin) {
        let args = TestPicture::DEMO.put_to(&cluster.live_url(0, stream), None);
        let process = cluster.spawn_path("publisher-1", &ffmpeg, &args)?;
        return Ok(Publisher { process, what: "ffmpeg's test picture and tone, H.264 and AAC at 2 Mbit/s, HTTP PUT" });
    }
    let process = cluster.publish(0, stream, "test:2000", &[])?;
    Ok(Publisher { process, what: "the built-in generator's stream at 2 Mbit/s, Weircast's own protocol" })
}

impl Publisher {
    /// An error when it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if !self.process.is_running() {
            bail!("the publisher has ended by itself:\n{}", tail(self.process.log()));
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) fn end(mut self, patience: Duration) {
        self.process.terminate();
        // Dropped below in any case, which kills it.
        let _ = self.process.wait_exit(patience);
    }
}
