//! `weircast-route compile`: lists and databases in, one file of places out ([`cache_core::proto::route::places::file`]).
//!
//! Inputs are layers: an address that one knows is not looked for in those behind it. The databases of places and of AS
//! numbers know different things of one address; they are one layer, which stands where the first of them does.

mod csv;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cache_core::proto::route::places::PlaceList;

use super::config::Config;
use super::mmdb::Database;
use crate::host::cli::Compile;

/// Reads what was asked for, and writes the file when all of it was good. Says what is in it.
pub fn compile(config: &Config, asked: &Compile) -> anyhow::Result<String> {
    let is = |file: &Path, kind: &str| file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind));
    let databases: Vec<PathBuf> = asked.inputs.iter().filter(|file| is(file, "mmdb")).cloned().collect();
    let mut layers = Vec::new();
    for file in &asked.inputs {
        if is(file, "csv") {
            layers.push(csv::read(file)?);
        } else if !is(file, "mmdb") {
            bail!("{}: is neither a list (.csv) nor a MaxMind database (.mmdb)", file.display());
        } else if databases.first() == Some(file) {
            layers.push(Database::open_all(&databases, config.carriers()?)?.networks()?);
        }
    }
    let list = PlaceList::of(layers)?;
    let bytes = list.encode();
    write_whole(&asked.out, &bytes)?;
    let (networks, places) = (list.networks(), list.places());
    Ok(format!("{}: {networks} networks in {places} places, {} KiB", asked.out.display(), bytes.len().div_ceil(1024)))
}

/// Writes `file` beside its place, and puts it there when it is on the disk: whoever reads it finds the old file or the
/// new one, whole.
fn write_whole(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = file.file_name().with_context(|| format!("--out {}: give a file's name", file.display()))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut new = File::create_new(&beside)?;
        new.write_all(bytes)?;
        new.sync_all()?;
        fs::rename(&beside, file)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&beside);
        anyhow::anyhow!("--out {}: {error}; give a file in a folder that this user may write", file.display())
    })
}

#[cfg(test)]
mod tests {
    use cache_core::units::DomainId;

    use super::*;

    fn asked(folder: &Path, inputs: &[(&str, &str)]) -> Compile {
        let write = |(name, text): &(&str, &str)| {
            fs::write(folder.join(name), text).expect("written");
            folder.join(name)
        };
        Compile { out: folder.join("places.wlpm"), inputs: inputs.iter().map(write).collect() }
    }

    #[test]
    fn lists_are_layers_and_the_file_replaces_the_old_one_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let asked = asked(
            folder.path(),
            &[("own.csv", "10.0.0.0/8,CN,1,31,2,7,3\n"), ("more.csv", "10.1.0.0/16,DE,,,,\n11.0.0.0/8,DE,,,,\n")],
        );
        fs::write(&asked.out, "what was there").expect("written");
        let said = compile(&Config::default(), &asked).expect("good lists");
        assert!(said.contains("3 networks in 2 places"), "{said}");
        let read = PlaceList::decode(&fs::read(&asked.out).expect("a file")).expect("its own");
        let places = read.index();
        let at = |text: &str| places.get(text.parse().expect("an address")).expect("known");
        assert_eq!((at("10.1.0.1").domain, at("10.1.0.1").area), (Some(DomainId(3)), Some(7)));
        assert_eq!((at("11.0.0.1").domain, at("11.0.0.1").area), (None, None));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 3, "nothing is left beside it");
    }

    #[test]
    fn what_is_wrong_with_an_input_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let asked = asked(folder.path(), &[("own.csv", "10.0.0.0/8,CN,1,31,2,7\n10.0.0.0/9,CN,99,,,\n")]);
        fs::write(&asked.out, "what was there").expect("written");
        let said = compile(&Config::default(), &asked).expect_err("a bad list").to_string();
        assert!(said.contains("own.csv:2: "), "{said}");
        assert_eq!(fs::read_to_string(&asked.out).expect("a file"), "what was there");
        let other = Compile { inputs: vec!["places.txt".into()], ..asked };
        let said = compile(&Config::default(), &other).expect_err("no list").to_string();
        assert!(said.contains("neither a list (.csv) nor"), "{said}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write_whole(Path::new("/nowhere/places.wlpm"), b"").expect_err("no folder").to_string();
        assert!(error.contains("--out /nowhere/places.wlpm") && error.contains("may write"), "{error}");
    }
}
