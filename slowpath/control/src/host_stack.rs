//! The host's own network stack, as far as its leg into the pods' network is concerned.

use crate::driver::Refusal;
use crate::link::{self, HostRoutes, Obstacle};
use crate::uplink::kernel;
use std::net::IpAddr;

/// Knows the host's addresses, and leads the host to pods and services.
pub trait HostStack: Send {
    /// The host's own addresses; of each family that first which it sends from by default.
    fn addresses(&mut self) -> Result<Vec<IpAddr>, Refusal>;

    /// Has the host reach the ranges by its leg, and no others. Gives those that are left out, since the host has routes of
    /// its own there.
    fn lead(&mut self, wanted: &HostRoutes) -> Result<Vec<Obstacle>, Refusal>;

    /// Whether all that [`lead`](HostStack::lead) has set is still there. Not asked after it has left something out.
    fn is_led(&mut self, wanted: &HostRoutes) -> Result<bool, Refusal>;

    /// Has the host look for these neighbours, each given with the number of its interface, as if it had something to send
    /// to them. None of them is a permanent one.
    fn solicit(&mut self, neighbours: &[(u32, IpAddr)]) -> Result<(), Refusal>;
}

/// The kernel's, in the daemon's own network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelStack;

impl HostStack for KernelStack {
    fn addresses(&mut self) -> Result<Vec<IpAddr>, Refusal> {
        Ok(link::host_addresses()?)
    }

    fn lead(&mut self, wanted: &HostRoutes) -> Result<Vec<Obstacle>, Refusal> {
        Ok(link::lead_host(wanted)?)
    }

    fn is_led(&mut self, wanted: &HostRoutes) -> Result<bool, Refusal> {
        Ok(link::is_host_led(wanted)?)
    }

    fn solicit(&mut self, neighbours: &[(u32, IpAddr)]) -> Result<(), Refusal> {
        Ok(kernel::solicit(neighbours)?)
    }
}
