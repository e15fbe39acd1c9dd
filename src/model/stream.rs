//! Bytes on the move.

use std::io;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

/// A body, piece by piece.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
