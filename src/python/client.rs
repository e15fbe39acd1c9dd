//! The client as Python holds it: one method per verb, each one line of translation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::auth::PyAuth;
use super::convert::{Answer, to_py, value};
use super::errors::raise;
use super::keyring::Keyring;
use super::keys::givers;
use super::pending::Pending;
use super::runtime;
use super::table::Table;
use super::tool_tables::ToolTables;
use super::transfers::TransferList;
use super::upkeep::{self, Audit, Copies, Lifecycle, Recovery, Watch};
use crate::auth::Auth;
use crate::config::{Config, Sources};
use crate::connect::{Connected, capabilities, connect};
use crate::content::Source;
use crate::credentials::KeyGiver;
use crate::error::{Error, ErrorKind};
use crate::manager::{Content, EnsureRequest, Manager, Transfers, UploadRequest};
use crate::model::{AccountId, Actor, Digest, HoldKind, Keep, Operation, PlatformId};
use crate::policy::quota::WhenFull;
use crate::registry::FileFilter;
use crate::resilience::{Lane, Mode};
use crate::upkeep::{ReconcileRequest, WatchRequest, check_file, reconcile, status};

/// A commented configuration file with every setting.
#[pyfunction]
pub(super) fn config_example() -> String {
    Config::example()
}

#[pyclass(frozen, module = "exai_files._core")]
pub(super) struct Client {
    manager: Arc<Manager>,
    auth: Arc<Auth>,
    config: Config,
    deadline: Duration,
}

type Answered<T> = std::result::Result<T, Error>;

fn platform_ids(names: &[String]) -> Answered<Vec<PlatformId>> {
    names.iter().map(|name| PlatformId::new(name)).collect()
}

fn platform_id(name: Option<&str>) -> Answered<Option<PlatformId>> {
    name.map(PlatformId::new).transpose()
}

fn content(content: Content) -> Answer {
    let data = json!({"platform": content.platform, "kind": content.kind, "text": content.text});
    Answer::Content { data, bytes: content.bytes }
}

fn named_operation(name: Option<&str>) -> Answered<Option<Operation>> {
    let Some(name) = name else { return Ok(None) };
    let named = Operation::ALL.into_iter().find(|operation| operation.as_str() == name);
    named.map(Some).ok_or_else(|| {
        Error::new(ErrorKind::InvalidRequest, format!("there is no operation {name:?}"))
            .with_hint("there are upload, list, get, content and delete")
    })
}

/// What Python gives as JSON, checked.
pub(super) fn given<T: DeserializeOwned>(json: &str) -> Answered<T> {
    serde_json::from_str(json).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Error::new(ErrorKind::InvalidRequest, what.to_owned()).with_hint("see the documentation of the call")
    })
}

fn source(path: Option<PathBuf>, data: Option<PyBackedBytes>, is_spool: bool) -> Source {
    match (path, data) {
        (Some(path), _) if is_spool => Source::Spool(path),
        (Some(path), _) => Source::Path(path),
        (None, Some(data)) => Source::Bytes(Bytes::from_owner(data)),
        (None, None) => Source::Bytes(Bytes::new()),
    }
}

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST).min(LONGEST)
}

impl Client {
    /// Turns a bad argument into the error that awaiting the call gives, so that both faces raise at one place.
    fn pending<F>(&self, work: Answered<F>) -> Pending
    where
        F: Future<Output = Answered<Answer>> + Send + 'static,
    {
        let manager = self.manager.clone();
        Pending::new(async move { manager.until_closed(work?).await })
    }

    /// `None`: as it is; endless: for ever; else so many seconds from now.
    fn keep(&self, keep_for: Option<f64>) -> Keep {
        upkeep::keep(&self.manager, keep_for)
    }

    fn within(&self, seconds: Option<f64>) -> Answered<Duration> {
        seconds.map_or(Ok(self.deadline), timeout)
    }
}

