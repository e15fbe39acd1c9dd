//! Hand it a file once, and each AI platform you name has it, exactly once, for as long as you said.
//!
//! The line an upload takes (`manager::upload`, `manager::send`):
//!
//! ```text
//! content::source      open the path once; refuse what is no regular, non-empty file inside the root
//! platform             is it too large for every purpose? which purpose? refuse before a byte is sent
//! registry::sources    unchanged since it was last hashed? else one pass: size, type, digest
//! registry::find       live replicas of this digest: these targets drop out
//!   ── per target, concurrently ──
//! blobs                keep a copy, where copies are kept
//! registry::intend     journal "about to put D on T"; claims D, so that two callers send once
//! resilience::admit    is the platform well? the account's pace and room, within the call's deadline
//! platform::upload     one request, streamed, hashed again on its way; what went wrong says how far it got
//! manager::orphan      after a lost reply: look for it on the platform, adopt it or send again
//! registry::settle     bind the replica, close the intent and note it in the audit log, in one transaction
//!   ──
//! → FileRecord, or the error of the only target, or PartialUpload { record, failures }
//! ```
//!
//! Whatever is cut short above is finished or undone by whoever looks next (`upkeep::recover`).
//!
//! Modules, from the bottom: words (`error`, `clock`, `model`), parts (`content`, `transport`, `store`, `blobs`),
//! `resilience` and `credentials`, sources of truth (`platform`, `audit`, `registry`), jobs (`manager`), those that time asks for
//! (`upkeep`), edges (`config`,
//! `connect`, `python`, `simulator`). Imports point down; `tests/layering.rs` holds the rule as data.

pub mod audit;
pub mod auth;
pub mod blobs;
pub mod clock;
pub mod config;
pub mod connect;
pub mod content;
pub mod credentials;
mod draft;
pub mod error;
mod failpoint;
pub mod manager;
pub mod metrics;
pub mod model;
pub mod platform;
pub mod policy;
pub mod registry;
pub mod resilience;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod store;
pub mod transport;
pub mod upkeep;

#[cfg(feature = "python")]
mod python;
