//! HTTP/1.1 with nothing hidden: a request is the bytes that the test gives, and a connection is used
//! until the server or the test closes it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than any deadline of the server: it has to answer by itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 64 << 10;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {}", self.status, self.text()))
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `code` of a problem; panics if the answer is none.
    pub fn problem_code(&self) -> String {
        let kind = self.header("content-type");
        assert_eq!(
            kind,
            Some("application/problem+json"),
            "{} {}",
            self.status,
            self.text()
        );
        let code = self.json()["code"].as_str().map(str::to_owned);
        code.unwrap_or_else(|| panic!("no code in {}", self.text()))
    }

    /// Whether the server says that the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.header("content-type") == Some("application/problem+json")
            && self.json()["retryable"] == Value::Bool(true)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects.
    pub fn open(address: &str) -> io::Result<Connection> {
        let parsed: SocketAddr = address.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&parsed, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Connection {
            stream: BufReader::new(stream),
            host: address.to_owned(),
        })
    }

    /// Sends a request with a body of known length, and reads the answer.
    pub fn exchange(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.send(method, target, headers, body)?;
        self.read_answer(method)
    }

    fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)
    }

    /// Sends bytes as they are, and reads the answer if there is one. `ends`: nothing more will come.
    pub fn send_raw(&mut self, bytes: &[u8], ends: bool) -> io::Result<Answer> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        if ends {
            stream.shutdown(Shutdown::Write)?;
        }
        self.read_answer("")
    }

    fn read_answer(&mut self, method: &str) -> io::Result<Answer> {
        let answer = self.read_head()?;
        self.read_body(method, answer)
    }

    fn read_body(&mut self, method: &str, mut answer: Answer) -> io::Result<Answer> {
        let status = answer.status;
        if method == "HEAD" || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while self.read_chunk(&mut answer.body)? {}
            return Ok(answer);
        }
        let length = answer
            .header("content-length")
            .and_then(|length| length.parse().ok());
        answer.body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    fn read_head(&mut self) -> io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read_until(b'\n', &mut head)? == 0 || head.len() > HEAD_BYTES_MAX {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields);
        parsed.parse(&head).map_err(io::Error::other)?;
        let status = parsed.code.ok_or(io::ErrorKind::InvalidData)?;
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let fields = parsed.headers.iter();
        let headers = fields.map(|field| (field.name.to_ascii_lowercase(), text(field.value)));
        Ok(Answer {
            status,
            headers: headers.collect(),
            body: Vec::new(),
        })
    }

    /// Appends one chunk; false after the last one.
    fn read_chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        let begin = body.len();
        // The line break behind the chunk comes along and goes again.
        body.resize(begin + size + 2, 0);
        self.stream.read_exact(&mut body[begin..])?;
        body.truncate(begin + size);
        Ok(size > 0)
    }
}

/// An answer that is read line by line, as it comes.
#[derive(Debug)]
pub struct Stream {
    connection: Connection,
    buffered: Vec<u8>,
}

impl Stream {
    /// Asks for it on a connection of its own; an answer other than 200 is returned whole.
    pub fn open(
        address: &str,
        (method, target): (&str, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Result<Stream, Answer>> {
        let mut connection = Connection::open(address)?;
        connection.send(method, target, headers, body)?;
        let answer = connection.read_head()?;
        if answer.status != 200 {
            return Ok(Err(connection.read_body(method, answer)?));
        }
        Ok(Ok(Stream {
            connection,
            buffered: Vec::new(),
        }))
    }

    /// The next line, without its end; none: the answer is over.
    pub fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffered.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffered.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffered, rest);
                line.pop();
                return Ok(Some(line));
            }
            if !self.connection.read_chunk(&mut self.buffered)? {
                return Ok(None);
            }
        }
    }

    /// How long a read waits.
    pub fn set_patience(&mut self, patience: Duration) {
        // A socket that is there takes any time but zero.
        let _ = self
            .connection
            .stream
            .get_ref()
            .set_read_timeout(Some(patience));
    }
}

/// A client of one node that connects when it has to.
#[derive(Debug)]
pub struct Client {
    address: String,
    connection: Option<Connection>,
    patience: Duration,
}

impl Client {
    /// Nothing is connected yet.
    pub fn new(address: &str) -> Client {
        Client {
            address: address.to_owned(),
            connection: None,
            patience: ANSWER_TIMEOUT,
        }
    }

    /// How long an answer is waited for.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
        self.connection = None;
    }

    /// One request. After an error it is unknown what the server did; the next request connects anew.
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = Connection::open(&self.address)?;
                let stream = connection.stream.get_ref();
                stream.set_read_timeout(Some(self.patience))?;
                connection
            }
        };
        let answer = connection.exchange(method, target, headers, body)?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}
