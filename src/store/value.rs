//! What goes into statements and comes out of rows, the same for both databases.
//!
//! SQLite keeps times as whole microseconds, identifiers and JSON as text, flags as 0 and 1; PostgreSQL has a type for
//! each, so each value says which it is.

use std::borrow::Cow;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// The type of a value, for those that are absent too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Bool,
    Time,
    Id,
    Json,
}

/// A statement's parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'v> {
    Null(Kind),
    Int(i64),
    Text(Cow<'v, str>),
    Bool(bool),
    Time(Timestamp),
    Id(Cow<'v, str>),
    Json(Cow<'v, str>),
}

impl Value<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Value::Null(kind) => *kind,
            Value::Int(_) => Kind::Int,
            Value::Text(_) => Kind::Text,
            Value::Bool(_) => Kind::Bool,
            Value::Time(_) => Kind::Time,
            Value::Id(_) => Kind::Id,
            Value::Json(_) => Kind::Json,
        }
    }
}

/// A UUID, as text.
#[derive(Clone, Copy, Debug)]
pub struct Id<'v>(pub &'v str);

/// A JSON document, as text.
#[derive(Clone, Copy, Debug)]
pub struct Json<'v>(pub &'v str);

/// What may be absent from a statement.
pub trait Typed {
    const KIND: Kind;
}

macro_rules! values {
    ($($from:ty, $kind:ident, $name:ident => $value:expr;)*) => {
        $(
            impl<'v> From<$from> for Value<'v> {
                fn from($name: $from) -> Self {
                    Value::$kind($value)
                }
            }

            impl<'v> Typed for $from {
                const KIND: Kind = Kind::$kind;
            }
        )*
    };
}

values! {
    i64, Int, number => number;
    i32, Int, number => number.into();
    u32, Int, number => number.into();
    u64, Int, number => i64::try_from(number).unwrap_or(i64::MAX);
    bool, Bool, flag => flag;
    Timestamp, Time, at => at;
    &'v str, Text, text => Cow::Borrowed(text);
    &'v String, Text, text => Cow::Borrowed(text);
    String, Text, text => Cow::Owned(text);
    Id<'v>, Id, id => Cow::Borrowed(id.0);
    Json<'v>, Json, json => Cow::Borrowed(json.0);
}

impl<'v, T: Typed + Into<Value<'v>>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null(T::KIND), Into::into)
    }
}

/// The parameters of a statement: `?1`, `?2` and so on.
#[macro_export]
#[doc(hidden)]
macro_rules! bind {
    ($($value:expr),* $(,)?) => { &[$($crate::store::Value::from($value)),*] };
}
pub use bind;

/// One column of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
    Bool(bool),
    Time(Timestamp),
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub(super) Vec<Cell>);

impl Row {
    /// The column at `index`, from 0.
    ///
    /// # Errors
    /// `Registry` when it holds something else: another program wrote it.
    pub fn get<T: FromCell>(&self, index: usize) -> Result<T> {
        let cell = self.0.get(index).unwrap_or(&Cell::Null);
        T::from_cell(cell).ok_or_else(|| {
            Error::new(ErrorKind::Registry, format!("the registry holds {cell:?} where that cannot be"))
                .with_hint("something else wrote to it; restore it from a backup")
        })
    }
}

/// What a column may be read as.
pub trait FromCell: Sized {
    fn from_cell(cell: &Cell) -> Option<Self>;
}

impl FromCell for i64 {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Int(number) => Some(*number),
            _ => None,
        }
    }
}

impl FromCell for u64 {
    fn from_cell(cell: &Cell) -> Option<Self> {
        i64::from_cell(cell).and_then(|number| u64::try_from(number).ok())
    }
}

impl FromCell for bool {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Bool(flag) => Some(*flag),
            Cell::Int(number) => Some(*number != 0),
            _ => None,
        }
    }
}

impl FromCell for String {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Text(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl FromCell for Timestamp {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Time(at) => Some(*at),
            Cell::Int(micros) => Some(Timestamp(*micros)),
            _ => None,
        }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: &Cell) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}
