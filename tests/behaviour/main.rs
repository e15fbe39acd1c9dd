//! The core's behaviour, through its public Rust API: real SQLite, real HTTP against the simulator.
#![allow(clippy::unwrap_used)]

mod a_year;
mod adoption;
mod aftermath;
mod audit;
mod choose;
mod circuit_breaker;
mod config;
mod databases;
mod error_tables;
mod failpoints;
mod fault_proxy;
mod interrupted;
mod killed;
mod maintenance;
mod oauth;
mod platform;
mod postgres_trouble;
mod queries;
mod recovery;
mod redis_server;
mod registry;
mod resilience;
mod shared_state;
mod simulator;
mod store;
mod tool_tables;
mod upload;
mod world;
