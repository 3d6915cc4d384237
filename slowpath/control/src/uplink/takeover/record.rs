//! What was taken, on disk.

use super::moving::{self, Config, Link};
use super::pci::PciDevice;
use super::{Nic, TakeoverError, hush};
use crate::uplink::kernel::Socket;
use nix::fcntl::{Flock, FlockArg};
use rtnetlink::packet_core::{Emitable, Parseable};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::route::RouteMessage;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the records are, in the state directory.
const DIRECTORY: &str = "taken";
/// Whose holder may give back.
const LOCK: &str = "lock";
/// Ends every record's name.
const EXTENSION: &str = "json";

/// What a NIC's interface had before it was taken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    pub(super) interface: String,
    pub(super) index: u32,
    pub(super) mtu: u32,
    pub(super) leg: String,
    /// Addresses and routes as messages of the kernel's, in hexadecimal digits: whatever they say is kept.
    addresses: Vec<String>,
    routes: Vec<String>,
    /// The PCI device that was taken from its driver.
    pub(super) pci: Option<PciDevice>,
    /// The kernel's boot and the namespace: elsewhere the record means nothing.
    place: String,
    /// The watchdog's token of the process that has taken it.
    pub(super) owner: Option<String>,
}

impl Taken {
    pub(super) fn new(nic: &Nic, link: &Link, config: &Config) -> Self {
        Taken {
            interface: nic.interface.to_string(),
            index: link.index,
            mtu: link.mtu,
            leg: nic.leg.to_string(),
            addresses: config.addresses.iter().map(digits).collect(),
            routes: config.routes.iter().map(digits).collect(),
            pci: None,
            place: place(),
            owner: None,
        }
    }

    /// Adds what came later.
    pub(super) fn add(&mut self, config: &Config) {
        self.addresses.extend(config.addresses.iter().map(digits));
        self.routes.extend(config.routes.iter().map(digits));
    }

    /// What it had.
    pub(super) fn config(&self) -> Result<Config, TakeoverError> {
        let parse =
            |text: &String| TakeoverError::Content { interface: self.interface.clone(), text: text.clone() };
        let addresses = self.addresses.iter().map(|text| {
            bytes(text)
                .and_then(|bytes| AddressMessage::parse(bytes.as_slice()).ok())
                .ok_or_else(|| parse(text))
        });
        let routes = self.routes.iter().map(|text| {
            bytes(text)
                .and_then(|bytes| RouteMessage::parse(bytes.as_slice()).ok())
                .ok_or_else(|| parse(text))
        });
        Ok(Config {
            addresses: addresses.collect::<Result<_, _>>()?,
            routes: routes.collect::<Result<_, _>>()?,
        })
    }
}

/// Gives back what one record says. To be repeated without harm.
pub(super) fn give_back(taken: &Taken) -> Result<(), TakeoverError> {
    if let Some(device) = &taken.pci {
        device.give_back(&taken.interface)?;
    }
    let mut socket = Socket::open(0)?;
    let link = moving::find(&mut socket, &taken.interface)?
        .ok_or_else(|| TakeoverError::NoInterface(taken.interface.clone()))?;
    moving::set_up(&mut socket, link.index)?;
    let leg = moving::find(&mut socket, &taken.leg)?;
    let recorded = taken.config()?;
    // What was changed meanwhile was changed at the leg.
    let current = match &leg {
        Some(leg) => Config::read(&mut socket, leg.index)?.without_link_local(),
        None => Config::default(),
    };
    let moved = match &leg {
        Some(leg) if current.has_address() => {
            current.move_over(&mut socket, leg.index, Some(leg.index), link.index)
        }
        _ => recorded.move_over(&mut socket, taken.index, None, link.index),
    };
    // Whatever happened, the kernel is to hear it again.
    hush::unhush(&mut socket, link.index)?;
    moved
}

/// The records of a state directory.
#[derive(Debug)]
pub(super) struct Records(PathBuf);

impl Records {
    pub(super) fn new(state_directory: &Path) -> Self {
        Records(state_directory.join(DIRECTORY))
    }

    pub(super) fn directory(&self) -> Result<&Path, TakeoverError> {
        std::fs::create_dir_all(&self.0).map_err(TakeoverError::file(&self.0))?;
        Ok(&self.0)
    }

    /// Of the directory itself.
    pub(super) fn at(directory: &Path) -> Self {
        Records(directory.to_owned())
    }

    fn path(&self, interface: &str) -> PathBuf {
        self.0.join(interface).with_added_extension(EXTENSION)
    }

    /// Waits until nobody else gives back. The kernel releases it with the process.
    pub(super) fn lock(&self) -> Result<Flock<File>, TakeoverError> {
        let path = self.directory()?.join(LOCK);
        let file = File::create(&path).map_err(TakeoverError::file(&path))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| TakeoverError::file(&path)(errno.into()))
    }

    /// Replaces a record in one step. Not forced to disk: what it records does not survive the kernel either.
    pub(super) fn write(&self, taken: &Taken) -> Result<(), TakeoverError> {
        self.directory()?;
        let path = self.path(&taken.interface);
        let bytes = serde_json::to_vec(taken)
            .map_err(|source| TakeoverError::Record { path: path.clone(), source })?;
        let next = path.with_extension("new");
        std::fs::write(&next, bytes).map_err(TakeoverError::file(&next))?;
        std::fs::rename(&next, &path).map_err(TakeoverError::file(&path))
    }

    /// The record of an interface, if it is of this boot and namespace.
    pub(super) fn read(&self, interface: &str) -> Result<Option<Taken>, TakeoverError> {
        let path = self.path(interface);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TakeoverError::File { path, source }),
        };
        let taken: Taken =
            serde_json::from_slice(&bytes).map_err(|source| TakeoverError::Record { path, source })?;
        Ok((taken.place == place()).then_some(taken))
    }

    pub(super) fn remove(&self, interface: &str) -> Result<(), TakeoverError> {
        let path = self.path(interface);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TakeoverError::file(path)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_empty(&self) -> Result<bool, TakeoverError> {
        Ok(self.interfaces()?.is_empty())
    }

    fn interfaces(&self) -> Result<Vec<String>, TakeoverError> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(TakeoverError::File { path: self.0.clone(), source }),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect())
    }

    /// Gives back all that is recorded, or all that one owner has taken; gives the interfaces.
    pub(super) fn give_back_all(&self, owner: Option<&str>) -> Result<Vec<String>, TakeoverError> {
        if self.is_empty()? {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let (mut given, mut failure) = (Vec::new(), Ok(()));
        for interface in self.interfaces()? {
            let Some(taken) = self.read(&interface)? else {
                self.remove(&interface)?;
                continue;
            };
            if owner.is_some() && taken.owner.as_deref() != owner {
                continue;
            }
            match give_back(&taken).and_then(|()| self.remove(&interface)) {
                Ok(()) => given.push(interface),
                // The others are to have theirs all the same.
                Err(error) => failure = failure.and(Err(error)),
            }
        }
        failure.map(|()| given)
    }
}

/// The kernel's boot and the network namespace of the calling thread.
fn place() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::metadata("/proc/thread-self/ns/net").map(|file| file.ino()).unwrap_or_default();
    format!("boot {} net:[{namespace}]", boot.trim())
}

fn digits(message: &impl Emitable) -> String {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
