//! The core's behaviour, through its public Rust API: real SQLite, real HTTP against the simulator.
#![allow(clippy::unwrap_used)]

mod config;
mod error_tables;
mod interrupted;
mod platform;
mod registry;
mod simulator;
mod store;
mod upload;
mod world;
