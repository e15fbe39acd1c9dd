//! A bad network, on purpose: a TCP proxy that tests put between a client and any server.
//!
//! The faults inside the simulator know HTTP and the platforms; these know bytes alone, so they serve a database as
//! well. What the proxy does is data and may change while it runs. What befalls a connection follows from the seed
//! and the connection's number alone, however threads interleave, so that a failing run can be repeated.
//!
//! Each piece is passed on under the same look at the [`Sky`] that allowed it: once `set` or `cut` has returned,
//! not one more byte moves by the old rules.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::faults::Side;
use super::weather::{Fate, Weather};

/// The most that is read at once, and how many such pieces may be under way in one direction.
const PIECE: usize = 16 * 1024;
const PIECES_UNDER_WAY: usize = 64;

/// What is stalled looks again after so long; a change of the sky wakes it at once.
const LONG: Duration = Duration::from_secs(3_600);

/// What a proxy has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Accepted connections, refused ones included.
    pub connections: u64,
    /// Made by the proxy; a reset that it merely passes on is not counted.
    pub resets: u64,
    /// Bytes passed on to the server.
    pub request_bytes: u64,
    /// Bytes passed on to the client.
    pub response_bytes: u64,
}

impl Traffic {
    fn bytes(&mut self, side: Side) -> &mut u64 {
        match side {
            Side::Request => &mut self.request_bytes,
            Side::Response => &mut self.response_bytes,
        }
    }
}

/// All that a connection looks at before each step.
#[derive(Clone, Copy, Debug, Default)]
struct Sky {
    weather: Weather,
    is_down: bool,
    /// Connections from before the last cut are to be reset.
    cuts: u64,
}

struct Shared {
    upstream: SocketAddr,
    seed: u64,
    sky: watch::Sender<Sky>,
    traffic: Mutex<Traffic>,
}

impl Shared {
    /// Counted before it is made, so that who sees a reset finds it counted.
    fn reset(&self) -> io::Error {
        super::lock(&self.traffic).resets += 1;
        io::ErrorKind::ConnectionReset.into()
    }
}

/// A running proxy; dropping it stops it and drops its connections.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultProxy({} to {}, seed {})", self.address, self.shared.upstream, self.shared.seed)
    }
}

