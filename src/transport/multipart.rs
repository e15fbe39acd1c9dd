//! A `multipart/form-data` body of known length.
//!
//! Our own encoder, because a file name with CR or LF in it reaches the wire as it is through reqwest's, where
//! servers read it as header or body (reliability.md §6.6), and because file APIs often refuse chunked bodies.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use rand::Rng as _;

use crate::model::ByteStream;

/// A form: text fields first, then the one file.
pub struct Multipart {
    fields: Vec<(&'static str, String)>,
    file: FilePart,
    boundary: String,
}

/// The file of a form.
pub struct FilePart {
    pub name: String,
    pub mime: String,
    /// Bytes that `body` will give, exactly.
    pub length: u64,
    pub body: ByteStream,
}

impl std::fmt::Debug for Multipart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Multipart({} fields, {:?}, {} bytes)", self.fields.len(), self.file.name, self.file.length)
    }
}

impl std::fmt::Debug for FilePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FilePart({:?}, {} bytes)", self.name, self.length)
    }
}

impl Multipart {
    pub fn new(fields: Vec<(&'static str, String)>, file: FilePart) -> Self {
        Multipart { fields, file, boundary: format!("{:032x}", rand::rng().random::<u128>()) }
    }

    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// Bytes of the whole body.
    pub fn content_length(&self) -> u64 {
        (self.head().len() + self.tail().len()) as u64 + self.file.length
    }

    pub fn into_stream(self) -> ByteStream {
        let (head, tail) = (Bytes::from(self.head()), Bytes::from(self.tail()));
        let around = |piece| stream::iter([Ok(piece)]);
        around(head).chain(self.file.body).chain(around(tail)).boxed()
    }

    fn head(&self) -> String {
        let boundary = &self.boundary;
        let mut head = String::with_capacity(512);
        for (name, value) in &self.fields {
            head += &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        let (name, mime) = (escape(&self.file.name), printable(&self.file.mime));
        head += &format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: {mime}\r\n\r\n"
        );
        head
    }

    fn tail(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }
}

/// The three escapes browsers make (WHATWG "multipart/form-data encoding algorithm"), and no other: names are UTF-8.
fn escape(name: &str) -> String {
    name.replace('\r', "%0D").replace('\n', "%0A").replace('"', "%22")
}

fn printable(mime: &str) -> &str {
    let plain = !mime.is_empty() && mime.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if plain { mime } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(name: &str, bytes: &'static [u8]) -> Multipart {
        let body = stream::iter([Ok(Bytes::from_static(bytes))]).boxed();
        let file = FilePart { name: name.into(), mime: "text/plain".into(), length: bytes.len() as u64, body };
        Multipart::new(vec![("purpose", "file-extract".into())], file)
    }

    async fn encoded(form: Multipart) -> Vec<u8> {
        form.into_stream().map(|piece| piece.unwrap()).collect::<Vec<_>>().await.concat()
    }

    #[tokio::test]
    async fn the_body_is_as_the_official_sdk_sends_it() {
        let form = form("报告 \"q\".txt", b"hello");
        let (boundary, length) = (form.boundary.clone(), form.content_length());
        let body = encoded(form).await;
        assert_eq!(body.len() as u64, length);
        let expected = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfile-extract\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"报告 %22q%22.txt\"\r\nContent-Type: text/plain\r\n\r\n\
             hello\r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_name_cannot_forge_a_header() {
        let body = String::from_utf8(encoded(form("a\r\nContent-Type: evil\r\n\r\nPWNED", b"x")).await).unwrap();
        assert!(body.contains("filename=\"a%0D%0AContent-Type: evil%0D%0A%0D%0APWNED\""));
        assert_eq!(body.matches("Content-Type:").count(), 2, "one real header, one inside the name");
    }
}
