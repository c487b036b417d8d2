//! JSON text that a workspace may have sealed at rest. This room only keeps
//! both kinds apart; it has no key.

use sqlx::Row;
use sqlx::postgres::PgRow;

/// What stands in place of a sealed value in its JSON column.
pub(crate) const NOTHING: &str = "null";

/// A value as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON text.
    Clear(String),
    /// The same, sealed for its row.
    Sealed(Vec<u8>),
}

impl Content {
    /// From a JSON column as text, and the column of sealed bytes beside it.
    pub(crate) fn of(row: &PgRow, clear: usize, sealed: usize) -> Result<Self, sqlx::Error> {
        Ok(match row.try_get(sealed)? {
            Some(sealed) => Self::Sealed(sealed),
            None => Self::Clear(row.try_get(clear)?),
        })
    }
}

/// What the JSON column gets.
pub(crate) fn in_the_clear<'a>(json: &'a str, sealed: Option<&[u8]>) -> &'a str {
    if sealed.is_some() { NOTHING } else { json }
}
