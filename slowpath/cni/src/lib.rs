//! The CNI plugin: a small program that a container runtime runs once for each thing it wants, and that asks the
//! daemon to do it (Container Network Interface specification 1.1.0).
//!
//! What is asked comes in by environment variables and by a network configuration on standard input; the result or
//! the error goes out on standard output as JSON, and nothing else does. Everything with a state is the daemon's:
//! the plugin itself keeps only deletions that the daemon could not be told ([`millrace_api::QueuedDeletion`]).

#![forbid(unsafe_code)]

mod arguments;
mod config;
mod daemon;
mod delegate;
mod error;
mod extra;
mod install;
mod queue;
mod result;
mod verbs;
mod version;

pub use arguments::{BadVariable, Environment, Verb};
pub use error::{CniError, ErrorObject};
pub use install::{InstallError, install};
pub use result::{Dns, Interface, IpEntry, NetworkResult, RouteEntry};
pub use version::{UnknownVersion, Version};

use arguments::Arguments;
use config::NetworkConfig;
use serde::Serialize;
use std::io::{Read, Write};
use std::process::ExitCode;

/// The largest input that is read, in bytes: a list of 100,000 valid attachments fits.
const MAX_INPUT: u64 = 32 << 20;

/// Does what the environment and the input ask for. Writes the result, if there is one, or the error to `output`,
/// and what is not for machines to `log`.
pub fn run(
    environment: &Environment,
    input: &mut dyn Read,
    output: &mut dyn Write,
    log: &mut dyn Write,
) -> ExitCode {
    // What the error says its version is; better known once the input has been read.
    let mut version = Version::NEWEST;
    let outcome = answer(environment, input, log, &mut version);
    let (bytes, code) = match outcome {
        Ok(Answer::Nothing) => return ExitCode::SUCCESS,
        Ok(Answer::Object(bytes)) => (bytes, ExitCode::SUCCESS),
        Err(error) => {
            // A broken log is no reason to keep the error from the runtime.
            let _ = writeln!(log, "millrace-cni: {error}");
            (serialized(&error.to_object(version)).unwrap_or_default(), ExitCode::FAILURE)
        }
    };
    // A runtime that has not got the result takes the call for failed, and so must the exit code.
    if let Err(error) = output.write_all(&bytes).and_then(|()| output.flush()) {
        let _ = writeln!(log, "millrace-cni: cannot write the answer: {error}");
        return ExitCode::FAILURE;
    }
    code
}

/// What goes to standard output.
enum Answer {
    Nothing,
    Object(Vec<u8>),
}

fn answer(
    environment: &Environment,
    input: &mut dyn Read,
    log: &mut dyn Write,
    version: &mut Version,
) -> Result<Answer, CniError> {
    let arguments = Arguments::read(environment)?;
    let mut bytes = Vec::new();
    input.take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(CniError::Input)?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(CniError::InputTooLarge(MAX_INPUT));
    }
    if let Arguments::Version = arguments {
        return verbs::version(&bytes).and_then(|version| object(&version));
    }
    *version = config::version_of(&bytes)?;
    arguments.verb().check_version(*version)?;
    let config = NetworkConfig::read(bytes, environment)?;
    match arguments {
        Arguments::Add(call) => object(&verbs::add(&call, &config, log)?.in_version(*version)),
        Arguments::Del(call) => nothing(verbs::del(&call, &config, log)),
        Arguments::Check(call) => nothing(verbs::check(&call, &config)),
        Arguments::Gc => nothing(verbs::gc(&config, log)),
        Arguments::Status => nothing(verbs::status(&config)),
        Arguments::Version => Ok(Answer::Nothing),
    }
}

fn nothing(outcome: Result<(), CniError>) -> Result<Answer, CniError> {
    outcome.map(|()| Answer::Nothing)
}

fn object(value: &impl Serialize) -> Result<Answer, CniError> {
    serialized(value).map(Answer::Object)
}

fn serialized(value: &impl Serialize) -> Result<Vec<u8>, CniError> {
    let mut bytes = serde_json::to_vec(value).map_err(CniError::Output)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests;
