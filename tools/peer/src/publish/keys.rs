//! A publisher's secrets: its signing key and the name's publish secret.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use cache_core::sign::PublisherKey;

use crate::entropy;

/// Longest publish secret. Our guess: four times a SHA-256 in hexadecimal.
const SECRET_BYTES_MAX: u64 = 256;

/// The key in `path` (64 hexadecimal digits), which is created with mode 0600 when it is missing; without a path a new
/// one that nobody keeps. A file that others may read is an error.
pub(super) fn signing_key(path: Option<&Path>) -> anyhow::Result<PublisherKey> {
    let Some(path) = path else { return Ok(PublisherKey::from_seed(&entropy::bytes()?)) };
    let seed = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let seed: [u8; 32] = entropy::bytes()?;
            let digits: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
            let written = writeln!(file, "{digits}").and_then(|()| file.sync_all());
            written.with_context(|| format!("the key file {} cannot be written", path.display()))?;
            seed
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => read_key(path)?,
        Err(e) => {
            return Err(e)
                .with_context(|| format!("the key file {} cannot be created: check --key-file", path.display()));
        }
    };
    Ok(PublisherKey::from_seed(&seed))
}

fn read_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let text = read_small(path).with_context(|| format!("the key file {} cannot be read", path.display()))?;
    let mode = std::fs::metadata(path)?.mode();
    ensure!(mode & 0o077 == 0, "the key file {} may be read by others: chmod 600 {0}", path.display());
    let Some(seed) = from_hex(text.trim()) else {
        bail!("the key file {} does not hold 64 hexadecimal digits: delete it to get a new key", path.display());
    };
    Ok(seed)
}

/// The name's secret: given, or the first line of a file.
pub(super) fn publish_secret(given: Option<&str>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let secret = match (given, file) {
        (Some(secret), _) => secret.to_owned(),
        (None, Some(path)) => {
            let text = read_small(path)
                .with_context(|| format!("the secret {} cannot be read: check --secret-file", path.display()))?;
            text.lines().next().unwrap_or_default().trim().to_owned()
        }
        (None, None) => return Ok(None),
    };
    ensure!(!secret.is_empty(), "the publish secret is empty: check --secret or the first line of --secret-file");
    Ok(Some(secret))
}

fn read_small(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, at) in seed.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_then_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        let made = signing_key(Some(&path)).expect("made").public();
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert_eq!(signing_key(Some(&path)).expect("read").public(), made);
        assert_ne!(signing_key(None).expect("made").public(), made);
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        signing_key(Some(&path)).expect("made");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
        let said = signing_key(Some(&path)).expect_err("open to all").to_string();
        assert!(said.contains("chmod 600"), "{said}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        std::fs::write(&path, "é".repeat(32)).expect("written");
        let said = signing_key(Some(&path)).expect_err("no key").to_string();
        assert!(said.contains("64 hexadecimal"), "{said}");
    }

    #[test]
    fn a_secret_comes_from_the_first_line() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "s3cret \nmore\n").expect("written");
        assert_eq!(publish_secret(None, Some(file.path())).expect("read").as_deref(), Some("s3cret"));
        assert_eq!(publish_secret(None, None).expect("none"), None);
        assert!(publish_secret(Some(""), None).is_err());
    }
}
