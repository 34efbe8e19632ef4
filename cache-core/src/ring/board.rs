//! The board: what a node counts, written where another process can read it without asking.
//!
//! It is an area of the ring's file. Who owns the ring (one process at a time) lays it out anew when it begins, and from
//! then on each counter has one writer, who stores plainly; an observer maps the file read-only and reads. Nobody waits
//! for anybody, and a node that hangs or was killed can still be looked at.
//!
//! ```text
//!  word 0    64        128               1152                                          32768   (256 KiB)
//!  +--------+---------+-----------------+----------------------------------------------+
//!  | facts  | tables: | rows: which     | names of table 0, row, row, names of table 1, |
//!  | of the | name,   | table, whose,   | row ...                                       |
//!  | node   | columns | where           | (each on 128 bytes of its own)                |
//!  +--------+---------+-----------------+----------------------------------------------+
//!  and for each stream of the ring, elsewhere in the control area: 128 bytes of facts about it (`board/streams.rs`)
//! ```
//! # Concepts
//! - A **table** is a kind of writer (`shard`, `control`) and the names of what it counts, each a counter (it only
//!   rises) or a gauge (a level).
//! - A **row** is one writer's numbers: as many words as the table has names, on cache lines nobody else writes to.
//! - **Facts** describe the node: which process, since when, where it listens, and its *heartbeat*, the wall clock that
//!   control stores as long as it goes on.
//! - The **incarnation** is odd while the board is laid out, and another one afterwards: numbers of two incarnations are
//!   not compared.
//!
//! The area describes itself: an observer of another build reads what it finds by name. It takes nothing on trust, so a
//! damaged file yields nonsense at worst (`board/view.rs`).
//!
//! # What it does not do
//! A row for which there is no room counts in memory of its own, where observers do not see it; the board says how many
//! those are. Under loom there is no board at all: every row is such a one.

mod counters;
mod facts;
mod streams;
mod view;

use std::sync::{Arc, Mutex, PoisonError};

pub use counters::{Column, Counter, Kind, Row, RowOf};
pub use facts::{Node, NodeView};
pub use streams::{StreamBoard, StreamView};
pub use view::{BoardView, RowView};

pub(super) use streams::{WORDS as STREAM_FACT_WORDS, read as read_stream};

use super::chunk::StreamSlot;
use super::control::Control;
use super::sync::{AtomicU64, Ordering};
use crate::time::WallClock;

/// Words of the area: 256 KiB, room for some 400 shards of 64 counters (our guess at the most that a machine has cores
/// for). Its size is one for all nodes, so that a node with more shards or more counters finds its ring again.
pub(super) const WORDS: usize = if cfg!(loom) { 0 } else { 32 << 10 };

/// A row, and the names of a table, begin on 128 bytes of their own: processors fetch lines of 64 bytes in pairs.
const LINE_WORDS: usize = 16;

/// Words with a meaning of their own, from the area's start.
mod place {
    pub(super) const INCARNATION: usize = 0;
    pub(super) const TABLES: usize = 1;
    pub(super) const ROWS: usize = 2;
    pub(super) const ROWS_UNSEEN: usize = 3;
    /// The node's facts: `facts.rs`.
    pub(super) const FACTS: usize = 8;
    pub(super) const FACTS_END: usize = 64;
    pub(super) const TABLE_HEADS: usize = 64;
    pub(super) const ROW_HEADS: usize = 128;
    /// Names and rows, to the area's end.
    pub(super) const SPACE: usize = 1152;
}

/// Kinds of writers: the cache has two, shards and control.
const TABLES_MAX: usize = (place::ROW_HEADS - place::TABLE_HEADS) / TABLE_WORDS;
const ROWS_MAX: usize = place::SPACE - place::ROW_HEADS;

/// A table's head: its name (a text of 24 bytes), how many columns, and the word at which their names begin.
const TABLE_WORDS: usize = 8;
const TABLE_NAME_WORDS: usize = 4;
const TABLE_COLUMNS: usize = 4;
const TABLE_NAMES_AT: usize = 5;

/// A column: its kind, and its name (a text of 40 bytes).
const COLUMN_WORDS: usize = 7;
const COLUMN_NAME: usize = 1;

const _: () = assert!(place::SPACE.is_multiple_of(LINE_WORDS) && WORDS.is_multiple_of(LINE_WORDS));
const _: () = assert!(counters::NAME_BYTES_MAX <= (COLUMN_WORDS - COLUMN_NAME - 1) * 8);
const _: () = assert!(place::FACTS + facts::WORDS <= place::FACTS_END);

/// The owner's end of the board. Laying out is for the node's start; storing is for each number's one writer.
#[derive(Debug)]
pub struct Board {
    control: Arc<Control>,
    laid_out: Mutex<LaidOut>,
}

/// What stands on the board so far.
#[derive(Debug)]
struct LaidOut {
    tables: Vec<&'static str>,
    rows: usize,
    /// The first free word.
    free: usize,
}

