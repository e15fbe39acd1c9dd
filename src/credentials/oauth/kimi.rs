//! What Kimi Code's clients tell its login server about the device (platform_api.md §3.3).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::draft::Draft;

/// This machine, as Kimi Code knows it.
#[derive(Clone, Debug)]
pub struct KimiDevice {
    id_file: Option<PathBuf>,
}

impl KimiDevice {
    /// `id_file` keeps its id, and is made when that is first needed; without one, it is another each time.
    pub fn new(id_file: Option<PathBuf>) -> Self {
        KimiDevice { id_file }
    }

    /// Names and values; characters that no header may have are left out when they are sent.
    pub(super) fn headers(&self) -> [(&'static str, String); 6] {
        let system = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        [
            ("x-msh-platform", "kimi_cli".to_owned()),
            ("x-msh-version", env!("CARGO_PKG_VERSION").to_owned()),
            ("x-msh-device-name", text(system.nodename())),
            ("x-msh-device-model", format!("{} {}", text(system.sysname()), text(system.machine()))),
            ("x-msh-os-version", text(system.release())),
            ("x-msh-device-id", device_id(self.id_file.as_deref())),
        ]
    }
}

fn device_id(file: Option<&Path>) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let Some(file) = file else { return id };
    let kept = || std::fs::read_to_string(file).ok().map(|id| id.trim().to_owned()).filter(|id| is_id(id));
    kept().unwrap_or_else(|| match keep(file, &id) {
        Ok(()) => id,
        Err(_) => kept().unwrap_or(id),
    })
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn keep(file: &Path, id: &str) -> std::io::Result<()> {
    let mut draft = Draft::of(file, 0o600)?;
    writeln!(draft.file(), "{id}")?;
    draft.publish_new()
}
