//! `millraced`: see the library.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    millraced::main(&millraced::Arguments::parse())
}
