//! The existing tool's tables, as the drop-in's classes write and read them.

use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;

use super::client::{given, seconds};
use super::convert::Answer;
use super::pending::Pending;
use crate::config::Config;
use crate::connect::http_options;
use crate::error::Error;
use crate::manager::Manager;
use crate::model::Secret;
use crate::registry::ToolRow;
use crate::upkeep::Mirror;

#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct ToolTables {
    pub(super) manager: Arc<Manager>,
    pub(super) config: Config,
    pub(super) mirror: Arc<OnceLock<Mirror>>,
}

impl ToolTables {
    pub(super) fn new(manager: Arc<Manager>, config: Config) -> Self {
        ToolTables { manager, config, mirror: Arc::default() }
    }

    fn pending<F>(&self, work: F) -> Pending
    where
        F: Future<Output = Result<Answer, Error>> + Send + 'static,
    {
        let manager = self.manager.clone();
        Pending::new(async move { manager.until_closed(work).await })
    }
}

#[pymethods]
impl ToolTables {
    /// Adds a row; gives its id.
    fn add(&self, table: String, row_json: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(async move {
            Answer::of(&manager.registry().add_tool_row(&table, given::<ToolRow>(&row_json)?).await?)
        })
    }

    /// Rows where a column has this value.
    fn find(&self, table: String, column: String, value: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(async move { Answer::of(&manager.registry().tool_rows(&table, &column, &value).await?) })
    }

    /// Where a file of the tool's is.
    fn platforms(&self, file_id: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(async move { Answer::of(&manager.registry().tool_platforms(&file_id).await?) })
    }

    /// Adds a look at a copy; gives its id.
    fn note_health(&self, row_json: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(
            async move { Answer::of(&manager.registry().note_tool_health(given::<ToolRow>(&row_json)?).await?) },
        )
    }

    /// Notes a digest; the file that has had it first, if another one.
    fn note_hash(&self, row_json: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(async move { Answer::of(&manager.registry().note_tool_hash(given::<ToolRow>(&row_json)?).await?) })
    }

    /// From now on, changes go into the outbox of the mirror at this URL.
    fn mirror_to(&self, url: String, key: String) -> Pending {
        let (manager, mirror, http) = (self.manager.clone(), self.mirror.clone(), http_options(&self.config));
        self.pending(async move {
            let made = Mirror::new(&url, Secret::new(key), http)?;
            manager.registry().mirror_tool_rows().await?;
            let _ = mirror.set(made);
            Answer::of(&())
        })
    }

    /// Sends what waits there, or is tried again; None before `mirror_to`.
    fn send(&self, within: f64, again: bool) -> Pending {
        let (manager, mirror, within) = (self.manager.clone(), self.mirror.clone(), seconds(within));
        self.pending(async move {
            if again {
                manager.registry().retry_refused_tool_rows().await?;
            }
            match mirror.get() {
                Some(mirror) => Answer::of(&mirror.send(&manager, within).await?),
                None => Answer::of(&()),
            }
        })
    }
}
