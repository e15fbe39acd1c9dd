//! Text out of files, as far as tests need it: plain text (UTF-8, GBK), simple PDFs, Office documents.

use std::io::Read as _;

/// The text of a file, or `None` when there is none to be found.
pub(super) fn text(filename: &str, bytes: &[u8]) -> Option<String> {
    let text = if bytes.starts_with(b"%PDF-") {
        pdf(bytes)
    } else if bytes.starts_with(b"PK\x03\x04") {
        office(bytes)?
    } else if bytes.contains(&0) {
        return None;
    } else {
        plain(bytes)
    };
    let _ = filename;
    (!text.trim().is_empty()).then_some(text)
}

fn plain(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{feff}').to_owned(),
        Err(_) => encoding_rs::GBK.decode(bytes).0.into_owned(),
    }
}

/// The strings shown by `Tj` and `TJ`, from streams that are plain or Flate.
fn pdf(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(at) = memchr::memmem::find(rest, b"stream") {
        let head = &rest[..at];
        let body = &rest[at + b"stream".len()..];
        let body = body.strip_prefix(b"\r\n").or(body.strip_prefix(b"\n")).unwrap_or(body);
        let Some(end) = memchr::memmem::find(body, b"endstream") else { break };
        let dictionary = &head[head.len().saturating_sub(512)..];
        let own = memchr::memmem::rfind(dictionary, b" obj").map_or(dictionary, |from| &dictionary[from..]);
        match memchr::memmem::find(own, b"/FlateDecode") {
            Some(_) => shown(&inflate(&body[..end]), &mut text),
            None => shown(&body[..end], &mut text),
        }
        rest = &body[end + b"endstream".len()..];
    }
    text
}

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let _ = flate2::read::ZlibDecoder::new(bytes).take(64 << 20).read_to_end(&mut plain);
    plain
}

/// Text between parentheses inside BT … ET, one line per show operator.
fn shown(stream: &[u8], text: &mut String) {
    if memchr::memmem::find(stream, b"BT").is_none() {
        return;
    }
    let (mut depth, mut escaped, mut line) = (0u32, false, Vec::new());
    for (at, byte) in stream.iter().enumerate() {
        match (depth, byte) {
            (0, b'(') => depth = 1,
            (0, b'T') if matches!(stream.get(at + 1), Some(b'j' | b'J')) && !line.is_empty() => {
                text.push_str(&String::from_utf8_lossy(&std::mem::take(&mut line)));
                text.push('\n');
            }
            (0, _) => {}
            (_, _) if escaped => {
                line.push(if *byte == b'n' { b'\n' } else { *byte });
                escaped = false;
            }
            (_, b'\\') => escaped = true,
            (_, b'(') => depth += 1,
            (1, b')') => depth = 0,
            (_, b')') => depth -= 1,
            (_, byte) => line.push(*byte),
        }
    }
}

/// The text nodes of an Office document's XML parts.
fn office(bytes: &[u8]) -> Option<String> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).ok()?;
    let mut text = String::new();
    for index in 0..archive.len() {
        let part = archive.by_index(index).ok()?;
        let is_content =
            ["word/document", "ppt/slides/slide", "xl/sharedStrings", "xl/worksheets/sheet", "content.xml"]
                .iter()
                .any(|name| part.name().starts_with(name));
        if is_content {
            let mut xml = String::new();
            part.take(64 << 20).read_to_string(&mut xml).ok()?;
            strip_tags(&xml, &mut text);
        }
    }
    Some(text)
}

fn strip_tags(xml: &str, text: &mut String) {
    for piece in xml.split('<').skip(1) {
        let Some((tag, content)) = piece.split_once('>') else { continue };
        if tag.starts_with("/w:p") && tag.len() == 4 || tag.starts_with("/a:p") && tag.len() == 4 {
            text.push('\n');
        }
        text.push_str(&content.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"));
    }
}
