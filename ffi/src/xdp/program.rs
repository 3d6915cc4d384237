//! The XDP program of one interface, and the maps that tell it what to take.

use super::config::{Take, XdpMode};
use super::error::{Step, XdpError, chain};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, XskMap};
use aya::programs::xdp::{Xdp, XdpLink};
use aya::{Ebpf, EbpfLoader, Pod};
use ipnet::IpNet;
use std::error::Error;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The compiled program; its source is `bpf/steer.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.o"));

/// Sockets that the program's map holds: the most queues a port can have.
pub(super) const MOST_QUEUES: u32 = 64;

/// Entries of a map that this use of the program does not consult.
const UNUSED: u32 = 1;

/// Values of the prefix maps: `enum owner` of the source.
const KERNEL: u32 = 0;
const OURS: u32 = 1;

/// Who gets the packets to a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// They come to the port.
    Millrace,
    /// They stay with the kernel: gives back a part of a shorter prefix.
    Kernel,
}

/// Protocols whose ports can be taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A destination protocol and port: the key of the map, as the source lays it out.
#[derive(Clone, Copy)]
#[repr(C)]
struct ServiceKey {
    protocol: u8,
    zero: u8,
    port: [u8; 2],
}

// SAFETY: four bytes without padding, of which any pattern is a value.
unsafe impl Pod for ServiceKey {}

impl ServiceKey {
    fn new(transport: Transport, port: u16) -> ServiceKey {
        let protocol = match transport {
            Transport::Tcp => libc::IPPROTO_TCP,
            Transport::Udp => libc::IPPROTO_UDP,
            Transport::Sctp => libc::IPPROTO_SCTP,
        };
        ServiceKey { protocol: protocol as u8, zero: 0, port: port.to_be_bytes() }
    }
}

/// The maps, typed.
struct Maps {
    sockets: XskMap<MapData>,
    prefixes4: LpmTrie<MapData, [u8; 4], u32>,
    prefixes6: LpmTrie<MapData, [u8; 16], u32>,
    services: HashMap<MapData, ServiceKey, u32>,
}

/// What is taken from the kernel on one interface. All calls are the control thread's; the data path never
/// comes here. The program leaves the interface when this is dropped, or when the process ends in whatever way: it is
/// held by a descriptor and pinned nowhere.
pub struct Steering {
    interface: String,
    maps: Mutex<Maps>,
    /// Owns the program.
    object: Mutex<Ebpf>,
    /// While the program is attached.
    link: Mutex<Option<XdpLink>>,
}

impl Steering {
    /// Loads the program for `interface`; it is not attached yet.
    pub(super) fn load(interface: &str, take: Take) -> Result<Steering, XdpError> {
        let failed = |error: &dyn Error| refusal(interface, Step::LoadProgram, error);
        let mut object = loader(take).load(OBJECT).map_err(|error| failed(&error))?;
        program(&mut object, interface)?.load().map_err(|error| failed(&error))?;
        let maps = Maps {
            sockets: take_map(&mut object, interface, "sockets")?,
            prefixes4: take_map(&mut object, interface, "prefixes4")?,
            prefixes6: take_map(&mut object, interface, "prefixes6")?,
            services: take_map(&mut object, interface, "services")?,
        };
        Ok(Steering {
            interface: interface.to_owned(),
            maps: Mutex::new(maps),
            object: Mutex::new(object),
            link: Mutex::new(None),
        })
    }

    /// Attaches the program; gives the mode it runs in, which is not [`XdpMode::Auto`].
    pub(super) fn attach(&self, ifindex: u32, mode: XdpMode) -> Result<XdpMode, XdpError> {
        let failed = |error: &dyn Error| refusal(&self.interface, Step::AttachProgram, error);
        let mut object = lock(&self.object);
        let program = program(&mut object, &self.interface)?;
        let (id, mode) = match program.attach_to_if_index(ifindex, aya_mode(mode)) {
            Ok(id) if mode == XdpMode::Generic => (id, XdpMode::Generic),
            Ok(id) => (id, XdpMode::Native),
            Err(error) if mode == XdpMode::Auto => {
                tracing::info!(interface = self.interface, reason = chain(&error), "no native XDP");
                let generic = program.attach_to_if_index(ifindex, aya_mode(XdpMode::Generic));
                (generic.map_err(|error| failed(&error))?, XdpMode::Generic)
            }
            Err(error) => return Err(failed(&error)),
        };
        *lock(&self.link) = Some(program.take_link(id).map_err(|error| failed(&error))?);
        Ok(mode)
    }

    /// Takes the program off the interface: the kernel has all its packets back.
    pub(super) fn detach(&self) {
        drop(lock(&self.link).take());
    }

    /// Sends the packets of `queue` to `socket`.
    pub(super) fn enter(&self, queue: u32, socket: RawFd) -> Result<(), XdpError> {
        let done = lock(&self.maps).sockets.set(queue, socket, 0);
        done.map_err(|error| refusal(&self.interface, Step::Enter, &error))
    }

    /// Leaves the packets of `queue` to the kernel.
    pub(super) fn leave(&self, queue: u32) {
        if let Err(error) = lock(&self.maps).sockets.unset(queue) {
            // Not an error of ours: the kernel has done it already when the interface went away.
            tracing::debug!(interface = self.interface, queue, reason = chain(&error), "no socket to leave");
        }
    }

    /// Says who gets the packets to addresses in `prefix`. The longest prefix decides; adding one again changes its
    /// owner. Of no effect with [`Take::Everything`].
    ///
    /// # Errors
    /// The kernel's, for instance when 65,536 prefixes are there.
    pub fn add_prefix(&self, prefix: IpNet, owner: Owner) -> Result<(), XdpError> {
        let value = match owner {
            Owner::Millrace => OURS,
            Owner::Kernel => KERNEL,
        };
        let length = u32::from(prefix.prefix_len());
        let mut maps = lock(&self.maps);
        let done = match prefix {
            IpNet::V4(net) => maps.prefixes4.insert(&Key::new(length, net.network().octets()), value, 0),
            IpNet::V6(net) => maps.prefixes6.insert(&Key::new(length, net.network().octets()), value, 0),
        };
        done.map_err(|error| refusal(&self.interface, Step::Enter, &error))
    }

    /// Forgets `prefix`.
    ///
    /// # Errors
    /// The kernel's, for instance when it was not there.
    pub fn remove_prefix(&self, prefix: IpNet) -> Result<(), XdpError> {
        let length = u32::from(prefix.prefix_len());
        let mut maps = lock(&self.maps);
        let done = match prefix {
            IpNet::V4(net) => maps.prefixes4.remove(&Key::new(length, net.network().octets())),
            IpNet::V6(net) => maps.prefixes6.remove(&Key::new(length, net.network().octets())),
        };
        done.map_err(|error| refusal(&self.interface, Step::Remove, &error))
    }

    /// Takes the packets to `port` whose destination no prefix names.
    ///
    /// # Errors
    /// The kernel's, for instance when 16,384 ports are there.
    pub fn add_service(&self, transport: Transport, port: u16) -> Result<(), XdpError> {
        let done = lock(&self.maps).services.insert(ServiceKey::new(transport, port), OURS, 0);
        done.map_err(|error| refusal(&self.interface, Step::Enter, &error))
    }

    /// Gives the packets to `port` back to the kernel.
    ///
    /// # Errors
    /// The kernel's, for instance when it was not there.
    pub fn remove_service(&self, transport: Transport, port: u16) -> Result<(), XdpError> {
        let done = lock(&self.maps).services.remove(&ServiceKey::new(transport, port));
        done.map_err(|error| refusal(&self.interface, Step::Remove, &error))
    }
}

/// What reads the object, for each use of the program. Making a loader reads all of the kernel's types (megabytes, 20 ms),
/// which this program does not refer to: it is made once, and without them.
fn loader(take: Take) -> MutexGuard<'static, EbpfLoader<'static>> {
    static EVERYTHING: OnceLock<Mutex<EbpfLoader<'static>>> = OnceLock::new();
    static BY_MAPS: OnceLock<Mutex<EbpfLoader<'static>>> = OnceLock::new();
    let made = match take {
        Take::Everything => EVERYTHING.get_or_init(|| {
            let mut loader = EbpfLoader::new();
            loader.btf(None).override_global("take_all", &1_u8, true);
            for map in ["prefixes4", "prefixes6", "services"] {
                loader.map_max_entries(map, UNUSED);
            }
            Mutex::new(loader)
        }),
        Take::ByMaps => BY_MAPS.get_or_init(|| {
            let mut loader = EbpfLoader::new();
            loader.btf(None).override_global("take_all", &0_u8, true);
            Mutex::new(loader)
        }),
    };
    lock(made)
}

fn aya_mode(mode: XdpMode) -> aya::programs::XdpMode {
    match mode {
        XdpMode::Auto | XdpMode::Native => aya::programs::XdpMode::Driver,
        XdpMode::Generic => aya::programs::XdpMode::Skb,
    }
}

fn refusal(interface: &str, step: Step, error: &dyn Error) -> XdpError {
    XdpError::Program { interface: interface.to_owned(), step, reason: chain(error) }
}

fn missing(interface: &str, what: &str) -> XdpError {
    let reason = format!("the object has no {what}");
    XdpError::Program { interface: interface.to_owned(), step: Step::LoadProgram, reason }
}

fn program<'a>(object: &'a mut Ebpf, interface: &str) -> Result<&'a mut Xdp, XdpError> {
    let program = object.program_mut("steer").ok_or_else(|| missing(interface, "program steer"))?;
    program.try_into().map_err(|error| refusal(interface, Step::LoadProgram, &error))
}

fn take_map<M>(object: &mut Ebpf, interface: &str, name: &str) -> Result<M, XdpError>
where
    M: TryFrom<Map, Error: Error>,
{
    let map = object.take_map(name).ok_or_else(|| missing(interface, name))?;
    M::try_from(map).map_err(|error| refusal(interface, Step::LoadProgram, &error))
}

/// A panic while the lock was held leaves nothing half done here: each call is one system call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
