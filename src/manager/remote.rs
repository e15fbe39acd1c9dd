//! Files as platforms have them, by their ids there, whether the registry knows them or not.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::{Connection, Content, Manager};
use crate::audit::Event;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AccountId, ContentKind, FileObject, Operation, PlatformId, Purpose, RemoteStatus, Replica};
use crate::platform::ListQuery;

/// A platform's own description of a file of ours.
#[derive(Debug, Serialize)]
pub struct RemoteListing {
    pub platform: PlatformId,
    pub account: AccountId,
    #[serde(flatten)]
    pub file: FileObject,
}

impl Manager {
    /// Everything `platform` lists for all our accounts, or for one, whether the registry knows it or not.
    ///
    /// # Errors
    /// `Config` when the platform or the account is not connected; the first listing's that fails.
    pub async fn list_remote(
        &self,
        platform: &PlatformId,
        account: Option<&AccountId>,
        within: Duration,
    ) -> Result<Vec<RemoteListing>> {
        let deadline = Instant::now() + within;
        let mut listed = Vec::new();
        for connection in self.accounts_or(platform, account)? {
            let account = connection.platform.account();
            let files = connection.list_all(deadline).await?;
            let here = |file| RemoteListing { platform: platform.clone(), account: account.clone(), file };
            listed.extend(files.into_iter().map(here));
        }
        Ok(listed)
    }

    /// What a platform says of one file, of the first of our accounts that has it, or of this one.
    ///
    /// # Errors
    /// `NotFound`; `Config` when the platform or the account is not connected; the platform's.
    pub async fn get_remote(
        &self,
        platform: &PlatformId,
        id: &str,
        account: Option<&AccountId>,
        within: Duration,
    ) -> Result<RemoteListing> {
        let (connection, file) = self.find_remote(platform, id, account, Instant::now() + within).await?;
        Ok(RemoteListing { platform: platform.clone(), account: connection.platform.account().clone(), file })
    }

    /// What a platform gives back for one file.
    ///
    /// # Errors
    /// As [`get_remote`](Self::get_remote); `Unsupported` where it gives nothing back for the file's purpose.
    pub async fn content_remote(
        &self,
        platform: &PlatformId,
        id: &str,
        account: Option<&AccountId>,
        within: Duration,
    ) -> Result<Content> {
        let deadline = Instant::now() + within;
        let (connection, file) = self.find_remote(platform, id, account, deadline).await?;
        let purpose = file.purpose.unwrap_or_else(|| Purpose::new(""));
        let rule = connection.platform.capabilities().rule(purpose.as_str());
        if rule.is_some_and(|rule| rule.content == ContentKind::Opaque) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{platform} gives nothing back for {purpose} files"),
            )
            .with_hint("take the file from where it came from"));
        }
        let content = connection
            .resilience
            .call(Operation::Content, deadline, || async {
                connection.platform.content(id, &purpose, deadline).await?.collect().await
            })
            .await?;
        Ok(Content { platform: platform.clone(), kind: content.kind, bytes: content.bytes, text: content.text })
    }

    /// Deletes one file by its id. One that the registry knows goes as by [`delete`](Self::delete), and its copies for
    /// other purposes stay.
    ///
    /// # Errors
    /// As [`get_remote`](Self::get_remote), and as `delete`.
    pub async fn delete_remote(
        &self,
        platform: &PlatformId,
        id: &str,
        account: Option<&AccountId>,
        within: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        self.accounts_or(platform, account)?;
        let is_it = |copy: &Replica| {
            copy.platform == *platform && copy.remote_id == id && account.is_none_or(|account| copy.account == *account)
        };
        match self.registry.resolve(id).await {
            Ok(record) if record.replicas.iter().any(is_it) => {
                return self.delete_copies(id, Some(platform), Some(id), within).await.map(drop);
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (connection, _) = self.find_remote(platform, id, account, deadline).await?;
        self.remove(connection, id, deadline).await?;
        self.usage.forget(platform);
        self.registry.tool_copy_is_gone(platform, id).await?;
        let (platform, id, account) = (platform.clone(), id.to_owned(), connection.platform.account().clone());
        self.registry
            .note("delete-remote", move |note| {
                note(&Event {
                    action: "delete",
                    platform: Some(&platform),
                    account: Some(&account),
                    remote_id: Some(&id),
                    reason: Some("by its id"),
                    ..Event::default()
                })
            })
            .await
    }

    async fn find_remote(
        &self,
        platform: &PlatformId,
        id: &str,
        account: Option<&AccountId>,
        deadline: Instant,
    ) -> Result<(&Connection, FileObject)> {
        let mut failure = Error::new(ErrorKind::NotFound, format!("{platform} has no file {id:?}"))
            .with_hint("`list_remote` gives the ids of all it has");
        for connection in self.accounts_or(platform, account)? {
            match self.remote(connection, id, None, deadline).await {
                Ok(file) if file.status != RemoteStatus::Deleted => return Ok((connection, file)),
                // That one account could not be asked says more than that another one has it not.
                Err(error) if failure.kind() == ErrorKind::NotFound => failure = error,
                _ => {}
            }
        }
        Err(failure)
    }

    /// The platform's own description of one file.
    pub(super) async fn remote(
        &self,
        connection: &Connection,
        id: &str,
        purpose: Option<&Purpose>,
        deadline: Instant,
    ) -> Result<FileObject> {
        connection
            .resilience
            .call(Operation::Get, deadline, || async { connection.platform.get(id, purpose, deadline).await })
            .await
    }
}

impl Connection {
    /// Everything the platform lists for this account.
    pub(crate) async fn list_all(&self, deadline: Instant) -> Result<Vec<FileObject>> {
        self.resilience
            .call(Operation::List, deadline, || async { self.platform.list(&ListQuery::default(), deadline).await })
            .await
    }
}
