//! Tokens: an operation's name, 64 bits that the kernel gives back with each completion.
//!
//! ```text
//!  63    56 55          32 31                0
//! +--------+--------------+-------------------+
//! |op 8    | generation 24| index 32          |
//! +--------+--------------+-------------------+
//! ```
//! The index is the owner's (a connection's place in its table); the generation tells whether that place has had
//! another tenant since. It wraps after 16 777 216 tenants of one place, far more than can have an operation under way.

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Nothing whose completion matters (a cancellation).
    Ignored = 0,
    /// Takes connections.
    Accept = 1,
    /// Receives bytes.
    Receive = 2,
    /// Waits until a socket takes bytes again.
    Writable = 3,
    /// Waits for a doorbell.
    Doorbell = 4,
    /// Sends a slot's bytes without copying; the index is a lease's place, not a connection's.
    ZeroCopy = 5,
}

/// An operation's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u64);

/// Generations are counted modulo this.
const GENERATIONS: u32 = 1 << 24;

impl Token {
    /// The token of `operation` for the tenant `generation` of place `index`. The generation's upper 8 bits are cut.
    pub const fn new(operation: Operation, generation: u32, index: u32) -> Token {
        Token((operation as u64) << 56 | ((generation % GENERATIONS) as u64) << 32 | index as u64)
    }

    /// A token for what has no table: one accept, one doorbell.
    pub const fn single(operation: Operation) -> Token {
        Token::new(operation, 0, 0)
    }

    /// As the kernel keeps it.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// From what the kernel gave back.
    pub const fn from_bits(bits: u64) -> Token {
        Token(bits)
    }

    /// What the operation does.
    pub const fn operation(self) -> Operation {
        match (self.0 >> 56) as u8 {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Writable,
            4 => Operation::Doorbell,
            5 => Operation::ZeroCopy,
            _ => Operation::Ignored,
        }
    }

    /// The owner's place.
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// Whether `generation` is the one this token was made with.
    pub const fn is_generation(self, generation: u32) -> bool {
        (self.0 >> 32) as u32 % GENERATIONS == generation % GENERATIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back() {
        for operation in [Operation::Accept, Operation::Receive, Operation::Writable, Operation::ZeroCopy] {
            let token = Token::from_bits(Token::new(operation, 0x01_ff_ff_ff, u32::MAX).bits());
            assert_eq!((token.operation(), token.index()), (operation, u32::MAX));
            assert!(token.is_generation(0x00_ff_ff_ff), "the upper bits of a generation are cut");
            assert!(!token.is_generation(0x00_ff_ff_fe));
        }
    }
}
