//! What is published: 200 ms slices of the built-in generator's stream or of a transport stream in a file, without
//! end (a file begins again).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cache_core::media::{Generator, GeneratorConfig, Slice, Slicer, SlicerConfig};
use cache_core::outbox::Outbox;
use cache_core::time::WallClock;
use cache_core::units::BitRate;

/// In every packet of the generated stream.
pub(crate) const GENERATED_TAG: u64 = 0;

/// Read from a file at once.
const READ_BYTES: usize = 64 << 10;

/// Slices, oldest first.
#[derive(Debug)]
pub(crate) struct Source {
    bytes: Bytes,
    slicer: Slicer,
    cut: Outbox<Slice>,
    ready: VecDeque<Slice>,
}

#[derive(Debug)]
enum Bytes {
    Generated(Generator),
    File { file: File, path: PathBuf },
}

impl Source {
    /// The generator's self-checking stream at `kbps`.
    pub(crate) fn generated(kbps: u64) -> Source {
        let config =
            GeneratorConfig { rate: BitRate::from_kbps(kbps), tag: GENERATED_TAG, ..GeneratorConfig::default() };
        Source::new(Bytes::Generated(Generator::new(config)))
    }

    /// A transport stream, over and over.
    pub(crate) fn file(path: &Path) -> Result<Source> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Source::new(Bytes::File { file, path: path.to_owned() }))
    }

    fn new(bytes: Bytes) -> Source {
        let slicer = Slicer::new(SlicerConfig::default());
        Source { bytes, slicer, cut: Outbox::new(), ready: VecDeque::new() }
    }

    /// The next slice. Its publisher's clock is for the caller to set.
    pub(crate) fn next(&mut self) -> Result<Slice> {
        loop {
            if let Some(slice) = self.ready.pop_front() {
                return Ok(slice);
            }
            self.read()?;
            self.ready.extend(self.cut.drain());
        }
    }

    fn read(&mut self) -> Result<()> {
        let now = WallClock::default();
        match &mut self.bytes {
            Bytes::Generated(generator) => {
                let mut some = Vec::new();
                generator.next_frame(&mut some);
                self.slicer.push(now, &some, &mut self.cut).context("the generated stream cannot be sliced")?;
            }
            Bytes::File { file, path } => {
                let mut some = vec![0; READ_BYTES];
                let got = file.read(&mut some).with_context(|| format!("cannot read {}", path.display()))?;
                let not_ts = || format!("{} is not an MPEG transport stream", path.display());
                if got > 0 {
                    return self.slicer.push(now, &some[..got], &mut self.cut).with_context(not_ts);
                }
                self.slicer.finish(now, &mut self.cut).with_context(not_ts)?;
                self.slicer = Slicer::new(SlicerConfig { resumed: true });
                if file.stream_position()? == 0 {
                    bail!("{} is empty", path.display());
                }
                file.rewind()?;
            }
        }
        Ok(())
    }
}
