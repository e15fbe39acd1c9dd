//! Files as an Arrow table: read by pandas, polars, DuckDB and whatever else knows the PyCapsule interface.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, StructBuilder, TimestampMicrosecondBuilder, UInt64Builder};
use arrow_array::ffi::FFI_ArrowSchema;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchIterator};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Manager;
use crate::model::{FileRecord, Replica};
use crate::registry::FileFilter;

/// Files fetched at a time, and of one record batch.
const BATCH: u32 = 5_000;

/// Rows with their schema, handed over without being copied.
#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Table {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Table {
    /// Every file that the filter lets through, newest first: one row each, its replicas as a list of structs.
    pub(super) async fn of_files(manager: &Manager, filter: FileFilter) -> Result<Table> {
        let schema = Arc::new(Schema::new(file_fields()));
        let (mut batches, mut after) = (Vec::new(), None);
        loop {
            let files = manager.list(FileFilter { after, limit: BATCH, ..filter.clone() }).await?;
            let Some(last) = files.last() else { break };
            after = Some(last.digest);
            batches.push(batch(&schema, &files).map_err(unwritable)?);
        }
        Ok(Table { schema, batches })
    }
}

#[pymethods]
impl Table {
    #[getter]
    fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn __len__(&self) -> usize {
        self.num_rows()
    }

    fn __repr__(&self) -> String {
        format!("Table({} files)", self.num_rows())
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(self.schema.as_ref()).map_err(refused)?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }

    /// Another schema than its own may be asked for, and need not be given.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let batches = self.batches.clone().into_iter().map(Ok::<_, ArrowError>);
        let reader = RecordBatchIterator::new(batches, self.schema.clone());
        let stream = FFI_ArrowArrayStream::new(Box::new(reader));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }
}

fn unwritable(error: ArrowError) -> Error {
    Error::new(ErrorKind::Registry, "files cannot be written as a table").with_source(error)
}

fn refused(error: ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

// ===== columns =====

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn moment(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), nullable)
}

fn list(name: &str, item: Field) -> Field {
    Field::new(name, DataType::List(Arc::new(item)), false)
}

fn file_fields() -> Vec<Field> {
    vec![
        text("digest", false),
        text("name", false),
        Field::new("size", DataType::UInt64, false),
        text("mime", false),
        moment("created_at", false),
        text("owner", true),
        list("tags", text("item", false)),
        text("metadata", false),
        moment("trashed_at", true),
        list("replicas", Field::new("item", DataType::Struct(replica_fields()), false)),
    ]
}

fn replica_fields() -> Fields {
    Fields::from(vec![
        text("platform", false),
        text("account", false),
        text("purpose", false),
        text("remote_id", false),
        text("remote_name", false),
        text("status", false),
        text("content", false),
        moment("created_at", false),
        moment("verified_at", false),
        moment("expires_at", true),
    ])
}

// ===== rows =====

fn strings<'f>(files: &'f [FileRecord], of: impl Fn(&'f FileRecord) -> String) -> ArrayRef {
    let mut builder = StringBuilder::new();
    files.iter().for_each(|file| builder.append_value(of(file)));
    Arc::new(builder.finish())
}

fn moments(files: &[FileRecord], of: impl Fn(&FileRecord) -> Option<Timestamp>) -> ArrayRef {
    let mut builder = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    files.iter().for_each(|file| builder.append_option(of(file).map(|at| at.0)));
    Arc::new(builder.finish())
}

fn batch(schema: &SchemaRef, files: &[FileRecord]) -> Result<RecordBatch, ArrowError> {
    let mut sizes = UInt64Builder::new();
    files.iter().for_each(|file| sizes.append_value(file.size));
    let mut owners = StringBuilder::new();
    files.iter().for_each(|file| owners.append_option(file.owner.as_deref()));
    let metadata = |file: &FileRecord| serde_json::Value::Object(file.metadata.clone()).to_string();
    RecordBatch::try_new(
        schema.clone(),
        vec![
            strings(files, |file| file.digest.to_string()),
            strings(files, |file| file.name.clone()),
            Arc::new(sizes.finish()),
            strings(files, |file| file.mime.clone()),
            moments(files, |file| Some(file.created_at)),
            Arc::new(owners.finish()),
            tags(files),
            strings(files, metadata),
            moments(files, |file| file.trashed_at),
            replicas(files),
        ],
    )
}

fn tags(files: &[FileRecord]) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(text("item", false));
    for file in files {
        file.tags.iter().for_each(|tag| builder.values().append_value(tag));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn replicas(files: &[FileRecord]) -> ArrayRef {
    let fields = replica_fields();
    let builder = StructBuilder::from_fields(fields.clone(), files.len());
    let mut builder = ListBuilder::new(builder).with_field(Field::new("item", DataType::Struct(fields), false));
    for file in files {
        file.replicas.iter().for_each(|replica| append(builder.values(), replica));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn append(row: &mut StructBuilder, replica: &Replica) {
    let texts = [
        replica.platform.as_str(),
        replica.account.as_str(),
        replica.purpose.as_str(),
        &replica.remote_id,
        &replica.remote_name,
        replica.status.as_str(),
        replica.content.as_str(),
    ];
    let times = [Some(replica.created_at), Some(replica.verified_at), replica.expires_at];
    for (column, text) in texts.iter().enumerate() {
        if let Some(builder) = row.field_builder::<StringBuilder>(column) {
            builder.append_value(text);
        }
    }
    for (column, at) in times.iter().enumerate() {
        if let Some(builder) = row.field_builder::<TimestampMicrosecondBuilder>(texts.len() + column) {
            builder.append_option(at.map(|at| at.0));
        }
    }
    row.append(true);
}
