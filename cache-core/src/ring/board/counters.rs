//! Counters, rows of them, and the macro that declares a row.

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use super::super::control::Control;
use super::super::sync::{AtomicU64, Ordering};

/// Longest name of a counter or gauge, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 40;

/// A number with one writer: no read-modify-write is needed. Anyone may read it at any time. Inlined into other crates: a
/// call would cost four times as much as the counting (measured: 2.0 ns called, 0.5 ns in place).
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds; by its one writer only, or what another adds at the same time is lost. It wraps around.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// One more; by its one writer only.
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }

    /// Sets a gauge; by its one writer only.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// What a number means to who compares two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, from 0 at the node's start: differences are rates.
    Counter = 0,
    /// A level.
    Gauge = 1,
}

impl Kind {
    /// What stands behind a counter's name where it is declared: nothing, or `Gauge`.
    #[doc(hidden)]
    pub const fn declared(kind: &str) -> Kind {
        match kind.as_bytes() {
            b"" => Kind::Counter,
            b"Gauge" => Kind::Gauge,
            _ => panic!("a counter is declared as `name,`, a gauge as `name: Gauge,`"),
        }
    }
}

/// A number's name and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The name, 1 to 40 ASCII characters.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// What it counts.
    pub what: &'static str,
}

impl Column {
    /// Checked when it is declared.
    #[doc(hidden)]
    pub const fn new(name: &'static str, kind: Kind, what: &'static str) -> Column {
        assert!(name.len() <= NAME_BYTES_MAX && name.is_ascii(), "a counter's name is longer than the board's");
        Column { name, kind, what }
    }
}

/// A struct that is a row of counters. Declared with [`counter_row!`](crate::counter_row).
///
/// # Safety
/// The type consists of `COLUMNS.len()` [`Counter`]s, in their order, and nothing else (`repr(C)`).
pub unsafe trait RowOf: Default {
    /// The table's name, at most 24 bytes.
    const TABLE: &'static str;
    /// Its columns.
    const COLUMNS: &'static [Column];
}

/// One writer's counters, on the board or, when there was no room, alone. Clones are the same row. A counter costs what
/// it would cost in an `Arc`: the row is reached through one pointer.
pub struct Row<T> {
    at: NonNull<T>,
    keep: Keep<T>,
}

/// What keeps a row's memory.
enum Keep<T> {
    Board(Arc<Control>),
    Alone(Arc<T>),
}

// SAFETY: a row gives out `&T` only, to memory that lives as long as the row; `T` is a row of atomics, and `Send` and
// `Sync` are asked of it all the same.
unsafe impl<T: Send + Sync> Send for Row<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Row<T> {}

impl<T: RowOf> Row<T> {
    /// A row that is on no board.
    pub fn alone() -> Row<T> {
        let row = Arc::new(T::default());
        Row { at: NonNull::from(&*row), keep: Keep::Alone(row) }
    }

    /// The row that begins at word `at` of the control area.
    pub(super) fn on_board(control: Arc<Control>, at: usize) -> Row<T> {
        assert!(size_of::<T>() == T::COLUMNS.len() * 8 && align_of::<T>() == 8, "a row is its counters");
        let words = &control.words()[at..at + T::COLUMNS.len()];
        Row { at: NonNull::from(words).cast(), keep: Keep::Board(control) }
    }
}

impl<T> Deref for Row<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `at` points to a `T` of the `Arc` in `keep`, or to as many atomic words of the control area in `keep`
        // as `T` (by the promise of `RowOf`) has counters, each a transparent atomic word, for which any bits will do.
        // Either lives as long as `self`, and is only ever reached through shared references.
        unsafe { self.at.as_ref() }
    }
}

impl<T> Clone for Row<T> {
    fn clone(&self) -> Row<T> {
        let keep = match &self.keep {
            Keep::Board(control) => Keep::Board(control.clone()),
            Keep::Alone(row) => Keep::Alone(row.clone()),
        };
        Row { at: self.at, keep }
    }
}

impl<T: fmt::Debug> fmt::Debug for Row<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Declares a struct that is a row of counters, with the name of its table:
///
/// ```
/// cache_core::counter_row! {
///     /// What a kitchen counts.
///     pub struct Kitchen: "kitchen" {
///         /// Meals cooked.
///         meals,
///         /// Pots on the fire at the moment (gauge).
///         pots: Gauge,
///     }
/// }
/// let kitchen = cache_core::ring::Row::<Kitchen>::alone();
/// kitchen.meals.one();
/// kitchen.each(|name, what, value| println!("{name} {value}: {what}"));
/// ```
#[macro_export]
macro_rules! counter_row {
    (
        $(#[$meta:meta])* $vis:vis struct $row:ident: $table:literal {
            $($(#[doc = $doc:literal])* $name:ident $(: $kind:ident)?,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        #[repr(C)]
        $vis struct $row { $($(#[doc = $doc])* $vis $name: $crate::ring::Counter,)* }

        impl $row {
            /// Every counter's name, what it counts, and its value.
            #[allow(dead_code, reason = "not every row is listed")]
            $vis fn each(&self, mut f: impl FnMut(&'static str, &'static str, u64)) {
                $(f(stringify!($name), concat!($($doc),*), self.$name.get());)*
            }
        }

        // SAFETY: `repr(C)`, and each column stands for one field, a `Counter`.
        unsafe impl $crate::ring::RowOf for $row {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [$crate::ring::Column] = &[$($crate::ring::Column::new(
                stringify!($name),
                $crate::ring::Kind::declared(stringify!($($kind)?)),
                concat!($($doc),*),
            ),)*];
        }
    };
}
