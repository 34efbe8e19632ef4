//! Room for the connections: the limit of open files.

use anyhow::{Result, bail};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that are not viewers': standard streams, polls, the publisher (measured: under 20).
const OTHERS: u64 = 64;

/// Raises the soft limit as far as it goes; an error with the cure when `viewers` do not fit under the hard one.
pub(crate) fn make_room(viewers: usize) -> Result<()> {
    let needed = viewers as u64 + OTHERS;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    if let Some(hard) = limit.maximum.filter(|hard| *hard < needed) {
        bail!(
            "{viewers} viewers need {needed} open files and the hard limit is {hard}: raise it (`ulimit -Hn {needed}` as \
             root, LimitNOFILE= of systemd), or run -n {} or fewer",
            hard.saturating_sub(OTHERS)
        );
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit)?;
    Ok(())
}

/// Raises the soft limit to the hard one.
pub(crate) fn make_what_room_there_is() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(())
}
