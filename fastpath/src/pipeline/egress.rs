//! Where the pipeline puts the frames that it is done with.

use super::{Report, Wait};
use crate::port::{DropReason, PortId};

/// Takes frames that leave, by port. Keeps the order of frames to one port.
pub trait Egress<F> {
    /// Sends a frame by a port, now or with a later burst.
    fn send(&mut self, port: PortId, frame: F);

    /// Drops a frame for a reason, and counts it.
    fn drop_frame(&mut self, reason: DropReason, frame: F);

    /// Keeps a frame, as it arrived, until its neighbour is known. Who keeps nothing drops it.
    fn park(&mut self, _wait: &Wait, frame: F) {
        self.drop_frame(DropReason::NeighbourUnresolved, frame);
    }

    /// Tells the control thread something, if there is one that listens.
    fn report(&mut self, _report: Report) {}
}
