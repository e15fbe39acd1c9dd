//! The fault proxy: what each weather does to bytes, and what a client makes of it.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use exai_files::manager::{ManagerOptions, UploadRequest};
use exai_files::simulator::{Drip, FaultProxy, Resets, Side, Traffic, Weather};
use exai_files::transport::Timeouts;

use crate::world::{World, request, seed, upload};

/// Sends back what it gets, to as many as come, until the process ends.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map(Result::unwrap) {
            thread::spawn(move || {
                let _ = io::copy(&mut &client, &mut &client);
                let _ = client.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

fn proxy(weather: Weather) -> FaultProxy {
    let proxy = FaultProxy::start(echo(), seed()).unwrap();
    proxy.set(weather);
    proxy
}

fn connect(proxy: &FaultProxy) -> TcpStream {
    try_connect(proxy).unwrap()
}

/// A prompt reset is an error of connecting already.
fn try_connect(proxy: &FaultProxy) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(proxy.address())?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|number| (number % 251) as u8).collect()
}

/// Sends all of it and says goodbye; what came back, and whether that ended well.
fn talk(proxy: &FaultProxy, sent: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let mut received = Vec::new();
    let mut stream = match try_connect(proxy) {
        Ok(stream) => stream,
        Err(error) => return (received, Err(error)),
    };
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        let sending = scope.spawn(move || writer.write_all(sent).and_then(|()| writer.shutdown(Shutdown::Write)));
        let read = stream.read_to_end(&mut received);
        (received, sending.join().unwrap().and(read.map(drop)))
    })
}

/// Sends without a goodbye, and gets the same back.
fn exchange(stream: &mut TcpStream, sent: &[u8]) {
    stream.write_all(sent).unwrap();
    receive(stream, sent);
}

fn receive(stream: &mut TcpStream, expected: &[u8]) {
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap();
    assert!(received == expected);
}