impl FaultProxy {
    /// Listens on any free port of 127.0.0.1, on a runtime of its own, under a clear sky.
    ///
    /// # Errors
    /// What binding the port or starting the thread says.
    pub fn start(upstream: SocketAddr, seed: u64) -> io::Result<FaultProxy> {
        let (runtime, listener) = super::listen(0, 1, "exai-proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { upstream, seed, sky: watch::Sender::default(), traffic: Mutex::default() });
        runtime.spawn(serve(listener, shared.clone()));
        Ok(FaultProxy { address, shared, runtime: Some(runtime) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather, for open connections as well; only `refused` is asked once, when a connection comes in.
    pub fn set(&self, weather: Weather) {
        self.shared.sky.send_modify(|sky| sky.weather = weather);
    }

    /// Whether the server seems to be down: new connections are reset at once, open ones stay.
    pub fn refuse(&self, is_down: bool) {
        self.shared.sky.send_modify(|sky| sky.is_down = is_down);
    }

    /// Resets every open connection.
    pub fn cut(&self) {
        self.shared.sky.send_modify(|sky| sky.cuts += 1);
    }

    pub fn traffic(&self) -> Traffic {
        *super::lock(&self.shared.traffic)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            super::end(runtime);
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut number = 0;
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (fate, sky) = (Fate::of(shared.seed, number), *shared.sky.borrow());
        number += 1;
        super::lock(&shared.traffic).connections += 1;
        if sky.is_down || fate.is_refused(&sky.weather) {
            shared.reset();
            let _ = client.set_zero_linger();
        } else {
            let connection = Connection { shared: shared.clone(), fate, cuts: sky.cuts };
            tokio::spawn(async move { connection.carry(client).await });
        }
    }
}

struct Connection {
    shared: Arc<Shared>,
    fate: Fate,
    /// How many cuts there had been when it came in.
    cuts: u64,
}

impl Connection {
    async fn carry(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(self.shared.upstream).await else {
            let _ = client.set_zero_linger();
            return;
        };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        if self.relay(&mut client, &mut server).await.is_err() {
            // Closing with nothing to linger for sends RST instead of FIN.
            let _ = (client.set_zero_linger(), server.set_zero_linger());
        }
    }

    /// An error, the proxy's own or one of either end, is for both ends.
    async fn relay(&self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = Flow::new(self, Side::Request, to_server).run(from_client);
        let responses = Flow::new(self, Side::Response, to_client).run(from_server);
        tokio::select! {
            ended = async { tokio::try_join!(requests, responses) } => ended.map(drop),
            () = self.cut() => Err(self.shared.reset()),
        }
    }

    /// Waits for the next cut, for connections that are idle or whose other end does not read.
    async fn cut(&self) {
        let _ = self.shared.sky.subscribe().wait_for(|sky| sky.cuts != self.cuts).await;
    }
}

/// One direction of a connection.
struct Flow<'c> {
    connection: &'c Connection,
    sky: watch::Receiver<Sky>,
    side: Side,
    out: WriteHalf<'c>,
    passed: u64,
    /// When drip and bandwidth allow the next byte.
    free: Instant,
}

enum Step {
    Passed,
    Held(Instant),
    Ended,
}

impl<'c> Flow<'c> {
    fn new(connection: &'c Connection, side: Side, out: WriteHalf<'c>) -> Self {
        let sky = connection.shared.sky.subscribe();
        Flow { connection, sky, side, out, passed: 0, free: Instant::now() }
    }

    async fn run(self, input: ReadHalf<'c>) -> io::Result<()> {
        let (sender, pieces) = mpsc::channel(PIECES_UNDER_WAY);
        tokio::try_join!(read(input, sender), self.write(pieces)).map(drop)
    }

    async fn write(mut self, mut pieces: mpsc::Receiver<(Instant, BytesMut)>) -> io::Result<()> {
        while let Some((arrived, mut piece)) = pieces.recv().await {
            loop {
                self.out.writable().await?;
                match self.step(arrived, &mut piece)? {
                    Step::Passed if piece.is_empty() => break,
                    Step::Passed => {}
                    Step::Held(until) => self.wait(until).await,
                    Step::Ended => return self.out.shutdown().await,
                }
            }
        }
        Ok(())
    }

    /// Until then, or until the sky changes.
    async fn wait(&mut self, until: Instant) {
        tokio::select! {
            () = sleep_until(until) => {}
            _ = self.sky.changed() => self.free = Instant::now(),
        }
    }

    /// Passes on as much of a piece as the sky allows. An empty piece is the end of the stream.
    fn step(&mut self, arrived: Instant, piece: &mut BytesMut) -> io::Result<Step> {
        let Connection { shared, fate, cuts } = self.connection;
        // Not marked as seen: a change since the last wait has to end the next one at once.
        let sky = self.sky.borrow();
        let (weather, now) = (&sky.weather, Instant::now());
        let due = self.free.max(arrived + weather.latency);
        let left = |limit: Option<u64>| limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.passed));
        let to_end = left(weather.response_ends_after.filter(|_| self.side == Side::Response));
        let to_reset = left(fate.reset_at(weather, self.side));
        if sky.cuts != *cuts {
            return Err(shared.reset());
        }
        if weather.stalled || due > now {
            return Ok(Step::Held(if weather.stalled { now + LONG } else { due }));
        }
        if piece.is_empty() || to_end == 0 {
            return Ok(Step::Ended);
        }
        if to_reset == 0 {
            return Err(shared.reset());
        }
        let most = weather.most_at_once(self.side).min(to_reset).min(to_end).min(piece.len() as u64);
        let mut traffic = super::lock(&shared.traffic);
        match self.out.try_write(&piece[..most as usize]) {
            Ok(passed) => {
                piece.advance(passed);
                self.passed += passed as u64;
                *traffic.bytes(self.side) += passed as u64;
                self.free = weather.free_after(passed, self.side, self.free, now);
                Ok(Step::Passed)
            }
            Err(full) if full.kind() == io::ErrorKind::WouldBlock => Ok(Step::Passed),
            Err(error) => Err(error),
        }
    }
}

/// Reads ahead, so that latency delays bytes without thinning them; says when each piece came. The last is empty.
async fn read(mut input: ReadHalf<'_>, pieces: mpsc::Sender<(Instant, BytesMut)>) -> io::Result<()> {
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        let is_last = input.read_buf(&mut piece).await? == 0;
        if pieces.send((Instant::now(), piece)).await.is_err() || is_last {
            return Ok(());
        }
    }
}
