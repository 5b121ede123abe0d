//! Debian's ZooKeeper: three servers on loopback, and sessions in its own protocol (jute: big-endian numbers, and a
//! length before all else).

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use caucus_tests::wait::wait_for;
use caucus_tests::{ports, process::Process, say_skipped};
use rustix::process::Signal;
use tempfile::TempDir;

const JAVA: &str = "/usr/bin/java";
const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Machines that are busy start three Java machines slowly.
const LIMIT: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const COUNT: u16 = 3;

/// The servers.
pub(super) struct Ensemble {
    processes: Vec<Process>,
    base: u16,
    // Dropped after the processes.
    _dir: TempDir,
}

impl Ensemble {
    /// Starts them, and waits until all serve; none, and a word about it, where there is no ZooKeeper.
    pub(super) fn start() -> Option<Ensemble> {
        if ![JAVA, JAR].iter().all(|path| Path::new(path).exists()) {
            say_skipped("there is no ZooKeeper to drive");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Twice as many pairs as there are servers: each wants three ports.
        let base = ports::free_base(2 * u32::from(COUNT));
        let servers = (0..COUNT).map(|server| {
            let (peers, elections) = (base + 10 * server + 1, base + 10 * (COUNT + server));
            format!("server.{}=127.0.0.1:{peers}:{elections}\n", server + 1)
        });
        let servers: String = servers.collect();
        let processes = (0..COUNT).map(|server| spawn(dir.path(), base, server, &servers));
        let ensemble = Ensemble {
            processes: processes.collect(),
            base,
            _dir: dir,
        };
        for server in 0..COUNT {
            wait_for("a server of ZooKeeper", LIMIT, || ensemble.mode(server));
        }
        Some(ensemble)
    }

    pub(super) fn address(&self, server: u16) -> String {
        format!("127.0.0.1:{}", self.base + 10 * server)
    }

    /// `leader` or `follower`, if it serves.
    fn mode(&self, server: u16) -> Option<String> {
        let mut stream = TcpStream::connect(self.address(server)).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let mode = text.lines().find_map(|line| line.strip_prefix("Mode: "))?;
        Some(mode.to_owned())
    }

    /// Who leads.
    pub(super) fn leader(&self) -> u16 {
        let leads = |server: &u16| self.mode(*server).as_deref() == Some("leader");
        wait_for("a leader of ZooKeeper", LIMIT, || (0..COUNT).find(leads))
    }

    /// Stops a server where it is.
    pub(super) fn pause(&self, server: u16) {
        self.processes[usize::from(server)].signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(super) fn go_on(&self, server: u16) {
        self.processes[usize::from(server)].signal(Signal::CONT);
    }
}

fn spawn(dir: &Path, base: u16, server: u16, servers: &str) -> Process {
    let name = format!("z{server}");
    let data = dir.join(&name);
    std::fs::create_dir(&data).expect("the directory can be written");
    std::fs::write(data.join("myid"), format!("{}\n", server + 1)).expect("it can be written");
    let configuration = format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\nadmin.enableServer=false\n\
         4lw.commands.whitelist=srvr\ndataDir={}\nclientPort={}\n{servers}",
        data.display(),
        base + 10 * server
    );
    let file = dir.join(format!("{name}.cfg"));
    std::fs::write(&file, configuration).expect("it can be written");
    // Dies with the thread that started it, however that ends.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", JAVA, "-Xmx128m", "-XX:+UseSerialGC"])
        .args(["-XX:TieredStopAtLevel=1", "-cp", JAR])
        .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
        .arg(&file)
        .stdin(Stdio::null());
    Process::start(command, dir, &name)
}

/// A request: its code, and its fields.
pub(super) struct Request {
    code: i32,
    fields: Vec<u8>,
}

impl Request {
    fn new(code: i32, path: &str) -> Request {
        let fields = Vec::new();
        Request { code, fields }.bytes(path)
    }

    fn int(mut self, number: i32) -> Request {
        self.fields.extend(number.to_be_bytes());
        self
    }

    fn bytes(mut self, text: &str) -> Request {
        let length = i32::try_from(text.len()).expect("it is short");
        self = self.int(length);
        self.fields.extend(text.as_bytes());
        self
    }

    /// Makes a node that everybody may do everything with.
    pub(super) fn create(path: &str, value: &str) -> Request {
        let (entries, all, persistent) = (1, 31, 0);
        let request = Request::new(1, path).bytes(value).int(entries).int(all);
        request.bytes("world").bytes("anyone").int(persistent)
    }

    /// Overwrites a node, whatever its version.
    pub(super) fn set(path: &str, value: &str) -> Request {
        Request::new(5, path).bytes(value).int(-1)
    }

    /// Reads a node.
    pub(super) fn get(path: &str) -> Request {
        let mut request = Request::new(4, path);
        // No watch.
        request.fields.push(0);
        request
    }

    /// Waits until this server has all that the leader has.
    pub(super) fn sync(path: &str) -> Request {
        Request::new(9, path)
    }
}

/// What was answered.
pub(super) struct Reply {
    /// The last change that this server has done: its revision.
    pub(super) zxid: u64,
    body: Vec<u8>,
}

impl Reply {
    /// What was read, and at which revision it was written.
    pub(super) fn value(&self) -> (String, u64) {
        let length = u32::from_be_bytes(self.body[..4].try_into().expect("four bytes"));
        let (value, stat) = self.body[4..].split_at(length as usize);
        let changed = stat[8..16].try_into().expect("eight bytes");
        let value = String::from_utf8(value.to_vec()).expect("a number was written");
        (value, u64::from_be_bytes(changed))
    }
}

/// A session on one connection.
pub(super) struct Session {
    stream: TcpStream,
    requests: i32,
}

impl Session {
    pub(super) fn open(address: &str) -> io::Result<Session> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut session = Session {
            stream,
            requests: 0,
        };
        let timeout_ms = i32::try_from(PATIENCE.as_millis()).expect("it is short");
        // Version, last revision seen, timeout, no session yet, a password of nothing, not only for reading.
        let mut greeting = [&[0; 12][..], &timeout_ms.to_be_bytes(), &[0; 8]].concat();
        greeting.extend([&16_i32.to_be_bytes()[..], &[0; 17]].concat());
        session.write(&greeting)?;
        let granted = session.read()?;
        match granted[4..8] == [0; 4] {
            true => Err(io::Error::other("the session was refused")),
            false => Ok(session),
        }
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("it is short");
        self.stream
            .write_all(&[&length.to_be_bytes(), payload].concat())
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// Sends a request; its answer comes in its turn.
    pub(super) fn send(&mut self, request: &Request) -> io::Result<()> {
        self.requests += 1;
        let head = [self.requests.to_be_bytes(), request.code.to_be_bytes()].concat();
        self.write(&[&head, &request.fields[..]].concat())
    }

    /// The next answer.
    pub(super) fn receive(&mut self) -> io::Result<Reply> {
        let payload = self.read()?;
        let (head, body) = payload
            .split_at_checked(16)
            .ok_or(io::ErrorKind::InvalidData)?;
        match head[12..16] {
            [0, 0, 0, 0] => Ok(Reply {
                zxid: u64::from_be_bytes(head[4..12].try_into().expect("eight bytes")),
                body: body.to_vec(),
            }),
            _ => Err(io::Error::other(format!("refused: {:?}", &head[12..16]))),
        }
    }

    /// One request and its answer.
    pub(super) fn call(&mut self, request: &Request) -> io::Result<Reply> {
        self.send(request)?;
        self.receive()
    }
}
