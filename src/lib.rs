pub mod clock;
pub mod config;
pub mod connect;
pub mod content;
pub mod credentials;
pub mod error;
pub mod manager;
pub mod model;
pub mod platform;
pub mod registry;
pub mod resilience;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod store;
pub mod transport;

#[cfg(feature = "python")]
mod python;
