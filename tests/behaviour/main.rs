//! The core's behaviour, through its public Rust API: real SQLite, real HTTP against the simulator.
#![allow(clippy::unwrap_used)]

mod circuit_breaker;
mod config;
mod error_tables;
mod interrupted;
mod platform;
mod registry;
mod resilience;
mod simulator;
mod store;
mod upload;
mod world;
