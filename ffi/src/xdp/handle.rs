//! A queue's socket, as its device sees it.

use super::socket::Socket;
use millrace_fastpath::port::{DropReason, PortCounters};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A socket that its queue closes, and that the control thread may ask for statistics meanwhile. The lock is
/// the control thread's and the closing queue's; polling knows the descriptor's number and needs none.
#[derive(Debug)]
pub(super) struct SharedSocket {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` after the queue has closed it.
    socket: Option<Socket>,
    /// Packets that the kernel had for this socket and lost, of which the counters know already.
    lost: u64,
}

impl SharedSocket {
    pub(super) fn new(socket: Socket) -> SharedSocket {
        SharedSocket { state: Mutex::new(State { socket: Some(socket), lost: 0 }) }
    }

    /// Adds to `counters` what the kernel has dropped on this socket since the last call: it had no chunk or no
    /// slot to put the packet into.
    pub(super) fn count_losses(&self, counters: &PortCounters) {
        let mut state = self.lock();
        let Some(Ok(kernel)) = state.socket.as_ref().map(Socket::statistics) else { return };
        let lost = kernel.rx_dropped + kernel.rx_ring_full;
        if lost > state.lost {
            counters.dropped(DropReason::NoBuffer, lost - state.lost);
            state.lost = lost;
        }
    }

    /// Whether the driver reads and writes the packet memory itself.
    pub(super) fn is_zero_copy(&self) -> bool {
        self.lock().socket.as_ref().is_some_and(Socket::is_zero_copy)
    }

    /// Closes the socket. When this returns, the kernel does not use its chunks any more.
    pub(super) fn close(&self) {
        drop(self.lock().socket.take());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
