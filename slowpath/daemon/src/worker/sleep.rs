//! How a worker sleeps, and is woken.

use crate::StartError;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollOp, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Longest sleep: the flow table's timeouts are looked after between two.
const LONGEST: u16 = 100;

/// Wakes one worker, from any thread.
#[derive(Clone)]
pub(crate) struct Doorbell(Arc<EventFd>);

impl Doorbell {
    pub(crate) fn try_new() -> Result<Self, StartError> {
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map(|event| Doorbell(Arc::new(event)))
            .map_err(|errno| StartError::system("making an eventfd")(errno.into()))
    }

    /// Rings. A bell that is not answered for 2⁶⁴ rings is still rung.
    pub(crate) fn ring(&self) {
        let _ = self.0.write(1);
    }

    fn answer(&self) {
        let _ = self.0.read();
    }
}

/// A worker's bed: its doorbells and the descriptors of its queues, in one epoll set.
pub(crate) struct Bed {
    epoll: Epoll,
    /// Rung with every command: queues may have come or gone.
    commands: Doorbell,
    /// Rung by other workers that hand over frames.
    handover: Doorbell,
    registered: Vec<i32>,
    /// Whether a queue gave a descriptor that cannot be waited for.
    deaf: bool,
}

/// What an event in the epoll set stands for, in its `data`.
const COMMANDS: u64 = 0;
const OTHER: u64 = 1;

impl Bed {
    pub(crate) fn try_new(commands: Doorbell, handover: Doorbell) -> Result<Self, StartError> {
        let failed = |errno: Errno| StartError::system("making an epoll set")(errno.into());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        epoll.add(&*commands.0, EpollEvent::new(EpollFlags::EPOLLIN, COMMANDS)).map_err(failed)?;
        epoll.add(&*handover.0, EpollEvent::new(EpollFlags::EPOLLIN, OTHER)).map_err(failed)?;
        Ok(Bed { epoll, commands, handover, registered: Vec::new(), deaf: false })
    }

    /// Sleeps until one of `descriptors` is readable, a doorbell rings, or 100 ms have passed. With a descriptor that
    /// cannot be waited for, `nap` at most.
    pub(crate) fn sleep(&mut self, descriptors: Vec<i32>, nap: Duration) {
        if descriptors != self.registered {
            self.register(descriptors);
        }
        let timeout = if self.deaf { (nap.as_millis() as u16).min(LONGEST) } else { LONGEST };
        let mut events = [EpollEvent::empty(); 8];
        let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::from(timeout)) else { return };
        self.handover.answer();
        if events[..count].iter().any(|event| event.data() == COMMANDS) {
            self.commands.answer();
            // A descriptor may have been closed and another opened under its number: ask for all of them anew.
            let descriptors = std::mem::take(&mut self.registered);
            self.forget(&descriptors);
        }
    }

    fn register(&mut self, descriptors: Vec<i32>) {
        let former = std::mem::take(&mut self.registered);
        self.forget(&former);
        self.deaf = false;
        for &descriptor in &descriptors {
            if let Err(error) = control(&self.epoll, EpollOp::EpollCtlAdd, descriptor) {
                tracing::debug!(descriptor, %error, "a queue's descriptor cannot be waited for");
                self.deaf = true;
            }
        }
        self.registered = descriptors;
    }

    fn forget(&self, descriptors: &[i32]) {
        for &descriptor in descriptors {
            // Closed ones have left the set by themselves.
            let _ = control(&self.epoll, EpollOp::EpollCtlDel, descriptor);
        }
    }
}

/// Adds or removes a descriptor that somebody else owns. If that one has closed it, the kernel says so: nothing
/// worse can come of its number.
#[expect(
    deprecated,
    reason = "the newer methods want a descriptor that is known to be open, which a number is not"
)]
fn control(epoll: &Epoll, operation: EpollOp, descriptor: RawFd) -> nix::Result<()> {
    let mut event = EpollEvent::new(EpollFlags::EPOLLIN, OTHER);
    nix::sys::epoll::epoll_ctl(epoll.0.as_raw_fd(), operation, descriptor, &mut event)
}
