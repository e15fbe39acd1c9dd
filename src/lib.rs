pub mod clock;
pub mod content;
pub mod error;
pub mod model;
pub mod registry;
pub mod resilience;
pub mod store;
