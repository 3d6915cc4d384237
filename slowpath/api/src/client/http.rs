//! As much of HTTP/1.1 (RFC 9112) as a request on a connection of its own needs.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why an exchange failed.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The whole exchange took too long.
    #[error("no complete answer within {0:?}")]
    Timeout(Duration),
    /// The peer closed before its answer was complete.
    #[error("the answer ended early, after {0} bytes")]
    Truncated(usize),
    /// The answer's head is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    Head(httparse::Error),
    /// The head does not end.
    #[error("the answer's head has more than {MAX_HEAD} bytes")]
    HeadTooLarge,
    /// The length of the body is told wrongly or twice.
    #[error("`{0}` does not tell the length of the answer")]
    Length(String),
    /// A chunk's size is not a number.
    #[error("a chunk of the answer has no valid size")]
    Chunk,
    /// The body is larger than wanted.
    #[error("the answer has more than {0} bytes")]
    BodyTooLarge(usize),
}

/// What to do with a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Delete,
}

impl fmt::Display for Method {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        })
    }
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 64;

/// Sends one request and reads its answer.
pub(super) fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Option<&[u8]>,
    timeout: Duration,
    max_body: usize,
) -> Result<Response, HttpError> {
    let mut connection =
        Connection { stream, deadline: Instant::now() + timeout, timeout, buffer: Vec::new() };
    connection.send(method, path, body)?;
    let head = connection.receive_head()?;
    let body = match head.length {
        // RFC 9110 section 6.4.1: these never have a body, whatever their head says.
        _ if matches!(head.status, 204 | 304) => Vec::new(),
        Length::Exactly(length) => connection.receive_exactly(length, max_body)?,
        Length::Chunked => connection.receive_chunks(max_body)?,
        Length::UntilClose => connection.receive_all(max_body)?,
    };
    Ok(Response { status: head.status, body })
}

/// How the end of a body is told.
#[derive(Debug, PartialEq, Eq)]
enum Length {
    Exactly(usize),
    Chunked,
    UntilClose,
}

struct Head {
    status: u16,
    length: Length,
}

struct Connection {
    stream: UnixStream,
    deadline: Instant,
    timeout: Duration,
    /// Bytes received and not yet used.
    buffer: Vec<u8>,
}

impl Connection {
    fn send(&mut self, method: Method, path: &str, body: Option<&[u8]>) -> Result<(), HttpError> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: millrace\r\nConnection: close\r\n");
        if let Some(body) = body {
            request
                .push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        self.stream.set_write_timeout(Some(self.left()?)).map_err(HttpError::Io)?;
        match self.stream.write_all(&bytes) {
            // A server that refuses a large body early answers and closes: the answer is what matters.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.map_err(|error| self.io_error(error)),
        }
    }

    /// Time until the deadline.
    fn left(&self) -> Result<Duration, HttpError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(HttpError::Timeout(self.timeout)) } else { Ok(left) }
    }

    fn io_error(&self, error: io::Error) -> HttpError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HttpError::Timeout(self.timeout),
            _ => HttpError::Io(error),
        }
    }

    /// Reads some more; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, HttpError> {
        let mut chunk = [0; 16 << 10];
        loop {
            self.stream.set_read_timeout(Some(self.left()?)).map_err(HttpError::Io)?;
            match self.stream.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_error(error)),
            }
        }
    }

    fn fill_or_fail(&mut self) -> Result<(), HttpError> {
        if self.fill()? { Ok(()) } else { Err(HttpError::Truncated(self.buffer.len())) }
    }

    fn receive_head(&mut self) -> Result<Head, HttpError> {
        loop {
            if let Some((used, head)) = parse_head(&self.buffer)? {
                self.buffer.drain(..used);
                // An interim answer (1xx) comes before the real one.
                if head.status >= 200 {
                    return Ok(head);
                }
                continue;
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(HttpError::HeadTooLarge);
            }
            self.fill_or_fail()?;
        }
    }

    fn receive_exactly(&mut self, length: usize, max_body: usize) -> Result<Vec<u8>, HttpError> {
        if length > max_body {
            return Err(HttpError::BodyTooLarge(max_body));
        }
        while self.buffer.len() < length {
            self.fill_or_fail()?;
        }
        self.buffer.truncate(length);
        Ok(std::mem::take(&mut self.buffer))
    }

    fn receive_all(&mut self, max_body: usize) -> Result<Vec<u8>, HttpError> {
        while self.fill()? {
            if self.buffer.len() > max_body {
                return Err(HttpError::BodyTooLarge(max_body));
            }
        }
        if self.buffer.len() > max_body {
            return Err(HttpError::BodyTooLarge(max_body));
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    fn receive_chunks(&mut self, max_body: usize) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        loop {
            let size = self.receive_chunk_size()?;
            if size == 0 {
                // Trailers, if any, are of no interest, and the connection ends with this answer.
                return Ok(body);
            }
            if size > max_body.saturating_sub(body.len()) {
                return Err(HttpError::BodyTooLarge(max_body));
            }
            // The chunk and the line end behind it.
            while self.buffer.len() < size + 2 {
                self.fill_or_fail()?;
            }
            if &self.buffer[size..size + 2] != b"\r\n" {
                return Err(HttpError::Chunk);
            }
            body.extend_from_slice(&self.buffer[..size]);
            self.buffer.drain(..size + 2);
        }
    }

    fn receive_chunk_size(&mut self) -> Result<usize, HttpError> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((used, size))) => {
                    self.buffer.drain(..used);
                    return usize::try_from(size).map_err(|_| HttpError::Chunk);
                }
                Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_HEAD => self.fill_or_fail()?,
                _ => return Err(HttpError::Chunk),
            }
        }
    }
}

/// The head and its length in bytes, when it is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes).map_err(HttpError::Head)? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(used) => {
            let status = response.code.unwrap_or(0);
            Ok(Some((used, Head { status, length: body_length(response.headers)? })))
        }
    }
}

/// RFC 9112 section 6.3.
fn body_length(headers: &[httparse::Header<'_>]) -> Result<Length, HttpError> {
    let mut length = Length::UntilClose;
    for header in headers {
        let value = String::from_utf8_lossy(header.value);
        let wrong = || HttpError::Length(value.chars().take(40).collect());
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.trim().eq_ignore_ascii_case("chunked") {
                return Err(wrong());
            }
            // Chunks go before any length.
            return Ok(Length::Chunked);
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = value.trim();
            if digits.starts_with('+') {
                return Err(wrong());
            }
            let told = Length::Exactly(digits.parse().map_err(|_| wrong())?);
            if length != Length::UntilClose && length != told {
                return Err(wrong());
            }
            length = told;
        }
    }
    Ok(length)
}
