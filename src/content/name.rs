//! File names as platforms get to see them.

use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;

/// What common file systems take; Moonshot's beta allows 4,096 (platform_api.md §1A.7), the rest say nothing.
const MAX_NAME_BYTES: usize = 255;

/// Characters of the digest that go into a remote name: 50 bits, enough to tell a thousand files apart for good.
const TAG_CHARS: usize = 10;

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Checks a file name and brings it into Unicode normal form C.
///
/// # Errors
/// `InvalidRequest` for names that are empty, too long, contain a path separator or a character that could forge
/// a header, a log line or a reading direction.
pub fn check_name(name: &str) -> Result<String> {
    let refuse = |why: &str| {
        Err(Error::new(ErrorKind::InvalidRequest, format!("{name:?} cannot be a file name: {why}"))
            .with_hint("give another one with `name`"))
    };
    if name.is_empty() || name == "." || name == ".." {
        return refuse("it names no file");
    }
    if let Some(bad) = name.chars().find(|c| matches!(c, '/' | '\\')) {
        return refuse(&format!("it contains {bad:?}"));
    }
    if name.chars().any(char::is_control) {
        return refuse("it contains a control character");
    }
    if name.chars().any(is_bidi_control) {
        return refuse("it contains a character that reverses the reading direction");
    }
    let name: String = name.nfc().collect();
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            format!("a file name of {} bytes is too long: {MAX_NAME_BYTES} are allowed", name.len()),
        )
        .with_hint("give a shorter one with `name`"));
    }
    Ok(name)
}

/// A name that came from elsewhere, as a file of ours may have it: its last part, if that will do.
pub fn local_name(name: &str) -> Option<String> {
    check_name(name.rsplit(['/', '\\']).next().unwrap_or_default()).ok()
}

fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}')
}

/// The name a file gets on a platform: `report.pdf` → `report~k3x9q2m8ab.pdf`.
///
/// The tag depends on the content alone, so a file whose upload reply was lost can be recognised in a listing,
/// and the same content has the same name every time (which keeps prompt caches warm).
pub fn tagged_name(name: &str, digest: &Digest) -> String {
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let tag = tag(digest);
    let room = MAX_NAME_BYTES.saturating_sub(extension.len() + 1 + tag.len());
    format!("{}~{tag}{extension}", truncate(stem, room))
}

fn tag(digest: &Digest) -> String {
    let head = digest.0[..8].iter().fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    (0..TAG_CHARS).map(|i| BASE32[(head >> (59 - 5 * i)) as usize & 31] as char).collect()
}

/// What a name given by [`tagged_name`] says: the name before it, and how the content's digest begins (12 hexadecimal
/// characters).
pub fn read_tag(remote_name: &str) -> Option<(String, String)> {
    let (stem, rest) = remote_name.rsplit_once('~')?;
    let (tag, rest) = rest.split_at_checked(TAG_CHARS)?;
    if !(rest.is_empty() || rest.starts_with('.') || rest.starts_with(" (")) {
        return None;
    }
    let mut bits = 0_u64;
    for character in tag.bytes() {
        bits = (bits << 5) | BASE32.iter().position(|known| *known == character)? as u64;
    }
    let extension = rest.rfind('.').map_or("", |dot| &rest[dot..]);
    Some((format!("{stem}{extension}"), format!("{:012x}", bits >> (5 * TAG_CHARS - 48))))
}

fn truncate(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_forge_something_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\b", "a\0b", "a\r\nb", "\u{85}", "a\u{202e}fdp.exe"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name(&"x".repeat(256)).is_err());
    }

    #[test]
    fn ordinary_names_pass_in_normal_form() {
        assert_eq!(check_name("报告 \"q\".txt").unwrap(), "报告 \"q\".txt");
        assert_eq!(check_name("e\u{301}.txt").unwrap(), "é.txt");
    }

    #[test]
    fn the_tag_stands_before_the_extension_and_fits() {
        let digest = Digest([7; 32]);
        let tagged = tagged_name("report.pdf", &digest);
        assert!(tagged.starts_with("report~") && tagged.ends_with(".pdf") && tagged.len() == "report.pdf".len() + 11);
        assert!(tagged_name(&format!("{}.pdf", "文".repeat(84)), &digest).len() <= MAX_NAME_BYTES);
        assert!(tagged_name(".profile", &digest).starts_with(".profile~"));
    }

    #[test]
    fn a_tag_tells_how_the_digest_begins() {
        let mut digest = Digest([0; 32]);
        for (at, byte) in digest.0.iter_mut().enumerate() {
            *byte = 0x9f ^ (at as u8).wrapping_mul(31);
        }
        let start = &digest.hex()[..12];
        for name in ["report.pdf", "no extension", "a~b.tar.gz", ".profile"] {
            assert_eq!(read_tag(&tagged_name(name, &digest)), Some((name.to_owned(), start.to_owned())));
        }
        let renamed = tagged_name("report.pdf", &digest).replace(".pdf", " (2).pdf");
        assert_eq!(read_tag(&renamed), Some(("report.pdf".to_owned(), start.to_owned())));
        for name in ["report.pdf", "a~b.pdf", "a~abcdefghi1.pdf", "a~abcdefghijk.pdf", "~", "a~ü23456789ä.pdf"] {
            assert_eq!(read_tag(name), None, "{name}");
        }
    }
}
