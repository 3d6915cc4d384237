//! A NIC that is taken from the kernel: the host goes on speaking through its leg, which gets the NIC's addresses and routes.
//!
//! What is moved is written down before it is touched. Whoever finds the record (the daemon at its end or its next start, or
//! the [watchdog](watch) when the daemon is no more) can put everything back, however often and from whatever point.

mod error;
mod hush;
mod moving;
mod pci;
mod record;
#[cfg(test)]
mod tests;
mod watchdog;

pub use error::TakeoverError;
pub use watchdog::{WATCHDOG_FLAG, watch};

use super::kernel::Socket;
use millrace_config::InterfaceName;
use millrace_fastpath::wire::ethernet::MacAddr;
use moving::Config;
use pci::PciDevice;
use record::{Records, Taken};
use std::ffi::OsString;
use std::path::Path;
use watchdog::Watchdog;

/// A NIC that is to be taken, and what the host speaks through meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nic {
    /// Its interface.
    pub interface: InterfaceName,
    /// The host's leg.
    pub leg: InterfaceName,
    /// Its MAC address, which the leg gets: that of the open device, if it says one.
    pub mac: MacAddr,
}

/// NICs that this process has taken.
#[derive(Debug)]
pub struct Takeover {
    records: Records,
    /// The program that is to watch over this process, called with [`WATCHDOG_FLAG`]; without, nobody does.
    guard: Option<OsString>,
    watchdog: Option<Watchdog>,
}

impl Takeover {
    /// With records in `state_directory`.
    pub fn new(state_directory: &Path) -> Self {
        Takeover { records: Records::new(state_directory), guard: None, watchdog: None }
    }

    /// Has `program` watch over this process while NICs are taken.
    pub fn guard_with(&mut self, program: OsString) {
        self.guard = Some(program);
    }

    /// Gives back what an earlier instance has left taken; gives the interfaces.
    pub fn give_back_leftovers(&mut self) -> Result<Vec<String>, TakeoverError> {
        self.records.give_back_all(None)
    }

    /// Before the device is opened: writes down what the NIC has, has somebody watch, and takes a PCI device from its driver.
    pub fn prepare(&mut self, nic: &Nic, devargs: &str) -> Result<(), TakeoverError> {
        let mut socket = Socket::open(0)?;
        let link = moving::find(&mut socket, nic.interface.as_str())?
            .ok_or_else(|| TakeoverError::NoInterface(nic.interface.to_string()))?;
        let mut taken = Taken::new(nic, &link, &Config::read(&mut socket, link.index)?);
        taken.pci = PciDevice::of(devargs)?;
        self.start_watchdog()?;
        taken.owner = self.watchdog.as_ref().map(|watchdog| watchdog.token().to_owned());
        self.records.write(&taken)?;
        match &taken.pci {
            Some(device) => device.take(),
            None => Ok(()),
        }
    }

    /// Once the device is open and the leg carries frames: moves addresses and routes to the leg, in one go.
    pub fn take(&mut self, nic: &Nic) -> Result<(), TakeoverError> {
        self.hand_over(nic)?;
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.say_up();
        }
        Ok(())
    }

    fn hand_over(&self, nic: &Nic) -> Result<(), TakeoverError> {
        let taken = self
            .records
            .read(nic.interface.as_str())?
            .ok_or_else(|| TakeoverError::NoInterface(nic.interface.to_string()))?;
        let mut socket = Socket::open(0)?;
        let leg = moving::find(&mut socket, nic.leg.as_str())?
            .ok_or_else(|| TakeoverError::NoInterface(nic.leg.to_string()))?;
        let former = moving::find(&mut socket, nic.interface.as_str())?;
        moving::dress_leg(&mut socket, &leg, nic, taken.mtu)?;
        let config = taken.config()?;
        // A NIC that stays in the kernel's sight is not to be heard twice.
        if let Some(link) = &former
            && let Err(error) = hush::hush(&mut socket, link.index)
        {
            tracing::warn!(interface = %nic.interface, %error, "the kernel hears what comes by the NIC twice");
        }
        config.move_over(&mut socket, taken.index, former.map(|link| link.index), leg.index)?;
        tracing::info!(nic = %nic.interface, leg = %nic.leg, what = %config, "taken from the kernel");
        Ok(())
    }

    /// Moves to the leg what somebody has given to the interface of a NIC since it was taken.
    pub fn follow(&mut self, nic: &Nic) -> Result<(), TakeoverError> {
        let mut socket = Socket::open(0)?;
        let (former, leg) = (
            moving::find(&mut socket, nic.interface.as_str())?,
            moving::find(&mut socket, nic.leg.as_str())?,
        );
        let (Some(former), Some(leg)) = (former, leg) else { return Ok(()) };
        let late = Config::read(&mut socket, former.index)?.without_link_local();
        let Some(mut taken) = self.records.read(nic.interface.as_str())?.filter(|_| late.has_address())
        else {
            return Ok(());
        };
        taken.add(&late);
        self.records.write(&taken)?;
        late.move_over(&mut socket, former.index, Some(former.index), leg.index)?;
        tracing::info!(nic = %nic.interface, leg = %nic.leg, what = %late, "moved to where the host speaks");
        Ok(())
    }

    /// Once the device is closed: gives everything back. To be repeated without harm.
    pub fn give_back(&mut self, nic: &Nic) -> Result<(), TakeoverError> {
        let _lock = self.records.lock()?;
        if let Some(taken) = self.records.read(nic.interface.as_str())? {
            record::give_back(&taken)?;
            self.records.remove(&taken.interface)?;
            tracing::info!(nic = %nic.interface, "given back to the kernel");
        }
        if self.records.is_empty()? {
            self.watchdog = None;
        }
        Ok(())
    }

    fn start_watchdog(&mut self) -> Result<(), TakeoverError> {
        if let (None, Some(program)) = (&self.watchdog, &self.guard) {
            self.watchdog = Some(Watchdog::start(program, self.records.directory()?)?);
        }
        Ok(())
    }
}
