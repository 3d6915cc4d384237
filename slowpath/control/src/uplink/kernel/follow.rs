//! The thread that follows the kernel.

use super::state::{Stale, State};
use super::{KernelError, Socket, View};
use millrace_config::InterfaceName;
use nix::poll::PollTimeout;
use nix::sys::eventfd::{EfdFlags, EventFd};
use rtnetlink::packet_core::NetlinkPayload;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long what comes in numbers is gathered before it is told.
const GATHER: Duration = Duration::from_millis(2);
/// How long after a failure everything is read again.
const RECOVERY: Duration = Duration::from_millis(100);
/// Reading tables takes at most one part in so many of this thread's time: a routing daemon with a large table that changes
/// without end is followed at the pace that the table can be read.
const SHARE: u32 = 10;

/// `RTNLGRP_…` (linux/rtnetlink.h): links, neighbours, addresses and routes of both families, next-hop objects.
const GROUPS: u32 = mask(1) | mask(3) | mask(5) | mask(7) | mask(9) | mask(11) | mask(32);

const fn mask(group: u32) -> u32 {
    1 << (group - 1)
}

/// Follows the kernel until it is dropped.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Follows these interfaces of the calling thread's network namespace, there or not. `tell` is given what is known, at
    /// first and whenever it has changed; when it says that nobody listens any more, following ends.
    pub fn start(
        interfaces: BTreeSet<InterfaceName>,
        tell: impl FnMut(View) -> bool + Send + 'static,
    ) -> Result<Self, KernelError> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(KernelError::socket("making an eventfd"))?;
        let stop = Arc::new(stop);
        // Opened here: a thread inherits the namespace, and so does a failure reach the caller.
        let following = Following {
            events: Socket::open(GROUPS)?,
            questions: Socket::open(0)?,
            state: State::new(interfaces),
            stop: Arc::clone(&stop),
            told: None,
            tell: Box::new(tell),
        };
        let work = move || following.run();
        let thread =
            std::thread::Builder::new().name("kernel".to_owned()).spawn(work).map_err(KernelError::Thread)?;
        Ok(Follower { stop, thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Following {
    events: Socket,
    questions: Socket,
    state: State,
    stop: Arc<EventFd>,
    told: Option<View>,
    tell: Box<dyn FnMut(View) -> bool + Send>,
}

/// Why following ends.
enum End {
    Asked,
    Failed(KernelError),
}

impl From<KernelError> for End {
    fn from(error: KernelError) -> Self {
        End::Failed(error)
    }
}

impl Following {
    fn run(mut self) {
        loop {
            match self.follow() {
                Ok(()) | Err(End::Asked) => return,
                // The kernel's tables are there as ever: all that is lost is how they came about.
                Err(End::Failed(KernelError::Overrun)) => {
                    tracing::info!("the kernel's tables are read again")
                }
                Err(End::Failed(error)) => {
                    tracing::warn!(%error, "following the kernel");
                    if self.pause(RECOVERY).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads everything, then follows. What happens while it is read is told afterwards, and read again where that matters.
    fn follow(&mut self) -> Result<(), End> {
        let mut stale = Stale::Everything;
        loop {
            let began = Instant::now();
            match stale {
                Stale::Everything => self.state.read_everything(&mut self.questions)?,
                Stale::Routes => self.state.read_routes(&mut self.questions)?,
                Stale::None => {}
            }
            let took = began.elapsed();
            stale = self.drain()?;
            let view = self.state.view();
            if self.told.as_ref() != Some(&view) {
                self.told = Some(view.clone());
                if !(self.tell)(view) {
                    return Ok(());
                }
            }
            if stale != Stale::None {
                self.pause(took * SHARE)?;
            } else {
                self.wait(PollTimeout::NONE)?;
                self.pause(GATHER)?;
            }
            stale = stale.max(self.drain()?);
        }
    }

    /// Takes in all notifications that are there.
    fn drain(&mut self) -> Result<Stale, KernelError> {
        let mut stale = Stale::None;
        while let Some(messages) = self.events.try_receive()? {
            for message in messages {
                stale = stale.max(match &message.payload {
                    NetlinkPayload::InnerMessage(message) => self.state.note(message),
                    NetlinkPayload::Overrun(_) => return Err(KernelError::Overrun),
                    _ => Stale::None,
                });
            }
        }
        Ok(stale)
    }

    fn wait(&self, timeout: PollTimeout) -> Result<(), End> {
        let asked = self.events.wait(self.stop.as_fd(), timeout)?;
        if asked { Err(End::Asked) } else { Ok(()) }
    }

    /// Lets time go by.
    fn pause(&self, time: Duration) -> Result<(), End> {
        let mut fds = [nix::poll::PollFd::new(self.stop.as_fd(), nix::poll::PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, timeout) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Ok(_) => Err(End::Asked),
            Err(errno) => Err(KernelError::socket("waiting")(errno).into()),
        }
    }
}
