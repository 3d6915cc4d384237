//! The `millrace` command: asks the daemon and shows what it says.
//!
//! Exit codes: 0 done, 1 the daemon said no, 2 wrong usage, 3 the daemon cannot be reached.

#![forbid(unsafe_code)]

mod arguments;
mod port;
mod service;
mod service_name;
mod show;
mod table;
mod trace;

pub use arguments::{
    Arguments, Command, FlowArguments, ListCommand, Output, PortArguments, PortCommand, RouteCommand,
    ServiceCommand, TraceArguments,
};
pub use service_name::{NotAService, ServiceName};

use millrace_api::{Client, ClientError, RouteFilter, Untraceable, path};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Write};
use std::process::ExitCode;
use thiserror::Error;

/// Why a command was not carried out.
#[derive(Debug, Error)]
enum CommandError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("port {name}: {reason}")]
    Usage { name: String, reason: String },
    #[error(transparent)]
    Packet(#[from] Untraceable),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    #[error("cannot write: {0}")]
    Json(#[from] serde_json::Error),
}

impl CommandError {
    fn exit_code(&self) -> u8 {
        match self {
            CommandError::Client(ClientError::Unreachable { .. } | ClientError::Http { .. }) => 3,
            CommandError::Usage { .. } | CommandError::Packet(_) => 2,
            CommandError::Client(_) | CommandError::Output(_) | CommandError::Json(_) => 1,
        }
    }
}

/// Carries out a command.
pub fn run(arguments: &Arguments, out: &mut impl Write, errors: &mut impl Write) -> ExitCode {
    match execute(arguments, out, errors) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough, as `head` does.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Without a place to complain to, the exit code must do.
            let _ = writeln!(errors, "millrace: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute(arguments: &Arguments, out: &mut impl Write, errors: &mut impl Write) -> Result<(), CommandError> {
    let session = Session { client: Client::new(&arguments.socket), output: arguments.output };
    match &arguments.command {
        Command::Status => session.show(path::STATUS, out, show::status),
        Command::Port(PortCommand::List) => session.show(path::PORTS, out, show::ports),
        Command::Port(PortCommand::Add(port)) => session.add_port(port, out),
        Command::Port(PortCommand::Del { names }) => {
            names.iter().try_for_each(|name| Ok(session.client.delete(&path::port(name))?))
        }
        Command::Service(ServiceCommand::List) => session.show(path::SERVICES, out, show::services),
        Command::Service(ServiceCommand::Show { name }) => {
            session.show(&name.path(), out, service::explained)
        }
        Command::Peer(ListCommand::List) => session.show(path::PEERS, out, show::peers),
        Command::Route(RouteCommand::List { to }) => {
            session.show(&RouteFilter { to: *to }.to_path(), out, show::routes)
        }
        Command::Flow(arguments::FlowCommand::List(filter)) => {
            let flows: millrace_api::FlowList = session.client.get(&filter.filter().to_path())?;
            if flows.truncated {
                writeln!(errors, "millrace: only {} flows are shown; see --limit", flows.flows.len())?;
            }
            session.print(&flows, out, show::flows)
        }
        Command::Trace(packet) => session.show(&packet.request().checked()?.to_path(), out, trace::story),
        Command::Drops { all } => session.show(path::DROPS, out, |drops| show::drops(drops, *all)),
        Command::Worker(_) => session.show(path::WORKERS, out, show::workers),
        Command::Tables => session.show(path::TABLES, out, show::tables),
        Command::Errors => session.show(path::OBJECT_ERRORS, out, show::object_errors),
    }
}

struct Session {
    client: Client,
    output: Output,
}

impl Session {
    fn show<T: DeserializeOwned + Serialize>(
        &self,
        path: &str,
        out: &mut impl Write,
        text: impl Fn(&T) -> String,
    ) -> Result<(), CommandError> {
        let answer: T = self.client.get(path)?;
        self.print(&answer, out, text)
    }

    fn print<T: Serialize>(
        &self,
        answer: &T,
        out: &mut impl Write,
        text: impl Fn(&T) -> String,
    ) -> Result<(), CommandError> {
        match self.output {
            Output::Table => write!(out, "{}", text(answer))?,
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(answer)?)?,
        }
        Ok(())
    }

    fn add_port(&self, arguments: &PortArguments, out: &mut impl Write) -> Result<(), CommandError> {
        let config = port::config(arguments).map_err(|reason| CommandError::Usage {
            name: arguments.name.clone(),
            reason: reason.to_string(),
        })?;
        let port: millrace_api::Port = self.client.post(path::PORTS, &config)?;
        match self.output {
            // Success is silent, as elsewhere.
            Output::Table => Ok(()),
            Output::Json => self.print(&port, out, |_| String::new()),
        }
    }
}

#[cfg(test)]
mod tests;
