//! Pure decisions: of what is known, what was asked for, and the time. Nothing here asks or changes anything.

pub mod quota;
pub mod retention;
pub mod token;
pub mod user_quota;
