//! Where the bytes come from: a path, opened once and identified in one pass, or bytes in memory.
//!
//! The same open file serves every platform it is sent to, so what was checked is what is sent.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::name::check_name;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Digest, Fingerprint, Identity};

/// How much of a file is looked at to tell its type.
const SNIFF_BYTES: usize = 64 * 1024;

/// Read size of the identifying pass.
const READ_BYTES: usize = 256 * 1024;

/// What to upload.
#[derive(Clone, Debug)]
pub enum Source {
    Path(PathBuf),
    Bytes(Bytes),
    /// A temporary file of our own, filled from a stream: no rule for users' files applies, and nobody will find its
    /// bytes there again.
    Spool(PathBuf),
}

/// How local files may be opened.
#[derive(Clone, Debug)]
pub struct SourcePolicy {
    /// When set, nothing outside this directory is read, whatever links say.
    pub root: Option<PathBuf>,
    /// Files up to this many bytes are read once and sent from memory.
    pub memory_limit: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Held {
    Memory(Bytes),
    File(Arc<File>),
}

/// A source that passed the door: a regular, non-empty file (or bytes) with an acceptable name.
#[derive(Clone, Debug)]
pub struct OpenSource {
    pub name: String,
    pub size: u64,
    pub path: Option<PathBuf>,
    pub fingerprint: Option<Fingerprint>,
    pub(super) held: Held,
    memory_limit: u64,
}

impl OpenSource {
    /// Opens `source` under `name` (default: the last part of the path).
    ///
    /// # Errors
    /// `SourceNotFound`, or `InvalidRequest` for directories, FIFOs, devices, sockets, empty files, unreadable
    /// files, paths outside the allowed root and bad names. Nothing has been sent then.
    pub fn open(source: &Source, name: Option<&str>, policy: &SourcePolicy) -> Result<Self> {
        match source {
            Source::Path(path) => Self::open_path(path, name, policy),
            Source::Bytes(bytes) => Self::hold_bytes(bytes.clone(), name, policy),
            Source::Spool(path) => {
                let opened = Self::open_path(path, Some(given(name)?), &SourcePolicy { root: None, ..policy.clone() })?;
                Ok(OpenSource { path: None, fingerprint: None, ..opened })
            }
        }
    }

    fn hold_bytes(bytes: Bytes, name: Option<&str>, policy: &SourcePolicy) -> Result<Self> {
        let name = check_name(given(name)?)?;
        refuse_empty(bytes.len() as u64, &name)?;
        Ok(OpenSource {
            name,
            size: bytes.len() as u64,
            path: None,
            fingerprint: None,
            held: Held::Memory(bytes),
            memory_limit: policy.memory_limit,
        })
    }

    fn open_path(path: &Path, name: Option<&str>, policy: &SourcePolicy) -> Result<Self> {
        let name = check_name(&name.map_or_else(|| last_part(path), |name| Ok(name.to_owned()))?)?;
        let file = open_file(path, policy.root.as_deref()).map_err(|error| cannot_open(path, policy, error))?;
        let metadata = file.metadata().map_err(|error| cannot_open(path, policy, error))?;
        refuse_special(&metadata, path)?;
        refuse_empty(metadata.len(), &name)?;
        Ok(OpenSource {
            name,
            size: metadata.len(),
            path: std::path::absolute(path).ok(),
            fingerprint: Some(fingerprint(&metadata)),
            held: Held::File(Arc::new(file)),
            memory_limit: policy.memory_limit,
        })
    }

    /// Reads the bytes once: digest, size and type. Small files stay in memory for the sending.
    ///
    /// Blocking: run it on a blocking thread.
    ///
    /// # Errors
    /// `SourceChanged` when the file does not hold still meanwhile; `InvalidRequest` when it cannot be read.
    pub fn identify(&mut self) -> Result<Identity> {
        let identity = match &self.held {
            Held::Memory(bytes) => identify_bytes(bytes, &self.name),
            Held::File(file) if self.size <= self.memory_limit => {
                let bytes = read_whole(file, self.size).map_err(|error| self.cannot_read(error))?;
                let identity = identify_bytes(&bytes, &self.name);
                self.held = Held::Memory(bytes);
                identity
            }
            Held::File(file) => identify_file(file, self.size, &self.name).map_err(|error| self.cannot_read(error))?,
        };
        Ok(identity)
    }

    fn cannot_read(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return source_changed(&self.name);
        }
        Error::new(ErrorKind::InvalidRequest, format!("{:?} could not be read: {error}", self.name)).with_source(error)
    }
}

/// The error for a file that changed under our hands.
pub fn source_changed(name: &str) -> Error {
    Error::new(ErrorKind::SourceChanged, format!("{name:?} changed while it was being read"))
        .with_hint("upload it again once nothing writes to it")
}

fn given(name: Option<&str>) -> Result<&str> {
    name.ok_or_else(|| {
        Error::new(ErrorKind::InvalidRequest, "bytes were given without a name")
            .with_hint("give the name platforms shall show with `name`, e.g. \"report.pdf\"")
    })
}

