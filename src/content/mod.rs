//! What happens to bytes before they leave: opened once, identified in one pass, streamed as often as needed.

mod name;
mod source;
mod stream;

pub use name::{check_name, local_name, read_tag, tagged_name};
pub use source::{OpenSource, Source, SourcePolicy, source_changed};
pub use stream::Progress;
