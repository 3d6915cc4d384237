//! PCI devices between the kernel's driver and DPDK's (Documentation/ABI/testing/sysfs-bus-pci: `driver_override`).

use super::TakeoverError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DEVICES: &str = "/sys/bus/pci/devices";
const DRIVERS: &str = "/sys/bus/pci/drivers";
/// What DPDK reaches a device through.
const VFIO: &str = "vfio-pci";
/// Drivers whose devices DPDK shares with the kernel: they stay where they are (DPDK's guides of mlx4 and mlx5).
const SHARED: [&str; 2] = ["mlx4_core", "mlx5_core"];
/// How long a driver may take to make its interface again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A PCI device and the driver that it had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct PciDevice {
    address: String,
    driver: String,
}

impl PciDevice {
    /// The PCI device that these devargs begin with, if it is to be taken from the kernel's driver.
    pub(super) fn of(devargs: &str) -> Result<Option<Self>, TakeoverError> {
        let Some(address) = address(devargs) else { return Ok(None) };
        let link = Path::new(DEVICES).join(&address).join("driver");
        let driver = std::fs::read_link(&link).map_err(TakeoverError::file(&link))?;
        let driver = driver.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let stays = SHARED.contains(&driver.as_str()) || driver == VFIO;
        Ok((!stays).then_some(PciDevice { address, driver }))
    }

    /// Takes it from its driver, for DPDK.
    pub(super) fn take(&self) -> Result<(), TakeoverError> {
        self.bind(VFIO)
    }

    /// Gives it back to its driver, and waits for its interface.
    pub(super) fn give_back(&self, interface: &str) -> Result<(), TakeoverError> {
        // An empty line takes the override away: the driver that fits is found.
        self.bind("")?;
        let path = Path::new(DEVICES).join(&self.address).join("driver");
        if !path.exists() {
            write(Path::new(DRIVERS).join(&self.driver).join("bind"), &self.address)?;
        }
        let until = Instant::now() + PATIENCE;
        while !Path::new("/sys/class/net").join(interface).exists() {
            if Instant::now() > until {
                return Err(TakeoverError::NoInterface(interface.to_owned()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn bind(&self, driver: &str) -> Result<(), TakeoverError> {
        let device = Path::new(DEVICES).join(&self.address);
        write(device.join("driver_override"), &format!("{driver}\n"))?;
        if device.join("driver").exists() {
            write(device.join("driver/unbind"), &self.address)?;
        }
        write(PathBuf::from("/sys/bus/pci/drivers_probe"), &self.address)
    }
}

fn write(path: PathBuf, text: &str) -> Result<(), TakeoverError> {
    std::fs::write(&path, text).map_err(TakeoverError::file(path))
}

/// The address that devargs begin with, with its domain: `0000:3b:00.0`.
fn address(devargs: &str) -> Option<String> {
    let device = devargs.split(',').next().unwrap_or_default();
    let device = device.strip_prefix("pci:").unwrap_or(device);
    let full = if device.matches(':').count() == 1 { format!("0000:{device}") } else { device.to_owned() };
    let (head, function) = full.split_once('.')?;
    let parts: Vec<&str> = head.split(':').collect();
    let is_hex =
        |part: &str, digits: usize| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let fits = parts.len() == 3 && is_hex(parts[0], 4) && is_hex(parts[1], 2) && is_hex(parts[2], 2);
    (fits && is_hex(function, 1)).then_some(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_devices_are_told_from_others_by_their_address() {
        assert_eq!(address("0000:3b:00.1").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(address("3b:00.1,txq_inline=0").as_deref(), Some("0000:3b:00.1"));
        assert_eq!(address("pci:0000:3b:00.1").as_deref(), Some("0000:3b:00.1"));
        for other in ["net_af_packet0,iface=eth1", "net_tap0", "", "3b:00", "3b:00.x", "zz:00.0"] {
            assert_eq!(address(other), None, "{other}");
        }
    }
}
