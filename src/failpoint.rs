//! Failpoints: named places where a test has the process killed, makes it panic, or makes the next step fail.
//!
//! `EXAI_FAILPOINT=<name>=<kill|panic|error>` sets one off, the first time it is come by; `EXAI_FAILPOINT=trace` says
//! on standard error which are. Builds without debug assertions, and so everything that is shipped, have none.

use crate::error::Result;

/// # Errors
/// `Registry`, where a test has asked for it.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn failpoint(_part: &str, _moment: &str) -> Result<()> {
    Ok(())
}

/// # Errors
/// `Registry`, where a test has asked for it.
#[cfg(debug_assertions)]
pub(crate) fn failpoint(part: &str, moment: &str) -> Result<()> {
    set::SET.as_ref().map_or(Ok(()), |set| set.come_by(&format!("{part}/{moment}")))
}

#[cfg(debug_assertions)]
mod set {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::error::{Error, ErrorKind, Result};

    pub(super) static SET: LazyLock<Option<Set>> =
        LazyLock::new(|| std::env::var("EXAI_FAILPOINT").ok().map(|set| Set::new(&set)));

    pub(super) struct Set {
        /// None to trace all.
        point: Option<(String, String)>,
        is_spent: AtomicBool,
    }

    impl Set {
        fn new(set: &str) -> Self {
            let point = set.split_once('=').map(|(name, what)| (name.to_owned(), what.to_owned()));
            Set { point, is_spent: AtomicBool::new(false) }
        }

        pub(super) fn come_by(&self, name: &str) -> Result<()> {
            let Some((point, what)) = &self.point else {
                eprintln!("failpoint {name}");
                return Ok(());
            };
            if point != name || self.is_spent.swap(true, Ordering::SeqCst) {
                return Ok(());
            }
            eprintln!("failpoint {name}");
            match what.as_str() {
                "kill" => {
                    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                    unreachable!("killed")
                }
                "panic" => panic!("failpoint {name}"),
                _ => Err(Error::new(ErrorKind::Registry, format!("failpoint {name}"))),
            }
        }
    }
}