/// As long as any call may take: more cannot be added to a clock everywhere.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) fn timeout(seconds: f64) -> Answered<Duration> {
    let within = Duration::try_from_secs_f64(seconds).ok().filter(|within| !within.is_zero() && *within <= LONGEST);
    within.ok_or_else(|| {
        Error::new(ErrorKind::InvalidRequest, format!("a timeout of {seconds} s is not possible"))
            .with_hint("give a positive number of seconds, or a timedelta")
    })
}

/// The configuration, with settings given in the call.
pub(super) fn configured(
    file: Option<PathBuf>,
    env: BTreeMap<String, String>,
    overrides_json: &str,
    givers: BTreeMap<String, Arc<dyn KeyGiver>>,
) -> crate::error::Result<Config> {
    let overrides: Value = serde_json::from_str(overrides_json).map_err(|error| {
        Error::new(ErrorKind::Config, "the settings given in the call are not JSON").with_source(error)
    })?;
    Config::load(Sources { file, env, overrides, givers })
}

#[pymethods]
impl Client {
    /// Reads the configuration and opens the registry.
    #[new]
    #[pyo3(signature = (config_file, environment, overrides_json, key_functions, keyring))]
    fn new(
        py: Python<'_>,
        config_file: Option<PathBuf>,
        environment: BTreeMap<String, String>,
        overrides_json: &str,
        key_functions: BTreeMap<String, Py<PyAny>>,
        keyring: Py<PyAny>,
    ) -> PyResult<Self> {
        let givers = givers(py, key_functions);
        let opened = py.detach(|| {
            let config = configured(config_file, environment, overrides_json, givers)?;
            let connected = connect(&config, Some(Arc::new(Keyring(keyring))))?;
            Ok((config, connected))
        });
        runtime::raised(py)?;
        let (config, Connected { manager, auth }) = opened.map_err(|error| raise(py, &error))?;
        let manager = Arc::new(manager);
        if let Some(every) = config.duration("recovery.every").filter(|every| !every.is_zero()) {
            upkeep::recover_regularly(&manager, every)?;
        }
        Ok(Client { manager, auth: Arc::new(auth), deadline: config.deadline, config })
    }

    /// Every setting with its value (secrets withheld) and where it came from.
    fn settings(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let settings = value(&self.config.settings()).map_err(|error| raise(py, &error))?;
        to_py(py, &settings)
    }

    /// The same client, on behalf of an `Actor`.
    fn acting_as(&self, py: Python<'_>, actor_json: &str) -> PyResult<Self> {
        let manager = given::<Actor>(actor_json).and_then(|actor| self.manager.acting_as(actor));
        let manager = Arc::new(manager.map_err(|error| raise(py, &error))?);
        Ok(Client { manager, auth: self.auth.clone(), config: self.config.clone(), deadline: self.deadline })
    }

    /// Whom a user's token names.
    fn verify(&self, py: Python<'_>, token: Option<&str>) -> PyResult<Py<PyAny>> {
        let actor = py.detach(|| self.auth.verify(token).and_then(|actor| value(&actor)));
        to_py(py, &actor.map_err(|error| raise(py, &error))?)
    }

