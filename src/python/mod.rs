//! The Python border, and the only folder that knows Python: nothing here but translation.
//!
//! Every operation is written once and returned as a [`Pending`](pending::Pending), which Python awaits or waits
//! for; records cross as plain dictionaries, which the typed front (`python/exai_files`) turns into dataclasses.

mod auth;
mod client;
mod convert;
mod database;
mod errors;
mod guards;
mod keyring;
mod keys;
mod pending;
mod runtime;
#[cfg(feature = "simulator")]
mod simulator;
mod table;
mod tool_tables;
mod transfers;
mod upkeep;

use pyo3::prelude::*;

/// A process that runs for weeks must give back what it does not need. The C library keeps, for each of a dozen threads,
/// about as much as was ever needed there: in `benches/soak.py` 435 MiB after 290,000 calls, and rising, where this one
/// goes up and down around 210.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[pymodule(name = "_core", gil_used = true)]
fn core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::transport::install_crypto();
    runtime::forward_logs(module.py())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add(
        "__all__",
        [
            "Audit",
            "Auth",
            "CircuitBreaker",
            "Client",
            "Copies",
            "Database",
            "Lifecycle",
            "Limiter",
            "Pending",
            "Permit",
            "Recovery",
            "Simulator",
            "State",
            "Table",
            "ToolTables",
            "Transfers",
            "Watch",
            "config_example",
            "error_kinds",
            "metrics_text",
            "reset_logging",
            "shutdown",
        ],
    )?;
    module.add_class::<client::Client>()?;
    module.add_class::<transfers::TransferList>()?;
    module.add_class::<database::Database>()?;
    module.add_class::<upkeep::Audit>()?;
    module.add_class::<auth::PyAuth>()?;
    module.add_class::<upkeep::Copies>()?;
    module.add_class::<upkeep::Lifecycle>()?;
    module.add_class::<upkeep::Recovery>()?;
    module.add_class::<upkeep::Watch>()?;
    module.add_class::<pending::Pending>()?;
    module.add_class::<guards::State>()?;
    module.add_class::<guards::CircuitBreaker>()?;
    module.add_class::<guards::Limiter>()?;
    module.add_class::<guards::Permit>()?;
    module.add_class::<table::Table>()?;
    module.add_class::<tool_tables::ToolTables>()?;
    #[cfg(feature = "simulator")]
    module.add_class::<simulator::Simulator>()?;
    module.add_function(wrap_pyfunction!(client::config_example, module)?)?;
    module.add_function(wrap_pyfunction!(errors::error_kinds, module)?)?;
    module.add_function(wrap_pyfunction!(metrics_text, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::reset_logging, module)?)?;
    module.add_function(wrap_pyfunction!(runtime::shutdown, module)?)?;
    let at_exit = module.py().import("atexit")?;
    at_exit.call_method1("register", (module.getattr("shutdown")?,))?;
    Ok(())
}

/// Every metric of this process, in the OpenMetrics text format.
#[pyfunction]
fn metrics_text() -> String {
    crate::metrics::metrics().text()
}
