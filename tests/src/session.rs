//! Somebody who would notice every lost packet: a TCP session as SSH has it, and a row of pings.

use crate::netns::Netns;
use crate::pod::Pod;
use crate::process::Child;
use crate::traffic::Conversation;
use nix::sys::signal::Signal;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two words.
const PAUSE: Duration = Duration::from_millis(2);

/// A TCP connection on which somebody types all the time, each word answered by an echo.
#[derive(Debug)]
pub struct Session {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Told, String>>>,
    netns: Netns,
    own: SocketAddr,
}

/// What became of a session or a row of pings.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Words that were echoed, or requests that were answered.
    pub answered: u64,
    /// TCP segments sent again, or requests without answer.
    pub lost: u64,
    /// The longest time from a word to its echo; nothing is known of pings.
    pub longest: Duration,
}

impl Session {
    /// Opens it to an [`crate::Echo`].
    pub fn open(from: &Pod, to: SocketAddr) -> Self {
        let mut talk =
            Conversation::open(from, to).unwrap_or_else(|error| panic!("{} → {to}: {error}", from.name));
        talk.set_patience(Duration::from_secs(20));
        let (stop, own) = (Arc::new(AtomicBool::new(false)), talk.own_address());
        let (stopped, netns) = (Arc::clone(&stop), from.netns().borrowed());
        let inside = from.netns().borrowed();
        let thread = std::thread::spawn(move || {
            let mut told = Told { answered: 0, lost: 0, longest: Duration::ZERO };
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                talk.say("a word").map_err(|error| format!("after {} words: {error}", told.answered))?;
                told.answered += 1;
                told.longest = told.longest.max(begin.elapsed());
                std::thread::sleep(PAUSE);
            }
            told.lost = sent_again(&inside, own);
            Ok(told)
        });
        Session { stop, thread: Some(thread), netns, own }
    }

    /// Segments that this end has sent again until now.
    pub fn sent_again(&self) -> u64 {
        sent_again(&self.netns, self.own)
    }

    /// Ends it; it must not have been broken.
    pub fn close(mut self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs until now");
        let result = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.unwrap_or_else(|error| panic!("the session is broken {error}"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sent_again(netns: &Netns, own: SocketAddr) -> u64 {
    let shown = netns.must(&["ss", "-Htni", "src", &own.to_string()]);
    // `retrans:NOW/EVER`, where there were any.
    let counts = shown.split_whitespace().find_map(|word| word.strip_prefix("retrans:"));
    counts.and_then(|counts| counts.split('/').nth(1)?.parse().ok()).unwrap_or(0)
}

/// Echo requests, a hundred a second.
#[derive(Debug)]
pub struct Pings(Child);

impl Pings {
    /// Begins.
    pub fn start(from: &Pod, to: IpAddr) -> Self {
        let mut command = Command::new("ip");
        command
            .args([
                "netns",
                "exec",
                from.netns().name(),
                "ping",
                "-n",
                "-q",
                "-i0.01",
                "-W1",
                &to.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Pings(Child::spawn(&mut command))
    }

    /// Ends and counts.
    pub fn stop(mut self) -> Told {
        self.0.end(Signal::SIGINT, Duration::from_secs(5)).expect("ping ends");
        let mut said = String::new();
        self.0.inner().stdout.take().expect("a pipe").read_to_string(&mut said).expect("ping writes text");
        let numbers: Vec<u64> = said
            .lines()
            .find(|line| line.contains("packets transmitted"))
            .map(|line| line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok()).collect())
            .unwrap_or_default();
        let [sent, answered, ..] = numbers[..] else { panic!("ping counts: {said}") };
        // The last one may have been on its way.
        Told { answered, lost: (sent - answered).saturating_sub(1), longest: Duration::ZERO }
    }
}
