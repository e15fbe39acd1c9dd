//! Reads a `multipart/form-data` body that is in memory. Part order is free; part types are optional.

use bytes::Bytes;
use memchr::memmem;

/// A form's parts.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub fields: Vec<(String, String)>,
    pub file: Option<FilePart>,
}

#[derive(Debug)]
pub(super) struct FilePart {
    pub filename: String,
    pub content_type: Option<String>,
    pub bytes: Bytes,
}

impl Form {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// # Errors
/// What is wrong with the body, for people.
pub(super) fn parse(content_type: &str, body: &Bytes) -> Result<Form, String> {
    let boundary = boundary(content_type).ok_or("the request is no multipart/form-data with a boundary")?;
    let (first, delimiter) = (format!("--{boundary}"), format!("\r\n--{boundary}"));
    if !body.starts_with(first.as_bytes()) {
        return Err("the body does not begin with its boundary".into());
    }
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let mut form = Form::default();
    let mut at = first.len();
    while !body[at..].starts_with(b"--") {
        let start = at + body[at..].iter().take_while(|byte| **byte != b'\n').count() + 1;
        let rest = body.get(start..).ok_or("the body ends inside a boundary")?;
        let end = start + finder.find(rest).ok_or("the body ends inside a part")?;
        read_part(&body.slice(start..end), &mut form)?;
        at = end + delimiter.len();
    }
    Ok(form)
}

fn boundary(content_type: &str) -> Option<String> {
    if !content_type.to_ascii_lowercase().starts_with("multipart/form-data") {
        return None;
    }
    let at = content_type.find("boundary=")? + "boundary=".len();
    let value = content_type[at..].split(';').next()?.trim().trim_matches('"');
    (!value.is_empty()).then(|| value.to_owned())
}

fn read_part(part: &Bytes, form: &mut Form) -> Result<(), String> {
    let head_end = memmem::find(part, b"\r\n\r\n").ok_or("a part has no end of headers")?;
    let head = std::str::from_utf8(&part[..head_end]).map_err(|_| "a part's headers are not UTF-8")?;
    let bytes = part.slice(head_end + 4..);
    let (mut disposition, mut content_type) = (None, None);
    for line in head.split("\r\n") {
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-disposition") => disposition = Some(value),
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => {
                content_type = Some(value.trim().to_owned())
            }
            _ => {}
        }
    }
    let disposition = disposition.ok_or("a part has no Content-Disposition")?;
    let name = parameter(disposition, "name").ok_or("a part has no name")?;
    // `filename` is preferred; `filename*` is accepted although RFC 7578 forbids it in forms.
    match parameter(disposition, "filename").or_else(|| extended(disposition)) {
        Some(filename) if name == "file" => form.file = Some(FilePart { filename, content_type, bytes }),
        Some(_) => return Err(format!("the file is in a part named {name:?}, not \"file\"")),
        None => form.fields.push((name, String::from_utf8_lossy(&bytes).into_owned())),
    }
    Ok(())
}

fn parameter(disposition: &str, name: &str) -> Option<String> {
    let wanted = format!("{name}=\"");
    let at = disposition
        .match_indices(&wanted)
        .map(|(at, _)| at)
        .find(|at| *at == 0 || " ;\t".contains(&disposition[at - 1..*at]))?;
    let rest = &disposition[at + wanted.len()..];
    Some(rest[..rest.find('"')?].replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"))
}

fn extended(disposition: &str) -> Option<String> {
    let at = disposition.to_ascii_lowercase().find("filename*=utf-8''")? + "filename*=utf-8''".len();
    let encoded = disposition[at..].split(';').next()?.trim();
    let mut bytes = Vec::new();
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => u8::from_str_radix(&format!("{}{}", rest.next()? as char, rest.next()? as char), 16).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
