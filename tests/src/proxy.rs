//! A network that breaks: a TCP proxy that cuts connections; and one that can't be trusted: it listens, and changes bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use crate::random::Random;

/// Passes bytes between clients and a server until it cuts a connection.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: String,
    seed: u64,
    /// One in so many chunks of bytes ends the connection; 0: none does.
    odds: AtomicU64,
    /// One byte of one in so many chunks is changed; 0: of none.
    flip_odds: AtomicU64,
    flips: AtomicU64,
    /// Everything that has passed, if it is kept.
    heard: Mutex<Option<Vec<u8>>>,
    /// New connections are closed at once.
    down: AtomicBool,
    /// Cuts before the server had the bytes, in the middle of them, and before the client had the answer.
    cuts: [AtomicU64; 3],
    live: Mutex<Vec<(TcpStream, TcpStream)>>,
}

impl Proxy {
    /// A proxy for the server at this address. It cuts nothing by itself yet.
    ///
    /// # Panics
    /// If no port is to be had.
    #[must_use]
    pub fn start(server: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            seed,
            odds: AtomicU64::new(0),
            flip_odds: AtomicU64::new(0),
            flips: AtomicU64::new(0),
            heard: Mutex::default(),
            down: AtomicBool::new(false),
            cuts: Default::default(),
            live: Mutex::default(),
        });
        let accepting = shared.clone();
        // It ends with the test process.
        thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                accepting.connect(client, number as u64);
            }
        });
        Proxy { address, shared }
    }

    /// From now on one in `odds` chunks ends its connection; 0 for none.
    pub fn set_odds(&self, odds: u64) {
        self.shared.odds.store(odds, SeqCst);
    }

    /// From now on one byte near the end of one in `odds` chunks is changed; 0 for none.
    pub fn set_flip_odds(&self, odds: u64) {
        self.shared.flip_odds.store(odds, SeqCst);
    }

    /// How many bytes were changed.
    #[must_use]
    pub fn flips(&self) -> u64 {
        self.shared.flips.load(SeqCst)
    }

    /// Keeps all bytes that pass from now on.
    ///
    /// # Panics
    /// If another thread did while it held the lock.
    pub fn listen(&self) {
        self.shared.heard.lock().unwrap().get_or_insert_default();
    }

    /// All bytes that have passed since [`Proxy::listen`], of all connections and directions.
    ///
    /// # Panics
    /// If another thread did while it held the lock.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.shared.heard.lock().unwrap().clone().unwrap_or_default()
    }

    /// How many connections were cut: before the server had the request, in its middle, before the client had the
    /// answer.
    #[must_use]
    pub fn cuts(&self) -> [u64; 3] {
        self.shared.cuts.each_ref().map(|n| n.load(SeqCst))
    }

    /// Cuts every connection there is.
    ///
    /// # Panics
    /// If another thread did while it held the lock.
    pub fn cut(&self) {
        for (client, server) in self.shared.live.lock().unwrap().drain(..) {
            end(&client, &server);
        }
    }

    /// Cuts every connection, and each new one until [`Proxy::go_up`].
    pub fn go_down(&self) {
        self.shared.down.store(true, SeqCst);
        self.cut();
    }

    /// Lets connections through again.
    pub fn go_up(&self) {
        self.shared.down.store(false, SeqCst);
    }
}

fn end(client: &TcpStream, server: &TcpStream) {
    // They may have ended by themselves.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

#[derive(Clone, Copy)]
enum Direction {
    Request,
    Answer,
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream, number: u64) {
        let Ok(server) = TcpStream::connect(&self.server) else { return };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        let mut live = self.live.lock().unwrap();
        // Under the lock, so that no connection slips through between `down` and the cut.
        if self.down.load(SeqCst) {
            return end(&client, &server);
        }
        live.push((clone(&client), clone(&server)));
        drop(live);
        for (direction, from, to) in [
            (Direction::Request, clone(&client), clone(&server)),
            (Direction::Answer, clone(&server), clone(&client)),
        ] {
            let shared = self.clone();
            let random =
                Random(self.seed ^ (number << 1 | direction as u64).wrapping_mul(0x5851_f42d_4c95_7f2d));
            thread::spawn(move || shared.pump(direction, from, to, random));
        }
    }

    fn pump(&self, direction: Direction, mut from: TcpStream, mut to: TcpStream, mut random: Random) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let odds = self.odds.load(SeqCst);
            let mut passed = read;
            if odds > 0 && random.below(odds) == 0 {
                let (kind, pass) = match direction {
                    Direction::Request if random.below(2) == 0 => (0, 0),
                    Direction::Request => (1, random.below(read as u64) as usize),
                    Direction::Answer => (2, 0),
                };
                self.cuts[kind].fetch_add(1, SeqCst);
                passed = pass;
            }
            if let Some(heard) = &mut *self.heard.lock().unwrap() {
                heard.extend_from_slice(&buffer[..passed]);
            }
            let flip_odds = self.flip_odds.load(SeqCst);
            if passed > 0 && flip_odds > 0 && random.below(flip_odds) == 0 {
                // Near the end, where TLS has no lengths: with a wrong length, the other end waits for what doesn't come, as
                // if bytes were held back.
                buffer[passed - 1 - random.below(16.min(passed as u64)) as usize] ^= 1 << random.below(8);
                self.flips.fetch_add(1, SeqCst);
            }
            if to.write_all(&buffer[..passed]).is_err() || passed < read {
                break;
            }
        }
        end(&from, &to);
    }
}