fn assert_reset(stream: &mut TcpStream) {
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn assert_refused(proxy: &FaultProxy) {
    let read = try_connect(proxy).and_then(|mut stream| stream.read_to_end(&mut Vec::new()));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_clear_sky_passes_a_megabyte_untouched() {
    let (proxy, sent) = (proxy(Weather::default()), bytes(1_000_000));
    let (received, ended) = talk(&proxy, &sent);
    ended.unwrap();
    assert!(received == sent);
    let expected = Traffic { connections: 1, resets: 0, request_bytes: 1_000_000, response_bytes: 1_000_000 };
    assert_eq!(proxy.traffic(), expected);
}

#[test]
fn the_same_seed_gives_the_same_fates() {
    let resets = Some(Resets { share: 0.5, within: 1_000, of: Side::Response });
    let fates = |seed| {
        let proxy = FaultProxy::start(echo(), seed).unwrap();
        proxy.set(Weather { refused: 0.2, resets, ..Weather::default() });
        let fates: Vec<_> = (0..40)
            .map(|_| {
                let (received, ended) = talk(&proxy, &bytes(1_000));
                (received.len(), ended.is_ok())
            })
            .collect();
        assert_eq!(proxy.traffic().resets, fates.iter().filter(|(_, ended_well)| !ended_well).count() as u64);
        fates
    };
    let first = fates(1);
    assert_eq!(first, fates(1));
    assert_ne!(first, fates(2));
    let broken: HashSet<usize> = first.iter().map(|(length, _)| *length).collect();
    assert!(broken.len() > 10, "at many different bytes: {first:?}");
    assert!(first.contains(&(1_000, true)) && first.contains(&(0, false)), "some pass, some are refused: {first:?}");
}

#[test]
fn resets_arrive_as_resets_at_a_byte_within_the_bound() {
    for of in [Side::Request, Side::Response] {
        let proxy = proxy(Weather { resets: Some(Resets { share: 1.0, within: 100, of }), ..Weather::default() });
        for _ in 0..10 {
            let (mut stream, mut received) = (connect(&proxy), Vec::new());
            stream.write_all(&bytes(200)).unwrap();
            assert_eq!(stream.read_to_end(&mut received).unwrap_err().kind(), ErrorKind::ConnectionReset, "{of:?}");
            assert!(received.len() < 100 && bytes(200).starts_with(&received), "{of:?}: {}", received.len());
        }
        assert_eq!((proxy.traffic().connections, proxy.traffic().resets), (10, 10), "{of:?}");
    }
}

#[test]
fn a_server_that_is_down_refuses_new_connections_and_keeps_open_ones() {
    let proxy = proxy(Weather::default());
    let mut open = connect(&proxy);
    exchange(&mut open, b"before");
    proxy.refuse(true);
    assert_refused(&proxy);
    exchange(&mut open, b"meanwhile");
    proxy.refuse(false);
    exchange(&mut connect(&proxy), b"after");
    assert_eq!((proxy.traffic().connections, proxy.traffic().resets), (3, 1));
}

#[test]
fn a_cut_resets_what_is_open_even_if_stalled_and_nothing_later() {
    let proxy = proxy(Weather::default());
    let mut open = [connect(&proxy), connect(&proxy)];
    open.iter_mut().for_each(|stream| exchange(stream, b"hello"));
    proxy.set(Weather { stalled: true, ..Weather::default() });
    open[0].write_all(b"held").unwrap();
    proxy.cut();
    proxy.set(Weather::default());
    open.iter_mut().for_each(assert_reset);
    exchange(&mut connect(&proxy), b"hello");
    assert_eq!((proxy.traffic().connections, proxy.traffic().resets, proxy.traffic().request_bytes), (3, 2, 15));
}

#[test]
fn a_truncated_response_ends_early_without_an_error() {
    let proxy = proxy(Weather { response_ends_after: Some(300), ..Weather::default() });
    for (sent, expected) in [(1_000, 300), (301, 300), (300, 300), (299, 299)] {
        let (mut stream, mut received) = (connect(&proxy), Vec::new());
        stream.write_all(&bytes(sent)).unwrap();
        if sent <= 300 {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        stream.read_to_end(&mut received).unwrap();
        assert!(received == bytes(expected), "{sent}: {}", received.len());
    }
    assert_eq!(proxy.traffic().resets, 0);
}

#[test]
fn a_stall_holds_every_byte_until_it_is_lifted() {
    let proxy = proxy(Weather::default());
    let mut open = connect(&proxy);
    exchange(&mut open, b"before");
    let before = proxy.traffic();
    proxy.set(Weather { stalled: true, ..Weather::default() });
    let mut streams = [open, connect(&proxy)];
    for stream in &mut streams {
        stream.write_all(b"held").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    let during = proxy.traffic();
    assert_eq!((during.request_bytes, during.response_bytes), (before.request_bytes, before.response_bytes));
    proxy.set(Weather::default());
    for stream in &mut streams {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"held");
    }
}

#[test]
fn drops_are_of_the_given_size_and_a_change_of_weather_ends_the_pause() {
    let drip = Some(Drip { bytes: 7, pause: Duration::from_secs(3_600) });
    let (proxy, sent) = (proxy(Weather { drip, ..Weather::default() }), bytes(100_000));
    let mut stream = connect(&proxy);
    stream.write_all(&sent).unwrap();
    receive(&mut stream, &sent[..7]);
    assert_eq!((proxy.traffic().request_bytes, proxy.traffic().response_bytes), (7, 7));
    proxy.set(Weather { drip: Some(Drip { bytes: 1_000, pause: Duration::from_micros(1) }), ..Weather::default() });
    receive(&mut stream, &sent[7..]);
}

#[test]
fn bandwidth_is_what_was_asked_for() {
    let sent = bytes(60_000);
    for of in [Side::Request, Side::Response] {
        let (up, down) = if of == Side::Request { (200_000, 0) } else { (0, 200_000) };
        let slow = Weather { request_bytes_per_second: up, response_bytes_per_second: down, ..Weather::default() };
        let proxy = proxy(slow);
        let took = || {
            let begun = Instant::now();
            let (received, ended) = talk(&proxy, &sent);
            assert!(ended.is_ok() && received == sent);
            begun.elapsed().as_secs_f64() / 0.3
        };
        let shares: Vec<f64> = (0..3).map(|_| took()).collect();
        assert!(shares.iter().all(|share| *share > 0.7), "{of:?}: never faster: {shares:?}");
        // A busy machine may be late, but not each time.
        assert!(shares.iter().any(|share| *share < 1.3), "{of:?}: not much slower: {shares:?}");
    }
}

#[test]
fn latency_delays_bytes_without_thinning_them() {
    let proxy = proxy(Weather { latency: Duration::from_millis(100), ..Weather::default() });
    let begun = Instant::now();
    let (received, ended) = talk(&proxy, &bytes(1_000_000));
    assert!(ended.is_ok() && received == bytes(1_000_000));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_millis(1_500), "{took:?}: a few pieces at a time would take seconds");
}

#[test]
fn ends_and_failures_of_either_side_are_passed_on() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = FaultProxy::start(nobody, seed()).unwrap();
    assert_refused(&proxy);
    assert_eq!(proxy.traffic().resets, 0, "the proxy made none");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap(), seed()).unwrap();
    let mut client = connect(&proxy);
    let (mut server, _) = listener.accept().unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "one half is closed");
    client.write_all(b"still").unwrap();
    receive(&mut server, b"still");
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn dropping_the_proxy_drops_its_connections_and_frees_the_port() {
    let proxy = proxy(Weather::default());
    let (mut open, address) = (connect(&proxy), proxy.address());
    exchange(&mut open, b"hello");
    drop(proxy);
    assert!(matches!(open.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_over_a_network_that_resets_a_fifth_are_stored_exactly_once() {
    // So many bytes that a reset may strike anywhere in the first request or its answer.
    for (of, within) in [(Side::Request, 1_300), (Side::Response, 300)] {
        let world = World::new().behind_proxy();
        let proxy = world.proxy.as_ref().unwrap();
        proxy.set(Weather { resets: Some(Resets { share: 0.2, within, of }), ..Weather::default() });
        let options = ManagerOptions { upload_sends: 10, ..ManagerOptions::default() };
        let manager = Arc::new(world.manager_with(Path::new(":memory:"), options, Timeouts::default()));
        let calls: Vec<_> = (0..48)
            .map(|number: usize| {
                let manager = manager.clone();
                let wanted = request(number.to_be_bytes().repeat(100), "n.txt", &["moonshot"]);
                let wanted = UploadRequest { purpose: Some("image".into()), ..wanted };
                tokio::spawn(async move { upload(&manager, wanted).await.unwrap() })
            })
            .collect();
        let mut bound = HashSet::new();
        for call in calls {
            bound.insert(call.await.unwrap().replicas[0].remote_id.to_string());
        }
        let stored = world.files("moonshot");
        let of_all = |field: &str| -> HashSet<String> {
            stored.iter().map(|file| file[field].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(of_all("id"), bound, "{of:?}: lost or doubled");
        let sent = world.truth("upload").iter().filter(|entry| entry["outcome"] == "stored").count();
        assert_eq!((sent, stored.len(), of_all("sha256").len()), (48, 48, 48), "{of:?}");
        assert!(proxy.traffic().resets > 0, "{of:?}: the faults really fired: {:?}", proxy.traffic());
    }
}
