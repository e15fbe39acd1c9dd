//! The bytes on their way out.
//!
//! A file is hashed again while it is sent, and its last piece is held back until the digest agrees: a file that
//! changed meanwhile ends in an aborted request, never in a wrong copy on a platform.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::source::{Held, OpenSource};
use crate::model::{ByteStream, Digest};

/// Piece size: large enough that a piece costs nothing, small enough that twenty uploads at once stay small.
const PIECE_BYTES: u64 = 256 * 1024;

/// Counts the bytes of one transfer; cheap to read from anywhere.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Bytes handed to the network so far in the current attempt.
    pub fn sent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn restart(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl OpenSource {
    /// The bytes as a stream of exactly `self.size`, for one attempt at sending them.
    ///
    /// The stream fails with `InvalidData` before its last piece when they no longer have `digest`.
    pub fn stream(&self, digest: Digest, progress: Progress) -> ByteStream {
        progress.restart();
        match &self.held {
            Held::Memory(bytes) => stream_bytes(bytes.clone(), progress),
            Held::File(file) => stream_file(file.clone(), self.size, digest, progress),
        }
    }
}

fn stream_bytes(bytes: Bytes, progress: Progress) -> ByteStream {
    let pieces = stream::unfold(bytes, move |mut rest| {
        let progress = progress.clone();
        async move {
            if rest.is_empty() {
                return None;
            }
            let piece = rest.split_to(rest.len().min(PIECE_BYTES as usize));
            progress.add(piece.len() as u64);
            Some((Ok(piece), rest))
        }
    });
    pieces.boxed()
}

struct Reading {
    file: Arc<File>,
    offset: u64,
    size: u64,
    hasher: Sha256,
    digest: Digest,
}

fn stream_file(file: Arc<File>, size: u64, digest: Digest, progress: Progress) -> ByteStream {
    let reading = Reading { file, offset: 0, size, hasher: Sha256::new(), digest };
    let pieces = stream::try_unfold(reading, move |reading| {
        let progress = progress.clone();
        async move {
            if reading.offset == reading.size {
                return Ok(None);
            }
            let (piece, reading) =
                tokio::task::spawn_blocking(|| reading.next_piece()).await.map_err(io::Error::other)??;
            progress.add(piece.len() as u64);
            Ok(Some((piece, reading)))
        }
    });
    pieces.boxed()
}

impl Reading {
    fn next_piece(mut self) -> io::Result<(Bytes, Reading)> {
        let mut piece = vec![0; (self.size - self.offset).min(PIECE_BYTES) as usize];
        self.file.read_exact_at(&mut piece, self.offset)?;
        self.hasher.update(&piece);
        self.offset += piece.len() as u64;
        if self.offset == self.size {
            self.check()?;
        }
        Ok((piece.into(), self))
    }

    fn check(&self) -> io::Result<()> {
        let same = self.hasher.clone().finalize()[..] == self.digest.0 && self.file.metadata()?.len() == self.size;
        match same {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::InvalidData, "the file changed while it was being sent")),
        }
    }
}
