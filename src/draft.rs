//! Files that appear whole or not at all: written beside their place under another name, then moved there.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::Result;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Nobody else calls their files so.
const SUFFIX: &str = ".exai-files-draft";

/// A file on its way to its place; dropped before that, it is gone.
///
/// What a process that was killed left of one is taken over by the next that writes to the same place: who is at it
/// holds a lock.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    /// None once it was moved: another one may have that name by then.
    path: Option<PathBuf>,
    to: PathBuf,
}

impl Draft {
    /// Begins one for `to`, readable as `mode` says.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub(crate) fn of(to: &Path, mode: u32) -> Result<Self> {
        let name = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut open = OpenOptions::new();
        open.read(true).write(true).mode(mode).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let usual = to.with_file_name(format!(".{name}{SUFFIX}"));
        match open.clone().create(true).truncate(false).open(&usual) {
            Ok(file) if is_ours(&file, &usual)? => {
                file.set_permissions(Permissions::from_mode(mode))?;
                file.set_len(0)?;
                return Ok(Draft { file, path: Some(usual), to: to.to_owned() });
            }
            // A link that somebody has put there leads elsewhere.
            Err(error) if error.raw_os_error() != Some(Errno::LOOP.raw_os_error()) => return Err(error),
            _ => {}
        }
        let own = to.with_file_name(format!(".{name}.{}{SUFFIX}", uuid::Uuid::now_v7().simple()));
        Ok(Draft { file: open.create_new(true).open(&own)?, path: Some(own), to: to.to_owned() })
    }

    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Moves it to its place, over what is there. After a power cut it is there whole or not at all.
    ///
    /// # Errors
    /// As the file system's.
    pub(crate) fn publish(mut self) -> Result<()> {
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            std::fs::rename(path, &self.to)?;
        }
        self.path = None;
        sync_folder_of(&self.to)
    }

    /// The same, but never over what is there.
    ///
    /// # Errors
    /// `AlreadyExists`; as the file system's.
    pub(crate) fn publish_new(self) -> Result<()> {
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            std::fs::hard_link(path, &self.to)?;
        }
        sync_folder_of(&self.to)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether we have the lock, and of the file that is there by that name: another process may have moved it away.
fn is_ours(file: &File, path: &Path) -> Result<bool> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(false),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(false) };
    if file.metadata()?.ino() != there.ino() || !there.is_file() {
        return Ok(false);
    }
    if there.nlink() > 1 {
        // It is at its place already; who put it there was killed before this name was gone.
        std::fs::remove_file(path)?;
    }
    Ok(there.nlink() == 1)
}

fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::Draft;

    fn text(path: &std::path::Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_was_left_is_taken_over_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("report");
        std::fs::write(folder.path().join(".report.exai-files-draft"), "of one that was killed, and long").unwrap();
        let mut draft = Draft::of(&to, 0o600).unwrap();
        draft.file().write_all(b"whole").unwrap();
        assert!(!to.exists());
        draft.publish().unwrap();
        assert_eq!(text(&to), "whole");
        drop(Draft::of(&to, 0o600).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_somebody_else_has_put_there_is_neither_followed_nor_shown_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let (to, theirs) = (folder.path().join("report"), folder.path().join("theirs"));
        let usual = folder.path().join(".report.exai-files-draft");
        std::fs::write(&theirs, "theirs").unwrap();
        std::os::unix::fs::symlink(&theirs, &usual).unwrap();
        Draft::of(&to, 0o600).unwrap().publish().unwrap();
        assert_eq!((text(&to).as_str(), text(&theirs).as_str()), ("", "theirs"));
        std::fs::remove_file(&usual).unwrap();
        std::fs::write(&usual, "left, and readable by all").unwrap();
        Draft::of(&to, 0o600).unwrap().publish().unwrap();
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_was_published_is_not_written_to_again() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("report");
        std::fs::write(&to, "published").unwrap();
        std::fs::hard_link(&to, folder.path().join(".report.exai-files-draft")).unwrap();
        let mut draft = Draft::of(&to, 0o600).unwrap();
        draft.file().write_all(b"another").unwrap();
        assert_eq!(text(&to), "published");
        drop(draft);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_at_once_do_not_write_into_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("report");
        let (mut one, mut other) = (Draft::of(&to, 0o600).unwrap(), Draft::of(&to, 0o600).unwrap());
        one.file().write_all(b"one").unwrap();
        other.file().write_all(b"other").unwrap();
        one.publish_new().unwrap();
        assert_eq!(other.publish_new().unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(text(&to), "one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
