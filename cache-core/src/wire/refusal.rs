//! Refusals: one list of reasons for every role, so that a refusal means the same wherever it is met.

use super::codec::{DecodeError, Reader, Text, Wire, wire_struct};
use crate::limits::REASON_BYTES_MAX;

macro_rules! reasons {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum RefusalReason { $($(#[$meta])* $name = $code,)* }

        impl RefusalReason {
            /// Every reason.
            pub const ALL: &'static [RefusalReason] = &[$(RefusalReason::$name,)*];
            /// For a person.
            pub const fn text(self) -> &'static str {
                match self { $(RefusalReason::$name => $text,)* }
            }
            const fn from_code(code: u8) -> Option<RefusalReason> {
                match code { $($code => Some(RefusalReason::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// The wire version is not spoken here.
    Version = 1, "this wire version is not spoken here";
    /// The message could not be read, or does not belong here.
    BadMessage = 2, "the message cannot be read or does not belong here";
    /// Nobody publishes this stream.
    UnknownStream = 3, "no such stream is live";
    /// The publish secret is missing or wrong.
    NotAuthorised = 4, "the publish secret for this name is missing or wrong";
    /// Somebody else publishes this name.
    NameTaken = 5, "another publisher is live under this name";
    /// A newer epoch has taken over.
    Fenced = 6, "a newer publisher has taken over";
    /// No capacity left.
    Full = 7, "no capacity left here";
    /// A chunk's signature or hash is wrong.
    BadSignature = 8, "a chunk's signature or hash does not match";
    /// Over a size limit.
    TooLarge = 9, "over a size limit";
    /// Going out of service.
    Draining = 10, "this server is going out of service";
    /// The chunk is older than what is kept.
    Gone = 11, "the chunk is no longer kept";
    /// The chunk is not here (yet), or too far ahead to wait for.
    NotYet = 12, "the chunk is not here yet";
    /// The receiver took too long.
    TooSlow = 13, "the receiver took too long";
    /// What was sent is not MPEG-TS.
    NotTransportStream = 14, "what was sent is not an MPEG transport stream";
    /// The area's 65 536 node numbers are all in use.
    AreaFull = 15, "all node numbers of the area are in use";
    /// The address belongs to no configured domain.
    NoDomain = 16, "the address belongs to no configured domain";
    /// The other side is not known here: join again.
    NotJoined = 17, "not joined here, or no longer: join again";
    /// The sender's proof as a member of the cluster is missing or wrong.
    NotInCluster = 18, "the cluster secret is missing or wrong";
    /// No cache can take this stream now.
    NoCache = 19, "no cache can take this now";
    /// Deliberately leaving.
    Leaving = 20, "leaving";
    /// Too many requests at once.
    Busy = 21, "too many requests at once";
    /// A peer of another domain: the two exchange no data.
    OtherDomain = 22, "a peer of another domain; peers exchange data inside their domain only";
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl Wire for RefusalReason {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        RefusalReason::from_code(u8::take(r)?).ok_or(DecodeError::Value("refusal reason"))
    }
}

wire_struct! {
    /// A typed "no".
    pub struct Refused {
        /// Why.
        pub reason: RefusalReason,
        /// When trying again makes sense, in milliseconds; 0: not at all with the same request.
        pub retry_ms: u32,
        /// For a person; may be empty.
        pub detail: Text<REASON_BYTES_MAX>,
    }
}

impl Refused {
    /// A refusal that says no more than its reason.
    pub fn because(reason: RefusalReason) -> Refused {
        Refused { reason, retry_ms: 0, detail: Text::default() }
    }

    /// A refusal after which to try again in `retry_ms`.
    pub fn for_now(reason: RefusalReason, retry_ms: u32) -> Refused {
        Refused { reason, retry_ms, detail: Text::default() }
    }
}
