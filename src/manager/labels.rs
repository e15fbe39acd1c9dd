//! What people say of files, and the trash.

use super::Manager;
use crate::error::{Error, ErrorKind, Result};
use crate::model::FileRecord;
use crate::registry::Labels;

impl Manager {
    /// Changes tags, metadata or owner of a file.
    ///
    /// # Errors
    /// `NotFound`; `InvalidRequest` when they will not do.
    pub async fn label(&self, reference: &str, labels: Labels) -> Result<FileRecord> {
        labels.check()?;
        let record = self.registry.resolve(reference).await?;
        self.registry.label(&record.digest, labels).await
    }

    /// Puts a file into the trash: its copies stay where they are, and nobody is given them.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn trash(&self, reference: &str) -> Result<FileRecord> {
        let record = self.registry.resolve(reference).await?;
        self.registry.trash(&record.digest).await
    }

    /// Takes a file out of the trash, as it was.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn restore(&self, reference: &str) -> Result<FileRecord> {
        let record = self.registry.resolve(reference).await?;
        self.registry.restore(&record.digest).await
    }

    /// A file that may be used.
    ///
    /// # Errors
    /// `NotFound`, also when it is in the trash.
    pub(super) async fn usable(&self, reference: &str) -> Result<FileRecord> {
        let record = self.registry.resolve(reference).await?;
        match record.trashed_at {
            None => Ok(record),
            Some(at) => {
                Err(Error::new(ErrorKind::NotFound, format!("{:?} has been in the trash since {at}", record.name))
                    .with_hint("restore it, or upload it again"))
            }
        }
    }
}