impl Board {
    /// Clears the board for the process that owns the ring from now on.
    pub(super) fn begin(control: Arc<Control>) -> Board {
        let board =
            Board { control, laid_out: Mutex::new(LaidOut { tables: Vec::new(), rows: 0, free: place::SPACE }) };
        board.change(|words| {
            for word in words.iter().skip(place::TABLES) {
                word.store(0, Ordering::Relaxed);
            }
        });
        for index in 0..board.control.layout.streams {
            board.control.stream_facts(index).iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        board
    }

    /// A new row of the table that `T` describes, all zero, for writer `index` (a shard's number; 0 where there is one).
    /// When the board is full the row is in memory of its own: it counts as well, and observers do not see it.
    pub fn row<T: RowOf>(&self, index: u16) -> Row<T> {
        match self.find_room::<T>(index) {
            Some(at) => Row::on_board(self.control.clone(), at),
            None => {
                if let Some(unseen) = self.words().get(place::ROWS_UNSEEN) {
                    unseen.store(unseen.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                }
                Row::alone()
            }
        }
    }

    /// States the node's facts.
    pub fn describe(&self, node: &Node<'_>) {
        self.change(|words| {
            if let Some(words) = words.get(place::FACTS..place::FACTS_END) {
                facts::write(words, node);
            }
        });
    }

    /// Control goes on: `now` is the node's heartbeat. Cost: one store.
    pub fn beat(&self, now: WallClock) {
        if let Some(word) = self.words().get(place::FACTS + facts::HEARTBEAT) {
            word.store(now.micros(), Ordering::Relaxed);
        }
    }

    /// The node takes nothing new.
    pub fn drain(&self) {
        if let Some(word) = self.words().get(place::FACTS + facts::DRAINING) {
            word.store(1, Ordering::Relaxed);
        }
    }

    /// The facts of an open stream, to be stated by control.
    pub fn stream(&self, slot: StreamSlot) -> StreamBoard<'_> {
        StreamBoard::new(self.control.stream_facts(slot.index), slot.generation)
    }

    /// What an observer would see.
    pub fn view(&self) -> Option<BoardView> {
        BoardView::read(self.words())
    }

    /// Changes what is read together; observers look again.
    fn change(&self, change: impl FnOnce(&[AtomicU64])) {
        let words = self.words();
        let Some(incarnation) = words.get(place::INCARNATION) else { return };
        // Odd already where a process died while it laid the board out.
        let changing = incarnation.load(Ordering::Relaxed).wrapping_add(1) | 1;
        incarnation.store(changing, Ordering::Relaxed);
        super::sync::fence(Ordering::Release);
        change(words);
        incarnation.store(changing.wrapping_add(1), Ordering::Release);
    }

    /// The word of the control area at which a new row of `T` begins, entered into the directory.
    fn find_room<T: RowOf>(&self, index: u16) -> Option<usize> {
        let mut laid_out = self.laid_out.lock().unwrap_or_else(PoisonError::into_inner);
        let table = self.table::<T>(&mut laid_out)?;
        let at = laid_out.free;
        let end = at + T::COLUMNS.len().next_multiple_of(LINE_WORDS);
        if end > WORDS || laid_out.rows == ROWS_MAX {
            return None;
        }
        let words = self.words();
        words[place::ROW_HEADS + laid_out.rows].store(row_head(table, index, at), Ordering::Relaxed);
        laid_out.rows += 1;
        laid_out.free = end;
        words[place::ROWS].store(laid_out.rows as u64, Ordering::Release);
        Some(self.control.layout.board + at)
    }

    /// The number of the table that `T` describes, its names written down the first time.
    fn table<T: RowOf>(&self, laid_out: &mut LaidOut) -> Option<usize> {
        if let Some(table) = laid_out.tables.iter().position(|name| *name == T::TABLE) {
            return Some(table);
        }
        let table = laid_out.tables.len();
        let names_at = laid_out.free;
        let end = (names_at + T::COLUMNS.len() * COLUMN_WORDS).next_multiple_of(LINE_WORDS);
        if table == TABLES_MAX || end > WORDS {
            return None;
        }
        let words = self.words();
        for (column, words) in T::COLUMNS.iter().zip(words[names_at..end].chunks_exact(COLUMN_WORDS)) {
            words[0].store(column.kind as u64, Ordering::Relaxed);
            write_text(&words[COLUMN_NAME..], column.name);
        }
        let head = &words[place::TABLE_HEADS + table * TABLE_WORDS..][..TABLE_WORDS];
        write_text(&head[..TABLE_NAME_WORDS], T::TABLE);
        head[TABLE_COLUMNS].store(T::COLUMNS.len() as u64, Ordering::Relaxed);
        head[TABLE_NAMES_AT].store(names_at as u64, Ordering::Relaxed);
        laid_out.tables.push(T::TABLE);
        laid_out.free = end;
        words[place::TABLES].store(laid_out.tables.len() as u64, Ordering::Release);
        Some(table)
    }

    fn words(&self) -> &[AtomicU64] {
        self.control.board()
    }
}

/// A row's head: table, whose row, and the word of the area at which it begins.
fn row_head(table: usize, index: u16, at: usize) -> u64 {
    table as u64 | u64::from(index) << 16 | (at as u64) << 32
}

/// Writes a text: its length in bytes in the first word, then the bytes; what does not fit is left out.
fn write_text(words: &[AtomicU64], text: &str) {
    let Some((len, words)) = words.split_first() else { return };
    let bytes = &text.as_bytes()[..text.len().min(words.len() * 8)];
    for (word, bytes) in words.iter().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(eight), Ordering::Relaxed);
    }
    len.store(bytes.len() as u64, Ordering::Relaxed);
}

/// Reads a text. It may go to a terminal: whatever is not a printable ASCII character is a `?`.
fn read_text(words: &[AtomicU64]) -> String {
    let Some((len, words)) = words.split_first() else { return String::new() };
    let len = len.load(Ordering::Relaxed).min(words.len() as u64 * 8) as usize;
    let bytes = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
    let shown = |byte: u8| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '?' };
    bytes.take(len).map(shown).collect()
}
