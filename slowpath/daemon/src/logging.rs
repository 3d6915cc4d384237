//! Messages on stderr.

use crate::StartError;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Environment variable with the level, when the command line has none.
const VARIABLE: &str = "MILLRACE_LOG";
/// What the API client logs of failures, the source says once, with what it was about.
const DEFAULT: &str = "info,kube_client=off";

/// Starts logging for the whole process.
pub(crate) fn start(level: Option<&str>) -> Result<(), StartError> {
    let value = match level {
        Some(level) => level.to_owned(),
        None => std::env::var(VARIABLE).unwrap_or_else(|_| DEFAULT.to_owned()),
    };
    let filter = EnvFilter::builder()
        .parse(&value)
        .map_err(|error| StartError::Log { value: value.clone(), reason: error.to_string() })?;
    // A second start in one process (as in tests) keeps the first one's level.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}
