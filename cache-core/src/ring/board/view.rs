//! The board as an observer reads it: by name, and without trust. Every place and length that the file states is held
//! against the area first; what does not fit is left out.

use super::super::sync::{AtomicU64, Ordering, fence, load_acquire};
use super::counters::Kind;
use super::facts::{self, NodeView};
use super::{
    COLUMN_NAME, COLUMN_WORDS, ROWS_MAX, TABLE_COLUMNS, TABLE_NAME_WORDS, TABLE_NAMES_AT, TABLE_WORDS, TABLES_MAX,
    WORDS, place, read_text,
};

/// Most columns of a table that are read (our guess: several times as many as anything has).
const COLUMNS_MAX: u64 = 1024;

/// A board at some moment. The numbers were read one by one while their writers went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardView {
    /// Another one means another owner, whose counters began at 0, or that facts have changed.
    pub incarnation: u64,
    /// The node.
    pub node: NodeView,
    /// The rows, in the order in which they were made.
    pub rows: Vec<RowView>,
    /// Writers whose rows found no room.
    pub rows_unseen: u64,
}

/// One writer's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowView {
    /// The kind of writer: `shard`, `control`.
    pub table: String,
    /// Which of them.
    pub index: u32,
    /// Name, kind and value of each number.
    pub values: Vec<(String, Kind, u64)>,
}

impl RowView {
    /// The number called `name`; `None` when this writer has none.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values.iter().find(|(known, ..)| known == name).map(|(.., value)| *value)
    }
}

impl BoardView {
    /// Reads the board; `None` while it is being laid out or changed.
    pub(in super::super) fn read(words: &[AtomicU64]) -> Option<BoardView> {
        if words.len() < WORDS || WORDS == 0 {
            return None;
        }
        let incarnation = load_acquire(&words[place::INCARNATION]);
        let tables = load_acquire(&words[place::TABLES]).min(TABLES_MAX as u64) as usize;
        let tables: Vec<_> = (0..tables).map(|table| read_table(words, table)).collect();
        // After the tables: a row's table was there before the row.
        let rows = load_acquire(&words[place::ROWS]).min(ROWS_MAX as u64) as usize;
        let rows =
            (0..rows).filter_map(|row| read_row(words, &tables, words[place::ROW_HEADS + row].load(Ordering::Relaxed)));
        let view = BoardView {
            incarnation,
            rows: rows.collect(),
            node: facts::read(&words[place::FACTS..place::FACTS_END]),
            rows_unseen: words[place::ROWS_UNSEEN].load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        let still = words[place::INCARNATION].load(Ordering::Relaxed) == incarnation;
        (still && incarnation.is_multiple_of(2)).then_some(view)
    }

    /// The rows of a table, in the order of their writers' numbers.
    pub fn table<'a>(&'a self, table: &str) -> Vec<&'a RowView> {
        let mut rows: Vec<_> = self.rows.iter().filter(|row| row.table == table).collect();
        rows.sort_by_key(|row| row.index);
        rows
    }
}

struct Table {
    name: String,
    columns: Vec<(String, Kind)>,
}

/// A table; `None` when its head makes no sense.
fn read_table(words: &[AtomicU64], table: usize) -> Option<Table> {
    let head = words.get(place::TABLE_HEADS + table * TABLE_WORDS..)?.get(..TABLE_WORDS)?;
    let columns = head[TABLE_COLUMNS].load(Ordering::Relaxed);
    if columns > COLUMNS_MAX {
        return None;
    }
    let names = space(words, head[TABLE_NAMES_AT].load(Ordering::Relaxed), columns as usize * COLUMN_WORDS)?;
    let column = |words: &[AtomicU64]| {
        let gauge = words[0].load(Ordering::Relaxed) == Kind::Gauge as u64;
        (read_text(&words[COLUMN_NAME..]), if gauge { Kind::Gauge } else { Kind::Counter })
    };
    let columns = names.chunks_exact(COLUMN_WORDS).map(column).collect();
    Some(Table { name: read_text(&head[..TABLE_NAME_WORDS]), columns })
}

/// The row whose head is `head`; `None` when that makes no sense.
fn read_row(words: &[AtomicU64], tables: &[Option<Table>], head: u64) -> Option<RowView> {
    let table = tables.get(head as u16 as usize)?.as_ref()?;
    let row = space(words, head >> 32, table.columns.len())?;
    let value =
        |((name, kind), word): (&(String, Kind), &AtomicU64)| (name.clone(), *kind, word.load(Ordering::Relaxed));
    let values = table.columns.iter().zip(row).map(value).collect();
    Some(RowView { table: table.name.clone(), index: (head >> 16) as u16 as u32, values })
}

/// `len` words at `at`, if all of them are where names and rows may be.
fn space(words: &[AtomicU64], at: u64, len: usize) -> Option<&[AtomicU64]> {
    let at = usize::try_from(at).ok().filter(|at| *at >= place::SPACE)?;
    words.get(at..at.checked_add(len)?)
}
