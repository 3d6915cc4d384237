//! A blocking client: one connection a request, bounded in time and size.

mod attachments;
mod http;

use crate::error::{ErrorBody, ErrorCode, Refusal};
use http::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

pub use http::HttpError;

/// Talks to the daemon that listens on a Unix socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
    max_body: usize,
}

/// Why there is no answer to use.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or it may not be opened.
    #[error("cannot reach the daemon at {}: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The connection broke, took too long or did not speak HTTP.
    #[error("{}: {request}: {source}", socket.display())]
    Http {
        /// The socket.
        socket: PathBuf,
        /// Method and path.
        request: String,
        /// What went wrong.
        source: HttpError,
    },
    /// The daemon refused.
    #[error("{}", refusal.message)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The reason.
        refusal: Refusal,
    },
    /// The answer is not of the form that this version knows.
    #[error("{}: {request}: the answer cannot be read: {source}", socket.display())]
    Body {
        /// The socket.
        socket: PathBuf,
        /// Method and path.
        request: String,
        /// Where it departs from the form.
        source: serde_json::Error,
    },
}

impl Client {
    /// A client for the daemon at `socket`, with 10 seconds and 256 MiB a request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Client { socket: socket.into(), timeout: Duration::from_secs(10), max_body: 256 << 20 }
    }

    /// Sets how long a request may take from beginning to end.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many bytes an answer may have.
    pub fn with_max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads something.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.request(Method::Get, path, None)?;
        self.decode(Method::Get, path, &response)
    }

    /// Makes something.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|source| self.body_error(Method::Post, path, source))?;
        let response = self.request(Method::Post, path, Some(&body))?;
        self.decode(Method::Post, path, &response)
    }

    /// Removes something.
    pub fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.request(Method::Delete, path, None).map(drop)
    }

    fn request(&self, method: Method, path: &str, body: Option<&[u8]>) -> Result<Response, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let response =
            http::exchange(stream, method, path, body, self.timeout, self.max_body).map_err(|source| {
                ClientError::Http { socket: self.socket.clone(), request: format!("{method} {path}"), source }
            })?;
        if (200..300).contains(&response.status) {
            return Ok(response);
        }
        let status = response.status;
        // Something between client and daemon may answer, too; what it says is better than nothing.
        let refusal = serde_json::from_slice::<ErrorBody>(&response.body)
            .map(|body| body.error)
            .unwrap_or_else(|_| Refusal {
                code: ErrorCode::Unknown,
                message: format!("{method} {path}: status {status}: {}", excerpt(&response.body)),
            });
        Err(ClientError::Refused { status, refusal })
    }

    fn decode<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        response: &Response,
    ) -> Result<T, ClientError> {
        serde_json::from_slice(&response.body).map_err(|source| self.body_error(method, path, source))
    }

    fn body_error(&self, method: Method, path: &str, source: serde_json::Error) -> ClientError {
        ClientError::Body { socket: self.socket.clone(), request: format!("{method} {path}"), source }
    }
}

/// The beginning of a body, safe to show on a terminal.
fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(200)]).replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests;
