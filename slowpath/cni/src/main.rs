//! The CNI plugin.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let environment = millrace_cni::Environment::of_process();
    millrace_cni::run(
        &environment,
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
}
