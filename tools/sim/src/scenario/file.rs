//! Files, the files they stand on, other files over them, single values over all.
//!
//! A scenario is put together as TOML tables and read once at the end, so that a key that is misspelt on the command
//! line is the same error as in a file.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Scenario;
use super::check::BadScenario;

/// Most files that stand on each other by `base`. Our guess.
const BASES_MAX: usize = 4;

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// The file is not there or not readable.
    #[error("the scenario {path} cannot be read: check the path ({error})")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no TOML, or has a key that does not exist or a value of another type.
    #[error("mend {place}: {error}")]
    Unclear {
        /// The file, or the words of the command line.
        place: String,
        /// What and where.
        error: toml::de::Error,
    },
    /// A base has a base has a base ...
    #[error("{path}: more than {BASES_MAX} files stand on each other by `base`: put them together")]
    TooDeep {
        /// The file where it was too much.
        path: PathBuf,
    },
    /// A `--set` that says no key or no value, or goes through something that has no keys.
    #[error("--set {given}: {cure}")]
    BadSet {
        /// What was given.
        given: String,
        /// What to give instead.
        cure: String,
    },
    /// Values out of range.
    #[error("mend {place}:\n{error}")]
    BadValues {
        /// The file, and the words of the command line.
        place: String,
        /// Each with a sentence.
        error: BadScenario,
    },
}

/// Where a scenario comes from: a file, files over it, values over all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The file; `None`: every key has its default.
    pub file: Option<PathBuf>,
    /// Files whose keys win over those of the first; the last wins. Lists are replaced as a whole.
    pub with: Vec<PathBuf>,
    /// `KEY=VALUE`, the key with its path: `audience.peers=5000`, `audience.uplink.0.up=1.5`.
    pub set: Vec<String>,
}

impl Source {
    /// The scenario, checked.
    pub fn load(&self) -> Result<Scenario, BadFile> {
        let scenario = self.read()?;
        scenario.check().map_err(|error| BadFile::BadValues { place: self.place(), error })?;
        Ok(scenario)
    }

    /// The scenario with one more value set, checked.
    pub fn load_with(&self, settings: &[String]) -> Result<Scenario, BadFile> {
        let set = self.set.iter().chain(settings).cloned().collect();
        Source { set, ..self.clone() }.load()
    }

    /// What it was put together from, as words of a command line.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.file.iter().map(|file| file.display().to_string()).collect();
        words.extend(self.with.iter().map(|file| format!("--with {}", file.display())));
        words.extend(self.set.iter().map(|set| format!("--set '{set}'")));
        words
    }

    fn place(&self) -> String {
        if self.words().is_empty() { "the scenario".to_owned() } else { self.words().join(" ") }
    }

    fn read(&self) -> Result<Scenario, BadFile> {
        let mut table = Table::new();
        for path in self.file.iter().chain(&self.with) {
            merge(&mut table, read_with_base(path, BASES_MAX)?);
        }
        for given in &self.set {
            let bad = |cure: String| BadFile::BadSet { given: given.clone(), cure };
            let (key, value) = given.split_once('=').ok_or_else(|| bad("write KEY=VALUE".to_owned()))?;
            put(&mut table, key.trim(), value_of(value.trim())).map_err(bad)?;
        }
        // From text once more: so an error shows the line with the key.
        let text = table.to_string();
        toml::from_str(&text).map_err(|error| BadFile::Unclear { place: self.place(), error })
    }
}

/// A file over its base, over its base's base. `base` itself is used up.
fn read_with_base(path: &Path, bases_left: usize) -> Result<Table, BadFile> {
    let text = std::fs::read_to_string(path).map_err(|error| BadFile::Unreadable { path: path.to_owned(), error })?;
    let mut above = parse(path, &text)?;
    let Some(Value::String(base)) = above.remove("base") else { return Ok(above) };
    if bases_left == 0 {
        return Err(BadFile::TooDeep { path: path.to_owned() });
    }
    let mut table = read_with_base(&path.with_file_name("").join(base), bases_left - 1)?;
    merge(&mut table, above);
    Ok(table)
}

/// One file. What is wrong with it alone is said with its own lines.
fn parse(path: &Path, text: &str) -> Result<Table, BadFile> {
    let unclear = |error| BadFile::Unclear { place: path.display().to_string(), error };
    toml::from_str::<Scenario>(text).map_err(unclear)?;
    toml::from_str(text).map_err(unclear)
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// A value as TOML writes it; what is none is a string: `peer.sliding=strict`.
fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Puts `value` where `key` says. Tables on the way are made, list entries are not.
fn put(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let mut steps: Vec<&str> = key.split('.').collect();
    let last = steps.pop().filter(|last| !last.is_empty()).ok_or("write KEY=VALUE, the key with its path")?;
    let (first, rest) = match steps.split_first() {
        None => {
            table.insert(last.to_owned(), value);
            return Ok(());
        }
        Some(split) => split,
    };
    let mut here = table.entry((*first).to_owned()).or_insert_with(|| Value::Table(Table::new()));
    let mut path = (*first).to_owned();
    for step in rest {
        here = step_into(here, step, &path)?;
        path = format!("{path}.{step}");
    }
    match here {
        Value::Table(table) => {
            table.insert(last.to_owned(), value);
            Ok(())
        }
        _ => step_into(here, last, &path).map(|entry| *entry = value),
    }
}

fn step_into<'a>(here: &'a mut Value, step: &str, path: &str) -> Result<&'a mut Value, String> {
    match here {
        Value::Table(table) => Ok(table.entry(step.to_owned()).or_insert_with(|| Value::Table(Table::new()))),
        Value::Array(list) => {
            let count = list.len();
            let entry = step.parse::<usize>().ok().and_then(|number| list.get_mut(number));
            entry.ok_or_else(|| format!("{path} is a list with {count} entries: write {path}.0 for the first"))
        }
        _ => Err(format!("{path} is one value and has no key {step}")),
    }
}

#[cfg(test)]
mod tests;
