//! A file, read at the speed that its PCRs tell. Reading a file does not wait for anybody, so the loop does it itself.

use std::fs::File;
use std::io::{self, Read, Seek};

use bytes::Bytes;
use cache_core::limits::TS_PACKET_BYTES;
use cache_core::media::Pacer;
use cache_core::time::{Span, Time};

use super::{Input, InputError, Step};

/// The grain of the pace: what a UDP packet of transport stream holds.
const BLOCK_BYTES: usize = 7 * TS_PACKET_BYTES;

/// Bytes without a PCR after which a file is refused. Our guess: PCRs come each 100 ms (ISO/IEC 13818-1, 2.7.2), this
/// is 200 ms at 40 Mbit/s.
const CLOCKLESS_BYTES_MAX: u64 = 1 << 20;

/// A file.
#[derive(Debug)]
pub(crate) struct FileInput<F = File> {
    file: F,
    repeat: bool,
    pacer: Pacer,
    /// When media time zero was.
    begun: Option<Time>,
    /// A block whose time has not come.
    waiting: Option<(Time, Bytes)>,
    clockless: u64,
    read_any: bool,
}

impl<F: Read + Seek> FileInput<F> {
    /// From its beginning; with `repeat` over and over.
    pub(crate) fn new(file: F, repeat: bool) -> FileInput<F> {
        FileInput { file, repeat, pacer: Pacer::new(), begun: None, waiting: None, clockless: 0, read_any: false }
    }

    fn read(&mut self) -> io::Result<Bytes> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut got = 0;
        while got < BLOCK_BYTES {
            match self.file.read(&mut block[got..]) {
                Ok(0) => break,
                Ok(len) => got += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        block.truncate(got);
        Ok(block.into())
    }
}

impl<F: Read + Seek + std::fmt::Debug> Input for FileInput<F> {
    fn next(&mut self, now: Time) -> Result<Step, InputError> {
        let begun = *self.begun.get_or_insert(now);
        if self.waiting.is_none() {
            let mut block = self.read()?;
            if block.is_empty() && self.repeat && self.read_any {
                self.file.rewind()?;
                self.pacer.rewind();
                block = self.read()?;
            }
            if block.is_empty() {
                return Ok(Step::End);
            }
            self.read_any = true;
            let media = self.pacer.due(&block)?;
            if media == Span::ZERO {
                self.clockless += block.len() as u64;
                if self.clockless > CLOCKLESS_BYTES_MAX {
                    return Err(InputError::NoClock(CLOCKLESS_BYTES_MAX));
                }
            }
            self.waiting = Some((begun.after(media), block));
        }
        match self.waiting.take() {
            Some((due, block)) if due > now => {
                self.waiting = Some((due, block));
                Ok(Step::Wait(due))
            }
            Some((_, block)) => Ok(Step::Bytes(block)),
            None => Ok(Step::Idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use cache_core::media::{Generator, GeneratorConfig};

    use super::*;

    fn recorded(seconds: u64) -> Vec<u8> {
        let (mut generator, mut bytes) = (Generator::new(GeneratorConfig::default()), Vec::new());
        while generator.next_frame(&mut bytes) < Span::from_secs(seconds) {}
        bytes
    }

    /// Reads until `now` gives no more.
    fn take(input: &mut impl Input, now: Time) -> (Vec<u8>, Step) {
        let mut bytes = Vec::new();
        loop {
            match input.next(now).expect("a good file") {
                Step::Bytes(more) => bytes.extend_from_slice(&more),
                other => return (bytes, other),
            }
        }
    }

    #[test]
    fn a_file_plays_at_its_own_speed() {
        let file = recorded(3);
        let mut input = FileInput::new(Cursor::new(file.clone()), false);
        let start = Time::from_millis(500);
        let (mut all, step) = take(&mut input, start);
        assert!(matches!(step, Step::Wait(due) if due > start));
        let (more, _) = take(&mut input, start.after(Span::from_secs(1)));
        let rate = more.len() as f64 * 8.0 / 1e6;
        assert!((1.8..2.2).contains(&rate), "2 Mbit/s, came at {rate}");
        all.extend(more);
        let (more, step) = take(&mut input, start.after(Span::from_secs(9)));
        all.extend(more);
        assert!(matches!(step, Step::End) && all == file);
    }

    #[test]
    fn a_repeated_file_goes_on_at_the_same_speed() {
        let file = recorded(1);
        let mut input = FileInput::new(Cursor::new(file.clone()), true);
        take(&mut input, Time::ZERO);
        let (bytes, step) = take(&mut input, Time::from_millis(10_000));
        let times = bytes.len() as f64 / file.len() as f64;
        assert!((9.0..11.0).contains(&times) && matches!(step, Step::Wait(_)), "{times} times in 10 s");
    }

    #[test]
    fn a_file_without_a_clock_is_refused_with_the_cure() {
        let config = GeneratorConfig { pcr: false, ..GeneratorConfig::default() };
        let (mut generator, mut bytes) = (Generator::new(config), Vec::new());
        while bytes.len() <= 2 * CLOCKLESS_BYTES_MAX as usize {
            generator.next_frame(&mut bytes);
        }
        let mut input = FileInput::new(Cursor::new(bytes), false);
        let said = loop {
            match input.next(Time::ZERO) {
                Ok(Step::Bytes(_)) => {}
                Ok(step) => panic!("{step:?} instead of a refusal"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(said.contains("ffmpeg -re"), "{said}");
    }

    #[test]
    fn an_empty_file_ends_also_when_repeated() {
        let mut input = FileInput::new(Cursor::new(Vec::new()), true);
        assert!(matches!(input.next(Time::ZERO), Ok(Step::End)));
    }
}
