//! The daemon, which may be starting, ending, or not be there at all.

use crate::config::NetworkConfig;
use crate::error::CniError;
use millrace_api::{
    Attachment, AttachmentId, AttachmentRequest, Client, ClientError, ErrorCode, GarbageList, GarbageRequest,
    HttpError, QueuedDeletion, Status,
};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// How long one request may take. Longer than any addition: one that is given up must be undone.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a deletion may take before it is kept for later: runtimes do not wait long for the end of a container.
const DELETION_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a question about the state may take.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before the second try; doubles up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// No answer is larger than this, in bytes.
const MAX_ANSWER: usize = 32 << 20;

/// The daemon of a network.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    client: Client,
    config: &'a NetworkConfig,
}

/// Why an addition failed.
#[derive(Debug)]
pub(crate) struct AttachFailure {
    pub(crate) error: CniError,
    /// Whether the daemon may have made the attachment all the same.
    pub(crate) may_exist: bool,
}

/// What became of a deletion.
#[derive(Debug)]
pub(crate) enum Detached {
    /// The daemon has done it.
    Done,
    /// The daemon could not be told, for this reason, and will find it there.
    Kept(PathBuf, ClientError),
}

impl<'a> Daemon<'a> {
    pub(crate) fn of(config: &'a NetworkConfig) -> Self {
        let client = Client::new(&config.socket).with_timeout(REQUEST_TIMEOUT).with_max_body(MAX_ANSWER);
        Daemon { client, config }
    }

    /// Adds, and tries again while the daemon restarts: the same request makes nothing twice.
    pub(crate) fn attach(&self, request: &AttachmentRequest) -> Result<Attachment, AttachFailure> {
        let mut may_exist = false;
        let outcome = self.patiently(|client| {
            client.attach(request).inspect_err(|error| match error {
                ClientError::Http { .. } | ClientError::Body { .. } => may_exist = true,
                ClientError::Unreachable { .. } | ClientError::Refused { .. } => {}
            })
        });
        outcome.map_err(|error| {
            // What is in our place is not ours.
            let is_foreign = is_refusal(&error, ErrorCode::Conflict);
            AttachFailure { error: waited(error), may_exist: may_exist && !is_foreign }
        })
    }

    /// Deletes, or keeps the deletion for later.
    pub(crate) fn detach(&self, id: &AttachmentId) -> Result<Detached, CniError> {
        match self.client.clone().with_timeout(DELETION_TIMEOUT).detach(id) {
            Ok(()) => Ok(Detached::Done),
            Err(error) if is_refusal(&error, ErrorCode::NotFound) => Ok(Detached::Done),
            Err(error) if is_away(&error) || matches!(error, ClientError::Http { .. }) => {
                let deletion = QueuedDeletion { id: id.clone(), network: self.config.name.clone() };
                match crate::queue::keep(&self.config.state_directory, &deletion) {
                    Ok(path) => Ok(Detached::Kept(path, error)),
                    Err((path, source)) => Err(CniError::Queue { daemon: error.to_string(), path, source }),
                }
            }
            Err(error) => Err(CniError::Daemon(error)),
        }
    }

    /// Tells the daemon of a deletion at once, waiting for it if need be.
    pub(crate) fn detach_now(&self, id: &AttachmentId) -> Result<(), CniError> {
        self.patiently(|client| client.detach(id)).map_err(waited)
    }

    /// What there is of an attachment; `None` if there is none. One that is damaged is an error.
    pub(crate) fn find(&self, id: &AttachmentId) -> Result<Option<Attachment>, CniError> {
        match self.patiently(|client| client.attachment(id)) {
            Ok(attachment) => Ok(Some(attachment)),
            Err(error) if is_refusal(&error, ErrorCode::NotFound) => Ok(None),
            Err(error) if is_refusal(&error, ErrorCode::Conflict) => {
                Err(CniError::Differs { id: id.clone(), reason: error.to_string() })
            }
            Err(error) => Err(waited(error)),
        }
    }

    pub(crate) fn collect_garbage(&self, request: &GarbageRequest) -> Result<GarbageList, CniError> {
        self.patiently(|client| client.collect_garbage(request)).map_err(waited)
    }

    /// The state now, without waiting.
    pub(crate) fn status(&self) -> Result<Status, ClientError> {
        self.client.clone().with_timeout(STATUS_TIMEOUT).status()
    }

    /// Asks again and again while nobody is there to answer, until the configured time is over.
    fn patiently<T>(&self, mut ask: impl FnMut(&Client) -> Result<T, ClientError>) -> Result<T, ClientError> {
        let deadline = Instant::now() + self.config.wait;
        let mut pause = FIRST_PAUSE;
        loop {
            match ask(&self.client) {
                Err(error) if may_pass(&error) && Instant::now() + pause < deadline => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }
}

/// What a failure means after all patience.
fn waited(error: ClientError) -> CniError {
    if may_pass(&error) || matches!(error, ClientError::Http { source: HttpError::Timeout(_), .. }) {
        CniError::NotNow(error)
    } else {
        CniError::Daemon(error)
    }
}

/// Whether a daemon that restarts explains the failure.
fn may_pass(error: &ClientError) -> bool {
    let broke_off =
        matches!(error, ClientError::Http { source: HttpError::Io(_) | HttpError::Truncated(_), .. });
    is_away(error) || broke_off
}

/// Whether nobody is there, or somebody who is starting or ending.
fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. }) || is_refusal(error, ErrorCode::Unavailable)
}

fn is_refusal(error: &ClientError, code: ErrorCode) -> bool {
    matches!(error, ClientError::Refused { refusal, .. } if refusal.code == code)
}
