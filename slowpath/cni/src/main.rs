//! The CNI plugin. `millrace-cni --install DIRECTORY` puts it where container runtimes look for it.

use std::io;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A runtime gives no arguments.
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [flag, directory] = arguments.as_slice()
        && flag == "--install"
    {
        return match millrace_cni::install(Path::new(directory)) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("millrace-cni: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let environment = millrace_cni::Environment::of_process();
    millrace_cni::run(
        &environment,
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
}
