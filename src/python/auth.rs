//! Logging in and out, as Python holds it.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use serde_json::json;

use super::convert::{Answer, to_py, value};
use super::pending::Pending;
use crate::auth::Auth;
use crate::credentials::{DeviceCode, KeySource, MasterKey, Slot};
use crate::error::{Error, ErrorKind, Result};
use crate::manager::Manager;
use crate::model::Secret;

/// Who has a key, from where, and putting one where keys are kept.
#[pyclass(frozen, name = "Auth", module = "exai_files._core")]
pub(super) struct PyAuth {
    pub manager: Arc<Manager>,
    pub auth: Arc<Auth>,
}

impl PyAuth {
    /// Does something about an account, and gives how it then is.
    fn about<F, W>(&self, platform: &str, account: Option<&str>, work: F) -> Pending
    where
        F: FnOnce(Arc<Auth>, Slot) -> W + Send + 'static,
        W: Future<Output = Result<()>> + Send,
    {
        let (manager, auth, slot) = (self.manager.clone(), self.auth.clone(), self.auth.slot(platform, account));
        Pending::new(async move {
            let slot = slot?;
            manager.until_closed(work(auth.clone(), slot.clone())).await?;
            let statuses = statuses(auth, false).await?;
            let mut all = statuses.into_iter();
            let changed =
                all.find(|status| status.platform == slot.platform && status.account.as_ref() == Some(&slot.account));
            Answer::of(&changed)
        })
    }
}

async fn statuses(auth: Arc<Auth>, runs_commands: bool) -> Result<Vec<crate::auth::CredentialStatus>> {
    let looking = tokio::task::spawn_blocking(move || auth.status(runs_commands));
    looking.await.map_err(|_| Error::new(ErrorKind::Cancelled, "the client was closed"))
}

#[pymethods]
impl PyAuth {
    /// Where credentials are looked for, in this order.
    fn order(&self) -> Vec<String> {
        self.auth.order()
    }

    /// How each account comes by its credential; with `runs_commands`, commands are run for that.
    fn status(&self, runs_commands: bool) -> Pending {
        let auth = self.auth.clone();
        Pending::new(async move { Answer::of(&statuses(auth, runs_commands).await?) })
    }

    /// A device login: `tell` is called with what a person has to do.
    fn login(&self, platform: &str, account: Option<&str>, tell: Py<PyAny>) -> Pending {
        self.about(platform, account, async move |auth: Arc<Auth>, slot| {
            let code = auth.begin_login(&slot).await?;
            told(&tell, &code)?;
            auth.finish_login(&slot, code).await.map(drop)
        })
    }

    fn keep_key(&self, platform: &str, account: Option<&str>, key: String) -> Pending {
        let key = Secret::new(key);
        self.about(platform, account, async move |auth: Arc<Auth>, slot| auth.keep_key(&slot, key).await)
    }

    /// Tokens in a file as kimi-cli has it.
    fn keep_tokens(&self, platform: &str, account: Option<&str>, file: PathBuf) -> Pending {
        self.about(platform, account, async move |auth: Arc<Auth>, slot| {
            let reading = tokio::task::spawn_blocking(move || KeySource::File(file).read());
            let json = reading.await.map_err(|_| Error::new(ErrorKind::Cancelled, "the client was closed"))??;
            auth.keep_tokens(&slot, &json).await.map(drop)
        })
    }

    /// Keeps a key that comes from elsewhere now.
    fn take_over(&self, platform: &str, account: Option<&str>) -> Pending {
        self.about(platform, account, async move |auth: Arc<Auth>, slot| auth.take_over(&slot).await.map(drop))
    }

    /// Gives whether anything was kept.
    fn logout(&self, platform: &str, account: Option<&str>) -> Pending {
        let (manager, auth, slot) = (self.manager.clone(), self.auth.clone(), self.auth.slot(platform, account));
        Pending::new(async move {
            let was_there = manager.until_closed(async { auth.log_out(&slot?).await }).await?;
            Ok(Answer::Data(json!(was_there)))
        })
    }

    /// New tokens of a login, now.
    fn renew(&self, platform: &str, account: Option<&str>) -> Pending {
        self.about(platform, account, async move |auth: Arc<Auth>, slot| auth.renew(&slot).await.map(drop))
    }

    /// Seals all that is kept with the key in a file; gives how many there were.
    fn reseal(&self, file: PathBuf) -> Pending {
        let (manager, auth) = (self.manager.clone(), self.auth.clone());
        Pending::new(async move {
            let key = MasterKey::new(KeySource::File(file));
            let count = manager.until_closed(async { auth.reseal(key).await }).await?;
            Ok(Answer::Data(json!(count)))
        })
    }
}

fn told(tell: &Py<PyAny>, code: &DeviceCode) -> Result<()> {
    let said = json!({
        "user_code": code.user_code, "uri": code.uri, "uri_complete": code.uri_complete,
        "expires_at": value(&code.expires_at)?,
    });
    Python::attach(|py| {
        let said = to_py(py, &said)?;
        tell.call1(py, (said,)).map(drop)
    })
    .map_err(|error| Error::new(ErrorKind::Cancelled, "the login's prompt raised an exception").with_source(error))
}
