//! The host's packets to frontends at other than cluster addresses. Those at the host's own addresses the kernel keeps on the
//! loopback interface, the others it sends out by the NICs that it shares with us: at the egress of all these a program
//! (`bpf/lead.c`) takes them to the TAP.
//!
//! Nothing is loaded before there is something to lead. The programs go with the device and with the process ([`tc`]).

use super::file::TapFile;
use crate::bpf_key::EndpointKey;
use crate::interface;
use crate::tc::{self, SchedClassifierLink, TcAttachType, Turn};
use crate::xdp::{XdpError, chain, lock};
use aya::maps::{HashMap, MapData};
use aya::{Ebpf, EbpfLoader};
use millrace_fastpath::port::{Claim, ClaimChanges};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::sync::{Arc, Mutex};

/// The compiled programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lead.o"));

/// The object's programs, by names that others have none of.
const LEAD: &str = "millrace_lead";
const BACK: &str = "millrace_back";

/// The loopback interface of every network namespace.
const LOOPBACK: &str = "lo";

/// What leads the host to a TAP.
pub(super) struct Lead {
    /// The TAP, whose interface may get another name.
    file: Arc<TapFile>,
    ifindex: u32,
    config: LeadConfig,
    loaded: Mutex<Option<Loaded>>,
}

/// What a TAP has that is the host's own leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeadConfig {
    /// The MAC address of the router behind it.
    pub router: MacAddr,
    /// The interfaces by which the host's packets leave, besides the loopback. They may come and go.
    pub ways_out: Vec<String>,
}

/// The programs and their map.
struct Loaded {
    frontends: HashMap<MapData, EndpointKey, u32>,
    known: HashSet<EndpointKey>,
    /// While they are here, the programs run.
    _links: [SchedClassifierLink; 2],
    /// The same on the ways out that there are, by name, with their numbers.
    ways_out: BTreeMap<String, (u32, SchedClassifierLink)>,
    object: Ebpf,
}

impl Lead {
    /// To a TAP.
    pub(super) fn new(file: Arc<TapFile>, ifindex: u32, config: LeadConfig) -> Lead {
        Lead { file, ifindex, config, loaded: Mutex::new(None) }
    }

    /// Leads the host to what is claimed, and no longer to what is released. Claims other than frontends mean nothing here.
    pub(super) fn steer(&self, changes: &ClaimChanges) -> Result<(), XdpError> {
        let mut loaded = lock(&self.loaded);
        let claimed: Vec<EndpointKey> = changes.claimed.iter().filter_map(key).collect();
        if loaded.is_none() && claimed.is_empty() {
            return Ok(());
        }
        let loaded = match &mut *loaded {
            Some(loaded) => loaded,
            none => none.insert(self.load()?),
        };
        // A way out that cannot be followed is no reason to lead to what is gone.
        let followed = self.follow(loaded);
        let Loaded { frontends, known, .. } = loaded;
        for key in changes.released.iter().filter_map(key) {
            if known.contains(&key) {
                frontends.remove(&key).map_err(|error| self.failed("changing the map", &error))?;
                known.remove(&key);
            }
        }
        for key in claimed {
            if !known.contains(&key) {
                frontends.insert(key, 1, 0).map_err(|error| self.failed("changing the map", &error))?;
                known.insert(key);
            }
        }
        followed
    }

    /// Sees to it that the program is on the ways out that are there now.
    fn follow(&self, loaded: &mut Loaded) -> Result<(), XdpError> {
        for name in &self.config.ways_out {
            let now = interface::index(name).ok();
            if loaded.ways_out.get(name).map(|(index, _)| *index) == now {
                continue;
            }
            loaded.ways_out.remove(name);
            if let Some(index) = now {
                let link = self.attach(&mut loaded.object, LEAD, name, TcAttachType::Egress)?;
                loaded.ways_out.insert(name.clone(), (index, link));
            }
        }
        Ok(())
    }

    fn load(&self) -> Result<Loaded, XdpError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        loader.override_global("leg", &self.ifindex, true);
        loader.override_global("gateway", &self.config.router.0, true);
        let loading = "loading the programs (CAP_BPF and CAP_NET_ADMIN?)";
        let mut object = loader.load(OBJECT).map_err(|error| self.failed(loading, &error))?;
        let map = object.take_map("frontends");
        let map = map.ok_or_else(|| self.refused(loading, "the object has no map frontends".to_owned()))?;
        let frontends = HashMap::try_from(map).map_err(|error| self.failed(loading, &error))?;
        let links = [
            self.attach(&mut object, LEAD, LOOPBACK, TcAttachType::Egress)?,
            self.attach(&mut object, BACK, &self.interface(), TcAttachType::Ingress)?,
        ];
        Ok(Loaded { frontends, known: HashSet::new(), _links: links, ways_out: BTreeMap::new(), object })
    }

    fn attach(
        &self,
        object: &mut Ebpf,
        name: &str,
        interface: &str,
        place: TcAttachType,
    ) -> Result<SchedClassifierLink, XdpError> {
        let attached = tc::attach(object, name, interface, place, Turn::Last);
        attached.map_err(|reason| self.refused("attaching the programs", reason))
    }

    fn failed(&self, doing: &'static str, error: &dyn Error) -> XdpError {
        self.refused(doing, chain(error))
    }

    fn refused(&self, doing: &'static str, reason: String) -> XdpError {
        XdpError::Lead { interface: self.interface(), doing, reason }
    }

    fn interface(&self) -> String {
        self.file.name().unwrap_or_else(|error| error.to_string())
    }
}

/// The map's key for a claim on a frontend.
fn key(claim: &Claim) -> Option<EndpointKey> {
    let Claim::Frontend { address, protocol, port } = claim else { return None };
    Some(EndpointKey::new(*address, *protocol, *port))
}
