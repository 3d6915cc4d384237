//! Hostile guests on a vhost-user port, one after the other. Not a libFuzzer target: what a guest does takes effect
//! over time and in two threads, so a seed says what it does.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use millrace_fuzz::vhost::{HostilePort, session};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(seconds)), seed @ (None | Some(Ok(_)))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: vhost_ring SECONDS [SEED]\n  SEED  the only session to be run, over and over");
        return ExitCode::from(2);
    };
    let mut port = match HostilePort::try_new() {
        Ok(port) => port,
        Err(error) => {
            eprintln!("vhost_ring: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let start = Instant::now();
    let mut sessions = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let seed = match seed {
            Some(Ok(seed)) => seed,
            _ => sessions,
        };
        // A crash in C leaves no message: this line is then the last.
        eprintln!("session {seed}");
        session(&mut port, seed);
        sessions += 1;
    }
    println!("{sessions} guests, {} with rings that started, {} frames", port.sessions_up, port.frames());
    // Nothing is shown by guests that never get their rings started.
    if sessions > 20 && (port.sessions_up == 0 || port.frames() == 0) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