    /// What a user has on the platforms and may have; whoever calls, where none is named.
    fn quota(&self, user: Option<String>) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.quota_of(user.as_deref()).await?) }))
    }

    fn auth(&self) -> PyAuth {
        PyAuth { manager: self.manager.clone(), auth: self.auth.clone() }
    }

    /// What a platform can do, connected or not.
    fn capabilities(&self, py: Python<'_>, platform: &str) -> PyResult<Py<PyAny>> {
        let known = capabilities(&self.config, platform).and_then(|known| value(&known));
        to_py(py, &known.map_err(|error| raise(py, &error))?)
    }

    #[pyo3(signature = (*, path, data, is_spool, name, to, prefer, account, purpose, owner, labels_json, paranoid, bulk, min_ttl, keep_for, when_full, timeout, transfers))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one call, named on both sides")]
    fn upload(
        &self,
        path: Option<PathBuf>,
        data: Option<PyBackedBytes>,
        is_spool: bool,
        name: Option<String>,
        to: Vec<String>,
        prefer: Option<Vec<String>>,
        account: Option<&str>,
        purpose: Option<String>,
        owner: Option<String>,
        labels_json: &str,
        paranoid: bool,
        bulk: bool,
        min_ttl: f64,
        keep_for: Option<f64>,
        when_full: Option<&str>,
        timeout: Option<f64>,
        transfers: &TransferList,
    ) -> Pending {
        let (manager, transfers) = (self.manager.clone(), transfers.0.clone());
        let request = self.within(timeout).and_then(|deadline| {
            let prefer = prefer.as_deref().map(platform_ids).transpose()?;
            let request = UploadRequest {
                name,
                to: platform_ids(&to)?,
                account: account.map(AccountId::new),
                purpose,
                owner,
                labels: given(labels_json)?,
                paranoid,
                min_ttl: (min_ttl > 0.0).then(|| seconds(min_ttl)),
                keep: self.keep(keep_for),
                when_full: when_full.map(WhenFull::parse).transpose()?,
                lane: if bulk { Lane::Bulk } else { Lane::Interactive },
                ..UploadRequest::new(source(path, data, is_spool), deadline)
            };
            Ok((request, prefer))
        });
        self.pending(request.map(|(request, prefer)| async move {
            let Some(prefer) = prefer else { return Answer::of(&manager.upload(request, &transfers).await?) };
            let (record, choice) = manager.upload_to_any(request, &prefer, &transfers).await?;
            let mut record = value(&record)?;
            record["choice"] = value(&choice)?;
            Ok(Answer::Data(record))
        }))
    }

    /// `prefer`: to any one platform, these first.
    #[pyo3(signature = (*, path, data, is_spool, name, to, prefer, account, purpose, when_full))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one call, named on both sides")]
    fn plan(
        &self,
        path: Option<PathBuf>,
        data: Option<PyBackedBytes>,
        is_spool: bool,
        name: Option<String>,
        to: Vec<String>,
        prefer: Option<Vec<String>>,
        account: Option<&str>,
        purpose: Option<String>,
        when_full: Option<&str>,
    ) -> Pending {
        let manager = self.manager.clone();
        let request = platform_ids(&to).and_then(|to| {
            let request = UploadRequest {
                name,
                to,
                account: account.map(AccountId::new),
                purpose,
                when_full: when_full.map(WhenFull::parse).transpose()?,
                ..UploadRequest::new(source(path, data, is_spool), self.deadline)
            };
            Ok((request, prefer.as_deref().map(platform_ids).transpose()?))
        });
        self.pending(request.map(|(request, prefer)| async move {
            match prefer {
                Some(prefer) => Answer::of(&manager.plan_for_any(&request, &prefer).await?),
                None => Answer::of(&manager.plan(&request).await?),
            }
        }))
    }

    /// A page of files; the filter has the fields of `FileFilter`.
    fn list(&self, filter_json: &str, after: Option<&str>, limit: u32) -> Pending {
        let manager = self.manager.clone();
        let filter = given::<FileFilter>(filter_json).and_then(|filter| {
            let after = after.map(str::parse::<Digest>).transpose()?;
            Ok(FileFilter { after, limit, ..filter })
        });
        self.pending(filter.map(|filter| async move { Answer::of(&manager.list(filter).await?) }))
    }

    /// All of them, as a table for dataframes.
    fn table(&self, filter_json: &str) -> Pending {
        let manager = self.manager.clone();
        let filter = given::<FileFilter>(filter_json);
        self.pending(filter.map(|filter| async move { Ok(Answer::Table(Table::of_files(&manager, filter).await?)) }))
    }

    fn label(&self, reference: String, labels_json: &str) -> Pending {
        let manager = self.manager.clone();
        let labels = given(labels_json);
        self.pending(labels.map(|labels| async move { Answer::of(&manager.label(&reference, labels).await?) }))
    }

    fn trash(&self, reference: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.trash(&reference).await?) }))
    }

    fn restore(&self, reference: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.restore(&reference).await?) }))
    }

    fn list_remote(&self, platform: &str, account: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let account = account.map(AccountId::new);
        let asked = PlatformId::new(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Answer::of(&manager.list_remote(&platform, account.as_ref(), within).await?)
        }))
    }

    fn get_remote(&self, platform: &str, id: String, account: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let account = account.map(AccountId::new);
        let asked = PlatformId::new(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Answer::of(&manager.get_remote(&platform, &id, account.as_ref(), within).await?)
        }))
    }

    fn content_remote(&self, platform: &str, id: String, account: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let account = account.map(AccountId::new);
        let asked = PlatformId::new(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            manager.content_remote(&platform, &id, account.as_ref(), within).await.map(content)
        }))
    }

    fn delete_remote(&self, platform: &str, id: String, account: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let account = account.map(AccountId::new);
        let asked = PlatformId::new(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Answer::of(&manager.delete_remote(&platform, &id, account.as_ref(), within).await?)
        }))
    }

    fn get(&self, reference: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.get(&reference).await?) }))
    }

    #[pyo3(signature = (reference, *, platform, purpose, max_age, min_ttl, when_full, timeout, transfers))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one call, named on both sides")]
    fn ensure(
        &self,
        reference: String,
        platform: &str,
        purpose: Option<String>,
        max_age: f64,
        min_ttl: f64,
        when_full: Option<&str>,
        timeout: Option<f64>,
        transfers: &TransferList,
    ) -> Pending {
        let (manager, transfers) = (self.manager.clone(), transfers.0.clone());
        let request = PlatformId::new(platform).and_then(|platform| {
            let (max_age, min_ttl) = (seconds(max_age), seconds(min_ttl));
            let when_full = when_full.map(WhenFull::parse).transpose()?;
            let request = EnsureRequest::new(platform, self.within(timeout)?);
            Ok(EnsureRequest { purpose, max_age, min_ttl, when_full, ..request })
        });
        self.pending(
            request.map(|request| async move { Answer::of(&manager.ensure(&reference, request, &transfers).await?) }),
        )
    }

    #[pyo3(signature = (reference, *, to, from_, purpose, when_full, timeout, transfers))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of one call, named on both sides")]
    fn relocate(
        &self,
        reference: String,
        to: &str,
        from_: &str,
        purpose: Option<String>,
        when_full: Option<&str>,
        timeout: Option<f64>,
        transfers: &TransferList,
    ) -> Pending {
        let (manager, transfers) = (self.manager.clone(), transfers.0.clone());
        let asked = platform_ids(&[from_.to_owned(), to.to_owned()]).and_then(|places| {
            let when_full = when_full.map(WhenFull::parse).transpose()?;
            let request = EnsureRequest::new(places[1].clone(), self.within(timeout)?);
            Ok((places[0].clone(), EnsureRequest { purpose, when_full, ..request }))
        });
        self.pending(asked.map(|(from, request)| async move {
            Answer::of(&manager.relocate(&reference, &from, request, &transfers).await?)
        }))
    }

    fn content(&self, reference: String, platform: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let asked = platform_id(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            manager.content(&reference, platform.as_ref(), within).await.map(content)
        }))
    }

    fn text(&self, reference: String, platform: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let asked = platform_id(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Ok(Answer::Data(Value::String(manager.text(&reference, platform.as_ref(), within).await?)))
        }))
    }

    fn download(&self, reference: String, to: PathBuf, platform: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let asked = platform_id(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Answer::of(&manager.download(&reference, &to, platform.as_ref(), within).await?)
        }))
    }

    fn delete(&self, reference: String, platform: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let asked = platform_id(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Answer::of(&manager.delete(&reference, platform.as_ref(), within).await?)
        }))
    }

    /// The request has the fields of `ReconcileRequest`.
    fn reconcile(&self, request_json: &str, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let asked = given::<ReconcileRequest>(request_json).and_then(|request| Ok((request, self.within(timeout)?)));
        self.pending(
            asked.map(|(request, within)| async move { Answer::of(&reconcile(&manager, &request, within).await?) }),
        )
    }

    fn recovery(&self) -> Recovery {
        Recovery(self.manager.clone())
    }

    fn tool_tables(&self) -> ToolTables {
        ToolTables::new(self.manager.clone(), self.config.clone())
    }

    fn status(&self) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&status(&manager).await?) }))
    }

    /// The request has the fields of `WatchRequest`.
    fn watch(&self, py: Python<'_>, request_json: &str) -> PyResult<Watch> {
        let request = given::<WatchRequest>(request_json).map_err(|error| raise(py, &error))?;
        let watch = Arc::new(tokio::sync::Mutex::new(crate::upkeep::Watch::new(request)));
        Ok(Watch { manager: self.manager.clone(), watch })
    }

    /// Keeps a file on a platform for so many seconds; gives the replica and the lease.
    fn lease(
        &self,
        reference: String,
        platform: &str,
        purpose: Option<String>,
        life: f64,
        timeout: Option<f64>,
    ) -> Pending {
        let manager = self.manager.clone();
        let request = PlatformId::new(platform)
            .and_then(|platform| Ok(EnsureRequest { purpose, ..EnsureRequest::new(platform, self.within(timeout)?) }));
        self.pending(request.map(|request| async move {
            let (replica, hold) = manager.lease(&reference, request, seconds(life), &Transfers::default()).await?;
            Ok(Answer::Data(json!({"replica": value(&replica)?, "hold": value(&hold)?})))
        }))
    }

    fn hold(&self, reference: String, kind: &str, reason: Option<String>) -> Pending {
        let (manager, kind) = (self.manager.clone(), HoldKind::parse(kind));
        self.pending(kind.map(|kind| async move { Answer::of(&manager.hold(&reference, kind, reason).await?) }))
    }

    fn holds(&self, reference: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.holds(&reference).await?) }))
    }

    /// `life`: seconds from now.
    fn extend_lease(&self, id: String, life: f64) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.extend_lease(&id, seconds(life)).await?) }))
    }

    fn release(&self, id: String) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.registry().release(&id).await?) }))
    }

    fn lifecycle(&self) -> Lifecycle {
        Lifecycle { manager: self.manager.clone(), deadline: self.deadline }
    }

    fn wait_ready(&self, reference: String, platform: Option<&str>, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let asked = platform_id(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Answer::of(&manager.wait_ready(&reference, platform.as_ref(), within).await?)
        }))
    }

    fn check(&self, reference: String, platform: Option<&str>, read: bool, timeout: Option<f64>) -> Pending {
        let manager = self.manager.clone();
        let asked = platform_id(platform).and_then(|platform| Ok((platform, self.within(timeout)?)));
        self.pending(asked.map(|(platform, within)| async move {
            Answer::of(&check_file(&manager, &reference, platform.as_ref(), read, within).await?)
        }))
    }

    fn copies(&self) -> Copies {
        Copies(self.manager.clone())
    }

    fn audit(&self) -> Audit {
        Audit(self.manager.clone())
    }

    fn health(&self) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.health().await) }))
    }

    fn set_breaker(&self, platform: &str, operation: Option<&str>, mode: &str) -> Pending {
        let manager = self.manager.clone();
        let asked = PlatformId::new(platform).and_then(|platform| {
            let mode = Mode::parse(mode).ok_or_else(|| {
                Error::new(ErrorKind::InvalidRequest, format!("a circuit breaker cannot be {mode:?}"))
                    .with_hint("it can be automatic, forced-open, disabled or metrics-only")
            })?;
            Ok((platform, named_operation(operation)?, mode))
        });
        self.pending(asked.map(|(platform, operation, mode)| async move {
            Answer::of(&manager.set_breaker(&platform, operation, mode).await?)
        }))
    }

    fn reset_breaker(&self, platform: &str, operation: Option<&str>) -> Pending {
        let manager = self.manager.clone();
        let asked = PlatformId::new(platform).and_then(|platform| Ok((platform, named_operation(operation)?)));
        self.pending(asked.map(|(platform, operation)| async move {
            Answer::of(&manager.reset_breaker(&platform, operation).await?)
        }))
    }

    fn platforms(&self) -> Pending {
        let manager = self.manager.clone();
        self.pending(Ok(async move { Answer::of(&manager.platforms().await?) }))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        // In a forked child there is nobody to ask.
        if let Ok(runtime) = runtime::handle() {
            py.detach(|| runtime.block_on(self.manager.close()));
        }
        runtime::raised(py)
    }
}
