//! Values on their way to PostgreSQL and back, in its binary format.
//!
//! Its texts have no NUL: what platforms and callers write as one is kept as U+FFFD, and so is looked for.

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

use super::super::value::{Cell, Kind, Row, Value};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

/// From 1970 to 2000, where PostgreSQL's times begin, in µs.
const EPOCH: i64 = 946_684_800_000_000;

impl Kind {
    fn postgres(self) -> Type {
        match self {
            Kind::Int => Type::INT8,
            Kind::Text => Type::TEXT,
            Kind::Bool => Type::BOOL,
            Kind::Time => Type::TIMESTAMPTZ,
            Kind::Id => Type::UUID,
            Kind::Json => Type::JSONB,
        }
    }

    fn postgres_array(self) -> Type {
        match self {
            Kind::Int => Type::INT8_ARRAY,
            Kind::Text => Type::TEXT_ARRAY,
            Kind::Bool => Type::BOOL_ARRAY,
            Kind::Time => Type::TIMESTAMPTZ_ARRAY,
            Kind::Id => Type::UUID_ARRAY,
            Kind::Json => Type::JSONB_ARRAY,
        }
    }
}

pub(super) fn parameters<'v>(values: &'v [Value<'_>]) -> Vec<(&'v (dyn ToSql + Sync), Type)> {
    values.iter().map(|value| (value as &(dyn ToSql + Sync), value.kind().postgres())).collect()
}

/// Rows as one array for each column.
pub(super) fn columns<'v>(rows: &'v [Vec<Value<'v>>]) -> Vec<(Vec<&'v Value<'v>>, Type)> {
    let kinds = rows.first().into_iter().flatten().map(Value::kind);
    let column = |(index, kind): (usize, Kind)| (rows.iter().map(|row| &row[index]).collect(), kind.postgres_array());
    kinds.enumerate().map(column).collect()
}

impl ToSql for Value<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null(_) => return Ok(IsNull::Yes),
            Value::Int(number) => out.put_i64(*number),
            Value::Bool(flag) => out.put_u8((*flag).into()),
            Value::Time(at) => out.put_i64(at.0 - EPOCH),
            Value::Text(text) => out.put_slice(text.replace('\0', "\u{fffd}").as_bytes()),
            Value::Id(id) => out.put_slice(uuid::Uuid::parse_str(id)?.as_bytes()),
            Value::Json(json) => {
                out.put_u8(1); // the version of the format
                out.put_slice(json.replace("\\u0000", "\\ufffd").as_bytes());
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

impl<'r> FromSql<'r> for Cell {
    fn from_sql(ty: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT2 => Cell::Int(i16::from_sql(ty, raw)?.into()),
            Type::INT4 => Cell::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT8 => Cell::Int(i64::from_sql(ty, raw)?),
            Type::FLOAT4 => Cell::Real(f32::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => Cell::Real(f64::from_sql(ty, raw)?),
            Type::BOOL => Cell::Bool(bool::from_sql(ty, raw)?),
            Type::TIMESTAMPTZ | Type::TIMESTAMP => {
                Cell::Time(Timestamp(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH)))
            }
            Type::UUID => Cell::Text(uuid::Uuid::from_slice(raw)?.to_string()),
            Type::JSONB => Cell::Text(std::str::from_utf8(raw.get(1..).unwrap_or_default())?.to_owned()),
            _ => Cell::Text(std::str::from_utf8(raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Cell::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

pub(super) fn row(row: &tokio_postgres::Row) -> Result<Row> {
    let cells = (0..row.len()).map(|index| {
        row.try_get::<_, Cell>(index)
            .map_err(|error| Error::new(ErrorKind::Registry, format!("the registry gave what cannot be read: {error}")))
    });
    Ok(Row(cells.collect::<Result<_>>()?))
}
