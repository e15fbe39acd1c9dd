//! Load for the simulator: small uploads over keep-alive connections, as fast as it takes them.
//!
//! `simulator_load BASE_URL [CONNECTIONS] [UPLOADS]` prints one line. Raw requests, so that the generator costs next
//! to nothing beside the server on the same two cores.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BODY: &str = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nimage\r\n--b\r\nContent-Disposition: form-data; \
                    name=\"file\"; filename=\"small.bin\"\r\nContent-Type: application/octet-stream\r\n\r\nsome small content\r\n--b--\r\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().ok_or("usage: simulator_load BASE_URL [CONNECTIONS] [UPLOADS]")?;
    let connections: usize = arguments.next().map_or(Ok(32), |text| text.parse())?;
    let uploads: usize = arguments.next().map_or(Ok(80_000), |text| text.parse())?;
    let (host, path) = base
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .ok_or("BASE_URL is http://host:port/path")?;
    let request = format!(
        "POST /{path}/files HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer sk-load\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begun = Instant::now();
    runtime.block_on(async {
        let each = uploads / connections;
        let tasks: Vec<_> =
            (0..connections).map(|_| tokio::spawn(send(host.to_owned(), request.clone(), each))).collect();
        for task in tasks {
            task.await.map_err(std::io::Error::other)??;
        }
        std::io::Result::Ok(())
    })?;
    let rate = uploads as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{rate:.0} small uploads/s with keep-alive over {connections} connections, from one load generator in Rust."
    );
    Ok(())
}

async fn send(host: String, request: String, uploads: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0; 4096];
    for _ in 0..uploads {
        stream.write_all(request.as_bytes()).await?;
        let count = stream.read(&mut answer).await?;
        if !answer[..count].starts_with(b"HTTP/1.1 200") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&answer[..count]).into_owned()));
        }
    }
    Ok(())
}
