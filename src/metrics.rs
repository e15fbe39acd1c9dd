//! What happened, counted: one Prometheus registry for the process, its names and labels in one table.
//!
//! Labels take few values: platforms, accounts by their configured names, operations, words. Never a file, user or
//! path.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// One account of a platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Account {
    pub platform: String,
    pub account_alias: String,
}

/// One kind of request of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Requests {
    pub platform: String,
    pub account_alias: String,
    pub operation: &'static str,
}

/// How requests of one kind ended: "success", or the kind of the error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcomes {
    pub platform: String,
    pub account_alias: String,
    pub operation: &'static str,
    pub outcome: &'static str,
}

/// Why a platform was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Choices {
    pub platform: String,
    pub because: &'static str,
}

/// What a circuit breaker went over to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Transitions {
    pub breaker: String,
    pub to: &'static str,
}

/// One circuit breaker, such as "moonshot default upload".
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Named {
    pub breaker: String,
}

/// What an account holds that ends within a time: "day" or "week".
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Within {
    pub platform: String,
    pub account_alias: String,
    pub within: &'static str,
}

/// What watchers tell, such as "lost".
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Notices {
    pub event: &'static str,
}

/// Every metric there is.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub requests: Family<Outcomes, Counter>,
    pub request_duration: Family<Requests, Histogram>,
    pub retries: Family<Account, Counter>,
    pub retries_refused: Family<Account, Counter>,
    pub retry_budget: Family<Account, Gauge>,
    pub limiter_wait: Family<Account, Histogram>,
    pub queue_depth: Family<Account, Gauge>,
    pub breaker_state: Family<Named, Gauge>,
    pub breaker_transitions: Family<Transitions, Counter>,
    pub late_results: Family<Named, Counter>,
    pub upload_bytes: Family<Account, Counter>,
    pub dedupe_hits: Family<Account, Counter>,
    pub choices: Family<Choices, Counter>,
    pub state_lost: Counter,
    /// As the registry knew it at the last look, here and below.
    pub files: Family<Account, Gauge>,
    pub bytes: Family<Account, Gauge>,
    /// 0 where nothing is published.
    pub most_files: Family<Account, Gauge>,
    pub expiring: Family<Within, Gauge>,
    pub unfinished: Gauge,
    pub given_up: Gauge,
    pub unsigned_records: Gauge,
    /// Seconds since 1970; 0 where there is none.
    pub last_checkpoint: Gauge,
    pub notices: Family<Notices, Counter>,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// This process' metrics.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("exai_files");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version of exai-files", Info::new(version));
        let mut metrics = Metrics {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(seconds),
            retries: Family::default(),
            retries_refused: Family::default(),
            retry_budget: Family::default(),
            limiter_wait: Family::new_with_constructor(seconds),
            queue_depth: Family::default(),
            breaker_state: Family::default(),
            breaker_transitions: Family::default(),
            late_results: Family::default(),
            upload_bytes: Family::default(),
            dedupe_hits: Family::default(),
            choices: Family::default(),
            state_lost: Counter::default(),
            files: Family::default(),
            bytes: Family::default(),
            most_files: Family::default(),
            expiring: Family::default(),
            unfinished: Gauge::default(),
            given_up: Gauge::default(),
            unsigned_records: Gauge::default(),
            last_checkpoint: Gauge::default(),
            notices: Family::default(),
            registry,
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("requests", "Requests sent to platforms, by how they ended", self.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "From a request's leave to its whole answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register("retries", "Failed requests that were repeated", self.retries.clone());
        registry.register(
            "retries_refused",
            "Failed requests the retry budget left no repeating of",
            self.retries_refused.clone(),
        );
        registry.register("retry_budget_tokens", "Tokens left in this process' bucket", self.retry_budget.clone());
        registry.register_with_unit(
            "limiter_wait",
            "What requests waited for the account's pace",
            Unit::Seconds,
            self.limiter_wait.clone(),
        );
        registry.register("queue_depth", "Requests that wait for room or for their turn", self.queue_depth.clone());
        registry.register(
            "breaker_state",
            "0 closed, 1 half-open, 2 open, 3 forced open, 4 disabled, 5 metrics only",
            self.breaker_state.clone(),
        );
        registry.register(
            "breaker_transitions",
            "Changes of state, by the state gone over to",
            self.breaker_transitions.clone(),
        );
        registry.register("breaker_late_results", "Results that came too late to count", self.late_results.clone());
        registry.register("upload_bytes", "Bytes of files that platforms took", self.upload_bytes.clone());
        registry.register("dedupe_hits", "Uploads that sent nothing: the file was there", self.dedupe_hits.clone());
        registry.register("choices", "Platforms chosen for uploads to any, and why", self.choices.clone());
        registry.register("shared_state_lost", "Times that the shared state was out of reach", self.state_lost.clone());
        self.register_figures();
    }

    /// What `status` and watchers see.
    fn register_figures(&mut self) {
        let registry = &mut self.registry;
        registry.register("account_files", "Files that an account holds", self.files.clone());
        registry.register("account_bytes", "Bytes that it holds", self.bytes.clone());
        registry.register("account_max_files", "Files that it may hold; 0 for any number", self.most_files.clone());
        registry.register(
            "expiring_files",
            "Files that a platform drops within a day or a week",
            self.expiring.clone(),
        );
        registry.register("unfinished", "Uploads and deletes that were cut short", self.unfinished.clone());
        registry.register("given_up", "Those of them that were given up", self.given_up.clone());
        registry.register("audit_unsigned_records", "Records since the last checkpoint", self.unsigned_records.clone());
        registry.register_with_unit(
            "audit_last_checkpoint_timestamp",
            "When it was made, since 1970; 0 for never",
            Unit::Seconds,
            self.last_checkpoint.clone(),
        );
        registry.register("notices", "What watchers told, by event", self.notices.clone());
    }

    /// All of it, in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Requests {
    pub fn ended(&self, outcome: &'static str) -> Outcomes {
        let Requests { platform, account_alias, operation } = self.clone();
        Outcomes { platform, account_alias, operation, outcome }
    }
}

impl Account {
    pub fn requests(&self, operation: &'static str) -> Requests {
        let Account { platform, account_alias } = self.clone();
        Requests { platform, account_alias, operation }
    }

    /// So that counts begin at nothing, not at nowhere.
    pub fn begin(&self) {
        let all = metrics();
        let counters = [&all.retries, &all.retries_refused, &all.upload_bytes, &all.dedupe_hits];
        counters.into_iter().for_each(|family| drop(family.get_or_create(self)));
        [&all.retry_budget, &all.queue_depth].into_iter().for_each(|family| drop(family.get_or_create(self)));
        drop(all.limiter_wait.get_or_create(self));
    }

    /// Counts one that waits for as long as the answer is kept.
    pub fn waiting(&self) -> Waiting {
        let gauge = metrics().queue_depth.get_or_create(self).clone();
        gauge.inc();
        Waiting(gauge)
    }
}

/// One that waits.
#[derive(Debug)]
pub struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// From a millisecond to half an hour.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 11))
}

/// Notes a duration.
pub fn observe(histogram: &Histogram, took: Duration) {
    histogram.observe(took.as_secs_f64());
}

/// Shows how many there are.
pub fn set(gauge: &Gauge, count: u64) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}
