//! Interfaces that others than AF_XDP read, and whose packets are to come one by one.

use super::config::{Take, XdpMode};
use super::error::XdpError;
use super::program::{Flavour, Steering};
use crate::interface::{self, Probe};

/// The driver whose other end hands over what its sender has not cut.
const VETH: &str = "veth";

/// While this lives, an interface receives single packets: the kernel does not merge them (GRO), and the other end of a veth
/// cuts large ones, as it does for an interface with an XDP program (`veth_fix_features` in drivers/net/veth.c). The program
/// passes everything. A process that is killed leaves merging switched off.
pub(crate) struct Single {
    interface: String,
    probe: Probe,
    /// Whether packets were merged before.
    merged: bool,
    program: Option<Steering>,
}

impl Single {
    /// Sees to it for the interface, which is in the calling thread's network namespace. What cannot be done is logged.
    pub(crate) fn packets_of(interface: &str) -> Option<Single> {
        let probe = Probe::here().ok()?;
        let merged = probe.merges(interface).unwrap_or(false);
        let is_veth = probe.driver(interface).is_some_and(|driver| driver == VETH);
        let program = is_veth.then(|| pass_all(interface)).and_then(|outcome| match outcome {
            Ok(program) => Some(program),
            Err(error) => {
                tracing::warn!(%error, "the other end of the veth may send what no buffer takes");
                None
            }
        });
        // A program on a veth switches merging on.
        if let Err(error) = probe.set_merging(interface, false) {
            tracing::warn!(interface, %error, "GRO cannot be switched off: merged packets will be lost");
        }
        Some(Single { interface: interface.to_owned(), probe, merged, program })
    }
}

fn pass_all(interface: &str) -> Result<Steering, XdpError> {
    let gone = |source| XdpError::NoInterface { interface: interface.to_owned(), source };
    let ifindex = interface::index(interface).map_err(gone)?;
    let steering = Steering::load(interface, ifindex, 1, Take::ByMaps, Flavour::Long)
        .or_else(|_| Steering::load(interface, ifindex, 1, Take::ByMaps, Flavour::Short))?;
    steering.attach(ifindex, XdpMode::Native)?;
    Ok(steering)
}

impl Drop for Single {
    fn drop(&mut self) {
        self.program = None;
        if self.merged
            && let Err(error) = self.probe.set_merging(&self.interface, true)
        {
            tracing::warn!(interface = self.interface, %error, "GRO stays off");
        }
    }
}
