//! The network between nodes, as a set of wires that can be cut: a TCP proxy in front of each node's peer port.
//!
//! ```text
//!  node 1 (127.0.0.11) ──▶ the door of node 2 ──▶ node 2 (127.0.0.12)
//!                            wire 1→2: what node 1 says
//!                            wire 2→1: what node 2 answers on the same connection
//! ```
//!
//! A node binds its outgoing sockets to its own peer address, and that is how a door knows who comes. Each direction
//! of each pair is a wire of its own, so one can be dumb while the other one works. What can't pass a cut wire is
//! held, and so comes late if the wire is mended: TCP does the same. Everybody who isn't a node passes freely.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

const PIECE_BYTES: usize = 64 << 10;
/// On their way in one direction of a connection.
const PIECES_MAX: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// From a node to another one.
type Way = (u32, u32);

/// The wires between all nodes.
#[derive(Debug)]
pub struct Wires {
    shared: Arc<Shared>,
    doors: Vec<SocketAddr>,
    doormen: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wires: HashMap<Way, Wire>,
    connections: Vec<Connection>,
    /// Connections so far, which gives them numbers.
    connected: u64,
    is_over: bool,
}

/// One direction of a pair.
#[derive(Debug, Default, Clone, Copy)]
struct Wire {
    is_cut: bool,
    delay: Duration,
    /// Pieces that went through.
    passed: u64,
    /// Pieces that had to wait for the wire to be mended, and connections too.
    held: u64,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    way: Way,
    ends: [TcpStream; 2],
}

/// The address of a node's peer port: one of its own, so that a door knows it.
pub fn peer_ip(node: u32) -> IpAddr {
    let last = u8::try_from(10 + node).expect("few nodes");
    Ipv4Addr::new(127, 0, 0, last).into()
}

impl Wires {
    /// Wires between nodes that listen at these addresses, the first of which is node 1's.
    pub fn new(nodes: &[SocketAddr]) -> Wires {
        let shared = Arc::new(Shared::default());
        let mut wires = Wires {
            shared,
            doors: Vec::new(),
            doormen: Vec::new(),
        };
        for (node, inside) in (1..).zip(nodes.iter().copied()) {
            let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            wires.doors.push(door.local_addr().expect("it is bound"));
            let shared = Arc::clone(&wires.shared);
            let doorman = std::thread::spawn(move || shared.admit(node, &door, inside));
            wires.doormen.push(doorman);
        }
        wires
    }

    /// Where others find a node.
    pub fn door(&self, node: u32) -> SocketAddr {
        self.doors[node as usize - 1]
    }

    fn change(&self, ways: &[Way], mut change: impl FnMut(&mut Wire)) {
        let mut state = self.shared.lock();
        ways.iter()
            .for_each(|way| change(state.wires.entry(*way).or_default()));
        drop(state);
        self.shared.changed.notify_all();
    }

    /// From now on nothing passes.
    pub fn cut(&self, ways: &[Way]) {
        self.change(ways, |wire| wire.is_cut = true);
    }

    /// Everything takes so long, from now on.
    pub fn delay(&self, ways: &[Way], by: Duration) {
        self.change(ways, |wire| wire.delay = by);
    }

    /// These pass again, with what was held; delays stay.
    pub fn reopen(&self, ways: &[Way]) {
        self.change(ways, |wire| wire.is_cut = false);
    }

    /// All wires are as new; what was held goes on.
    pub fn mend(&self) {
        let ways: Vec<Way> = self.shared.lock().wires.keys().copied().collect();
        self.change(&ways, |wire| {
            wire.is_cut = false;
            wire.delay = Duration::ZERO;
        });
    }

    /// Resets the connections that these nodes made to each other; returns how many there were. What was held on
    /// them is lost.
    pub fn reset(&self, ways: &[Way]) -> u64 {
        let mut state = self.shared.lock();
        let connections = std::mem::take(&mut state.connections);
        let (broken, kept) = connections
            .into_iter()
            .partition(|connection| ways.contains(&connection.way));
        state.connections = kept;
        let broken: Vec<Connection> = broken;
        broken.iter().for_each(Connection::reset);
        drop(state);
        self.shared.changed.notify_all();
        broken.len() as u64
    }

    /// Pieces that had to wait on these wires so far.
    pub fn held(&self, ways: &[Way]) -> u64 {
        self.sum(ways, |wire| wire.held)
    }

    /// Pieces that went through these wires so far.
    pub fn passed(&self, ways: &[Way]) -> u64 {
        self.sum(ways, |wire| wire.passed)
    }

    fn sum(&self, ways: &[Way], of: impl Fn(&Wire) -> u64) -> u64 {
        let state = self.shared.lock();
        ways.iter()
            .filter_map(|way| state.wires.get(way))
            .map(of)
            .sum()
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        state.connections.iter().for_each(Connection::reset);
        drop(state);
        self.shared.changed.notify_all();
        for door in &self.doors {
            // Wakes the doorman, who finds that it is over.
            let _ = TcpStream::connect_timeout(door, CONNECT_TIMEOUT);
        }
        for doorman in self.doormen.drain(..) {
            let _ = doorman.join();
        }
    }
}