fn last_part(path: &Path) -> Result<String> {
    let part = path.file_name().ok_or_else(|| {
        Error::new(ErrorKind::InvalidRequest, format!("{path:?} names no file")).with_hint("give the path of a file")
    })?;
    part.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(ErrorKind::InvalidRequest, format!("the name of {path:?} is not UTF-8"))
            .with_hint("give the name platforms shall show with `name`")
    })
}

fn refuse_empty(size: u64, name: &str) -> Result<()> {
    if size == 0 {
        return Err(Error::new(ErrorKind::InvalidRequest, format!("{name:?} is empty"))
            .with_hint("platforms refuse files of zero bytes"));
    }
    Ok(())
}

fn refuse_special(metadata: &std::fs::Metadata, path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Error::new(ErrorKind::InvalidRequest, format!("{path:?} is {what}"))
        .with_hint("only regular files are uploaded"))
}

fn cannot_open(path: &Path, policy: &SourcePolicy, error: io::Error) -> Error {
    use rustix::io::Errno;
    let kind = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::SourceNotFound,
        _ => ErrorKind::InvalidRequest,
    };
    let (what, hint) = match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR) => ("there is no such file".to_owned(), "check the path"),
        Some(Errno::ACCESS | Errno::PERM) => ("it may not be read by this user".to_owned(), "check its permissions"),
        Some(Errno::NXIO) => ("it is a socket or a device".to_owned(), "only regular files are uploaded"),
        Some(Errno::LOOP) => ("its links lead in a circle or nowhere".to_owned(), "check where its links lead"),
        Some(Errno::XDEV) => {
            let root = policy.root.as_deref().unwrap_or(Path::new("/"));
            (format!("it lies outside the allowed root {root:?}"), "move it there, or change `upload.root`")
        }
        _ => (error.to_string(), "check the path"),
    };
    Error::new(kind, format!("{path:?} cannot be opened: {what}")).with_hint(hint).with_source(error)
}

/// `O_NONBLOCK` so that a FIFO without a writer does not hang us; it means nothing for regular files.
fn open_file(path: &Path, root: Option<&Path>) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = match root {
        None => rustix::fs::open(path, flags, Mode::empty())?,
        Some(root) => open_beneath(root, path, flags)?,
    };
    Ok(File::from(fd))
}

/// Opens with the kernel's word that no `..` and no link led out of `root`.
#[cfg(target_os = "linux")]
fn open_beneath(root: &Path, path: &Path, flags: rustix::fs::OFlags) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
    let inside = path_inside(root, path)?;
    let directory = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(directory, inside, flags, Mode::empty(), resolve)?)
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(root: &Path, path: &Path, flags: rustix::fs::OFlags) -> io::Result<std::os::fd::OwnedFd> {
    let root = root.canonicalize()?;
    let real = path.canonicalize()?;
    path_inside(&root, &real)?;
    Ok(rustix::fs::open(&real, flags | rustix::fs::OFlags::NOFOLLOW, rustix::fs::Mode::empty())?)
}

fn path_inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let outside = || io::Error::from(rustix::io::Errno::XDEV);
    let root = std::path::absolute(root)?;
    std::path::absolute(path)?.strip_prefix(&root).map(Path::to_owned).map_err(|_| outside())
}

fn fingerprint(metadata: &std::fs::Metadata) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Fingerprint {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        mtime_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn read_whole(file: &File, size: u64) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    match file.metadata()?.len() == size {
        true => Ok(bytes.into()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn identify_bytes(bytes: &Bytes, name: &str) -> Identity {
    Identity {
        digest: Digest(Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
        mime: sniff(&bytes[..bytes.len().min(SNIFF_BYTES)], name),
    }
}

fn identify_file(file: &File, size: u64, name: &str) -> io::Result<Identity> {
    use std::os::unix::fs::FileExt as _;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let (mut offset, mut mime) = (0, None);
    while offset < size {
        let want = usize::try_from(size - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact_at(&mut buffer[..want], offset)?;
        mime.get_or_insert_with(|| sniff(&buffer[..want.min(SNIFF_BYTES)], name));
        hasher.update(&buffer[..want]);
        offset += want as u64;
    }
    match file.metadata()?.len() == size {
        true => Ok(Identity { digest: Digest(hasher.finalize().into()), size, mime: mime.unwrap_or_default() }),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// MIME type from the bytes where they tell, else from the name, else by whether they read as text.
fn sniff(head: &[u8], name: &str) -> String {
    if let Some(kind) = infer::get(head) {
        return kind.mime_type().to_owned();
    }
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    if extension.as_deref() == Some("jsonl") {
        return "application/jsonl".to_owned();
    }
    if let Some(guess) = mime_guess::from_path(name).first() {
        return guess.essence_str().to_owned();
    }
    match head.contains(&0) {
        true => "application/octet-stream".to_owned(),
        false => "text/plain".to_owned(),
    }
}
