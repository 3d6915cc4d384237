//! The `millrace` command.

use clap::Parser;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = millrace_cli::Arguments::parse();
    millrace_cli::run(&arguments, &mut io::stdout().lock(), &mut io::stderr().lock())
}
