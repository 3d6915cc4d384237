//! The `millrace-pktgen` program.

#![forbid(unsafe_code)]

use clap::Parser;
use millrace_pktgen::{Arguments, LoadError, Tester, search};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millrace-pktgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), LoadError> {
    let mut tester = Tester::try_new(arguments)?;
    let (warm_up, measure) =
        (Duration::from_secs_f64(arguments.warm_up), Duration::from_secs_f64(arguments.seconds));
    let mut report = tester.trial(arguments.rate, warm_up, measure);
    let mut without_loss = None;
    if let Some(allowed) = arguments.loss {
        let most = (report.received_mpps * 1e6) as u64;
        let rate = search(most, allowed, |rate| tester.trial(rate, Duration::ZERO, measure).loss_percent);
        report = tester.trial(rate.max(1), Duration::ZERO, measure);
        without_loss = Some(rate);
    }
    let answer = serde_json::json!({ "trial": report, "rate_without_loss": without_loss });
    println!("{answer}");
    Ok(())
}
