//! The records of a directory: one line of JSON per cell that was run. A run that was broken off leaves what it finished;
//! the next one goes on from there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::cell::{self, Cell, Gave, Setting};

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    setting: String,
    cell: Cell,
    gave: Gave,
}

/// A directory's records of one setting.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    mark: String,
    known: BTreeMap<Cell, Gave>,
}

impl Store {
    /// Reads what `dir` has; makes it when it is not there. A torn last line is a run that was broken off: it is left out.
    pub fn open(dir: &Path, setting: &Setting) -> anyhow::Result<Store> {
        std::fs::create_dir_all(dir).with_context(|| format!("--out {}: cannot be made", dir.display()))?;
        let (path, mark) = (dir.join("runs.jsonl"), setting.mark());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(|| format!("{}: cannot be read", path.display())),
        };
        let mut known = BTreeMap::new();
        for (number, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
            let record: Record = serde_json::from_str(line)
                .with_context(|| format!("{}:{}: no record; remove the line", path.display(), number + 1))?;
            if record.setting == mark {
                known.insert(record.cell, record.gave);
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            let whole = text.rfind('\n').map_or(0, |at| at + 1);
            std::fs::write(&path, &text[..whole]).with_context(|| format!("{}: cannot be written", path.display()))?;
        }
        Ok(Store { path, mark, known })
    }

    /// What is there.
    pub const fn known(&self) -> &BTreeMap<Cell, Gave> {
        &self.known
    }

    /// Runs those of `cells` that are not there, in their order, on `threads` threads; begins none after `budget`.
    /// `told` hears of each that is finished. Gives how many are still missing.
    pub fn fill(
        &mut self,
        cells: &[Cell],
        setting: &Setting,
        threads: usize,
        budget: Duration,
        told: &(dyn Fn(Cell, &Gave, usize) + Sync),
    ) -> anyhow::Result<usize> {
        let missing: Vec<Cell> = cells.iter().copied().filter(|cell| !self.known.contains_key(cell)).collect();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path);
        let file = Mutex::new(file.with_context(|| format!("{}: cannot be written", self.path.display()))?);
        let (next, began) = (AtomicUsize::new(0), Instant::now());
        let done: Mutex<Vec<(Cell, Gave)>> = Mutex::new(Vec::new());
        let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    while began.elapsed() < budget {
                        let Some(cell) = missing.get(next.fetch_add(1, Relaxed)) else { return };
                        let gave = cell::run(*cell, setting);
                        let record = Record { setting: self.mark.clone(), cell: *cell, gave };
                        if let Err(e) = append(&file, &record) {
                            *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(e);
                            return;
                        }
                        let mut done = done.lock().unwrap_or_else(|e| e.into_inner());
                        done.push((*cell, gave));
                        told(*cell, &gave, missing.len() - done.len());
                    }
                });
            }
        });
        if let Some(e) = failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            return Err(e.context(format!("{}: cannot be written", self.path.display())));
        }
        self.known.extend(done.into_inner().unwrap_or_else(|e| e.into_inner()));
        Ok(cells.iter().filter(|cell| !self.known.contains_key(cell)).count())
    }
}

fn append(file: &Mutex<std::fs::File>, record: &Record) -> anyhow::Result<()> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    file.lock().unwrap_or_else(|e| e.into_inner()).write_all(line.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::cell::Engine;
    use super::*;

    fn cell(seed: u64) -> Cell {
        Cell { nodes: 60, regions: 4, cdn: true, seed, engine: Engine::Cycle }
    }

    #[test]
    fn what_was_run_is_not_run_again_and_a_torn_line_is_dropped() {
        let dir = std::env::temp_dir().join(format!("weircast-paper-{}", std::process::id()));
        let setting = Setting { duration_s: 3, warmup_s: 1, ..Setting::default() };
        let count = AtomicUsize::new(0);
        let told = |_, _: &Gave, _| {
            count.fetch_add(1, Relaxed);
        };
        let fill = |cells: &[Cell], setting: &Setting| {
            let mut store = Store::open(&dir, setting).expect("a directory");
            let missing = store.fill(cells, setting, 2, Duration::MAX, &told).expect("written");
            (missing, store.known().clone())
        };
        let first = fill(&[cell(1), cell(2)], &setting);
        assert_eq!((first.0, count.load(Relaxed)), (0, 2));
        let path = dir.join("runs.jsonl");
        let whole = std::fs::read_to_string(&path).expect("there");
        std::fs::write(&path, format!("{whole}{{\"setting\":\"to")).expect("written");
        let again = fill(&[cell(1), cell(2), cell(3)], &setting);
        assert_eq!((again.0, count.load(Relaxed)), (0, 3));
        assert_eq!(again.1[&cell(1)], first.1[&cell(1)]);
        let other = Setting { uplink: 2.0, ..setting.clone() };
        fill(&[cell(1)], &other);
        assert_eq!(count.load(Relaxed), 4, "another setting's records are not this one's");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