impl Connection {
    fn reset(&self) {
        for end in &self.ends {
            // It may be closed already.
            let _ = set_socket_linger(end, Some(Duration::ZERO));
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Takes connections to a node.
    fn admit(self: Arc<Shared>, node: u32, door: &TcpListener, inside: SocketAddr) {
        while let Ok((caller, from)) = door.accept() {
            if self.lock().is_over {
                return;
            }
            let way = (number(from.ip()), node);
            let shared = Arc::clone(&self);
            // Ends with the connection, and that with the wires.
            std::thread::spawn(move || shared.connect(way, caller, inside));
        }
    }

    /// Does for a connection what a network does.
    fn connect(self: &Arc<Shared>, way: Way, caller: TcpStream, inside: SocketAddr) -> Option<()> {
        self.await_open(way)?;
        let called = TcpStream::connect_timeout(&inside, CONNECT_TIMEOUT).ok()?;
        let clone = |stream: &TcpStream| stream.try_clone().ok();
        for end in [&caller, &called] {
            end.set_nodelay(true).ok()?;
        }
        let ends = [clone(&caller)?, clone(&called)?];
        let number = self.keep(way, ends)?;
        let (from, to) = (clone(&called)?, clone(&caller)?);
        let back = Arc::clone(self);
        let answers = std::thread::spawn(move || back.carry((way.1, way.0), from, to));
        self.carry(way, caller, called);
        let _ = answers.join();
        let mut state = self.lock();
        state.connections.retain(|other| other.number != number);
        Some(())
    }

    /// Remembers a connection, so that it can be reset. `None`: it is over.
    fn keep(&self, way: Way, ends: [TcpStream; 2]) -> Option<u64> {
        let mut state = self.lock();
        state.connected += 1;
        let number = state.connected;
        state.connections.push(Connection { number, way, ends });
        (!state.is_over).then_some(number)
    }

    /// Carries one direction of a connection.
    fn carry(self: &Arc<Shared>, way: Way, mut from: TcpStream, to: TcpStream) {
        let (sender, pieces) = sync_channel(PIECES_MAX);
        let (shared, mut end) = (Arc::clone(self), to.try_clone());
        let deliver = std::thread::spawn(move || {
            if let Ok(end) = &mut end {
                shared.deliver(way, &pieces, end);
            }
        });
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(size @ 1..) = from.read(&mut piece) {
            let due = Instant::now() + self.delay(way);
            if sender.send((due, piece[..size].to_vec())).is_err() {
                break;
            }
        }
        drop(sender);
        let _ = deliver.join();
        // Both ends: half a connection is no use to anybody here.
        for end in [&from, &to] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Hands over each piece when it is due and the wire isn't cut.
    fn deliver(&self, way: Way, pieces: &Receiver<(Instant, Vec<u8>)>, to: &mut TcpStream) {
        for (due, piece) in pieces {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.await_open(way).is_none() || to.write_all(&piece).is_err() {
                return;
            }
            self.lock().wires.entry(way).or_default().passed += 1;
        }
    }

    fn delay(&self, way: Way) -> Duration {
        let state = self.lock();
        state
            .wires
            .get(&way)
            .map_or(Duration::ZERO, |wire| wire.delay)
    }

    /// Waits while a wire is cut. `None`: it is over.
    fn await_open(&self, way: Way) -> Option<()> {
        let mut state = self.lock();
        if is_cut(&state, way) {
            state.wires.entry(way).or_default().held += 1;
        }
        while is_cut(&state, way) && !state.is_over {
            state = self.changed.wait(state).expect("no panic under this lock");
        }
        (!state.is_over).then_some(())
    }
}

fn is_cut(state: &State, way: Way) -> bool {
    state.wires.get(&way).is_some_and(|wire| wire.is_cut)
}

/// Which node an address is of; 0: none.
fn number(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) if ip.octets()[..3] == [127, 0, 0] && ip.octets()[3] > 10 => {
            u32::from(ip.octets()[3]) - 10
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_until;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A connection from node 1 to node 2 through the wires, from both sides.
    fn pair(wires: &Wires, inside: &TcpListener) -> (TcpStream, TcpStream) {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::STREAM,
            None,
        );
        let socket = socket.expect("a socket");
        rustix::net::bind(&socket, &SocketAddr::new(peer_ip(1), 0)).expect("loopback is wide");
        rustix::net::connect(&socket, &wires.door(2)).expect("the door is open");
        let caller = TcpStream::from(socket);
        let (called, _) = inside.accept().expect("it is connected");
        for end in [&caller, &called] {
            end.set_read_timeout(Some(LIMIT)).expect("a timeout");
        }
        (caller, called)
    }

    fn say(to: &mut TcpStream, word: &[u8]) {
        to.write_all(word).expect("it is connected");
    }

    fn hear(from: &mut TcpStream) -> [u8; 3] {
        let mut word = [0; 3];
        from.read_exact(&mut word).expect("a word");
        word
    }

    #[test]
    fn a_wire_is_cut_in_one_direction() {
        let inside = TcpListener::bind((peer_ip(2), 0)).expect("loopback is wide");
        let nowhere = SocketAddr::new(peer_ip(1), 1);
        let wires = Wires::new(&[nowhere, inside.local_addr().expect("it is bound")]);
        let (mut caller, mut called) = pair(&wires, &inside);
        say(&mut caller, b"one");
        assert_eq!(&hear(&mut called), b"one");
        wires.cut(&[(1, 2)]);
        say(&mut caller, b"two");
        wait_until("the wire to hold it", LIMIT, || wires.held(&[(1, 2)]) == 1);
        say(&mut called, b"six");
        assert_eq!(&hear(&mut caller), b"six", "the other direction works");
        called.set_nonblocking(true).expect("a socket");
        assert!(called.read(&mut [0; 3]).is_err(), "nothing came through");
        called.set_nonblocking(false).expect("a socket");
        wires.mend();
        assert_eq!(&hear(&mut called), b"two", "it comes late");
        wait_until("both to be counted", LIMIT, || {
            wires.passed(&[(1, 2)]) == 2 && wires.passed(&[(2, 1)]) == 1
        });
        assert_eq!(wires.reset(&[(2, 1)]), 0, "node 2 has called nobody");
        assert_eq!(wires.reset(&[(1, 2)]), 1);
        let ended = caller.read(&mut [0; 3]);
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }
}
