//! Between `SQLite`'s integers, blobs and texts and the types of the wire.

use poste_protocol::{Number, Seq};
use rusqlite::Row;
use rusqlite::types::Type;

use crate::State;

/// Wire integers are at most 2^53 - 1, and times stay far below 2^63.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn uint(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    parsed(row.get::<_, i64>(column)?, Type::Integer, column, u64::try_from)
}

pub(super) fn optional_uint(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<u64>> {
    row.get::<_, Option<i64>>(column)?.map(|value| parsed(value, Type::Integer, column, u64::try_from)).transpose()
}

pub(super) fn seq(row: &Row<'_>, column: &str) -> rusqlite::Result<Seq> {
    parsed(uint(row, column)?, Type::Integer, column, Seq::new)
}

pub(super) fn optional_seq(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Seq>> {
    optional_uint(row, column)?.map(|value| parsed(value, Type::Integer, column, Seq::new)).transpose()
}

pub(super) fn number(row: &Row<'_>, column: &str) -> rusqlite::Result<Number> {
    parsed(uint(row, column)?, Type::Integer, column, Number::new)
}

pub(super) fn text<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    parsed(row.get::<_, String>(column)?, Type::Text, column, |text| text.parse())
}

pub(super) fn optional_text<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    row.get::<_, Option<String>>(column)?.map(|text| parsed(text, Type::Text, column, |text| text.parse())).transpose()
}

/// What is kept as JSON, where there is any.
pub(super) fn json<T: serde::Serialize>(value: Option<&T>) -> Result<Option<String>, crate::StoreError> {
    let json = value.map(serde_json::to_string).transpose();
    json.map_err(|wrong| crate::StoreError::Damaged(wrong.to_string()))
}

pub(super) fn optional_json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    row.get::<_, Option<String>>(column)?
        .map(|text| parsed(text, Type::Text, column, |text| serde_json::from_str(&text)))
        .transpose()
}

fn parsed<V, T, E: std::error::Error + Send + Sync + 'static>(
    value: V,
    kind: Type,
    column: &str,
    parse: impl FnOnce(V) -> Result<T, E>,
) -> rusqlite::Result<T> {
    parse(value).map_err(|wrong| {
        tracing::error!(column, "the account's file holds what it should not");
        rusqlite::Error::FromSqlConversionFailure(0, kind, Box::new(wrong))
    })
}

/// How states are stored: see `schema_1.sql`.
pub(super) fn state_code(state: State) -> i64 {
    match state {
        State::Failed => 0,
        State::Pending => 1,
        State::Sent => 2,
        State::Delivered => 3,
        State::Read => 4,
        State::Received => 9,
    }
}

pub(super) fn state(row: &Row<'_>, column: &str) -> rusqlite::Result<State> {
    Ok(match row.get::<_, i64>(column)? {
        0 => State::Failed,
        1 => State::Pending,
        2 => State::Sent,
        3 => State::Delivered,
        4 => State::Read,
        9 => State::Received,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(0, other)),
    })
}
