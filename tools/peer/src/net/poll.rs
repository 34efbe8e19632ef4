//! The poll's tokens, and signals as one more readable thing.

use std::io::{self, Read};

use cache_core::proto::peer::LinkId;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Datagrams.
pub(crate) const UDP: Token = Token(0);
/// Incoming links.
pub(crate) const LISTENER: Token = Token(1);
/// Incoming players.
pub(crate) const HTTP: Token = Token(2);
/// SIGINT or SIGTERM.
pub(crate) const SIGNALS: Token = Token(3);
/// A thread that reads or writes what blocks has news.
pub(crate) const THREAD: Token = Token(4);
/// Datagrams of a publisher's input.
pub(crate) const INPUT: Token = Token(5);

/// Links take the even tokens from here, players the odd ones.
const FIRST: usize = 16;

/// Whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// One of the constants.
    Fixed(Token),
    /// A link.
    Link(LinkId),
    /// A player, by its number.
    Player(u32),
}

/// A link's token.
pub(crate) const fn link_token(link: LinkId) -> Token {
    Token(FIRST + 2 * link.0 as usize)
}

/// A player's token.
pub(crate) const fn player_token(player: u32) -> Token {
    Token(FIRST + 2 * player as usize + 1)
}

/// Whose `token` is.
pub(crate) const fn owner(token: Token) -> Owner {
    match token.0.checked_sub(FIRST) {
        None => Owner::Fixed(token),
        Some(at) if at % 2 == 0 => Owner::Link(LinkId((at / 2) as u32)),
        Some(at) => Owner::Player((at / 2) as u32),
    }
}

const _: () = assert!(usize::BITS >= 64, "a token holds any link's number");

/// SIGINT and SIGTERM, counted.
#[derive(Debug)]
pub(crate) struct Signals {
    pipe: UnixStream,
}

impl Signals {
    /// From here on the two signals are told as [`SIGNALS`] and no longer end the process by themselves.
    pub(crate) fn watch(registry: &Registry) -> io::Result<Signals> {
        let (mut pipe, write) = UnixStream::pair()?;
        let write = std::os::unix::net::UnixStream::from(write);
        signal_hook::low_level::pipe::register(SIGINT, write.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGTERM, write)?;
        registry.register(&mut pipe, SIGNALS, Interest::READABLE)?;
        Ok(Signals { pipe })
    }

    /// How many signals came since the last call.
    pub(crate) fn take(&mut self) -> usize {
        let (mut count, mut buf) = (0, [0; 16]);
        loop {
            match self.pipe.read(&mut buf) {
                Ok(0) | Err(_) => return count,
                Ok(len) => count += len,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_one_owner() {
        for id in [0, 1, 7, u32::MAX] {
            assert_eq!(owner(link_token(LinkId(id))), Owner::Link(LinkId(id)));
            assert_eq!(owner(player_token(id)), Owner::Player(id));
        }
        assert_eq!(owner(INPUT), Owner::Fixed(INPUT));
    }
}
