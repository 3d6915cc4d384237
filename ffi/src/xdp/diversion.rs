//! The programs of an uplink that is received from behind the kernel's receive offload (`bpf/take.c`), and the maps that tell them
//! what to take.

use super::claims::ClaimMaps;
use super::error::{Step, XdpError, chain};
use super::packet::PacketSocket;
use super::program::{claim_maps, lock, refusal, try_on};
use crate::tc::{self, SchedClassifierLink, TcAttachType, Turn};
use aya::programs::{ProgramError, SocketFilter, TestRunResult};
use aya::{Ebpf, EbpfLoader};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

/// The compiled programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/take.o"));

/// The object's programs, by names that others have none of.
const HEAR: &str = "millrace_hear";
const TAKE: &str = "millrace_take";
const GIVE: &str = "millrace_give";

/// What the program at the NIC answers for a packet that it takes (`TC_ACT_REDIRECT` and `TC_ACT_SHOT`).
pub(super) const TAKEN: [u32; 2] = [7, 2];

/// The programs, loaded.
pub(super) struct Diversion {
    /// The NIC's name.
    interface: String,
    claims: Mutex<ClaimMaps>,
    object: Mutex<Ebpf>,
    /// While they run.
    links: Mutex<Option<[SchedClassifierLink; 2]>>,
}

impl Diversion {
    /// Loads the programs for the NIC `interface`, whose number is `nic`, and the TAP whose number is `tap`. They do not run yet, and
    /// nothing is claimed.
    pub(super) fn load(interface: &str, nic: u32, tap: u32) -> Result<Diversion, XdpError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        loader.override_global("tap", &tap, true);
        loader.override_global("nic", &nic, true);
        let loaded = loader.load(OBJECT);
        let mut object = loaded.map_err(|error| refusal(interface, Step::LoadProgram, &error))?;
        let claims = claim_maps(&mut object, interface)?;
        Ok(Diversion {
            interface: interface.to_owned(),
            claims: Mutex::new(claims),
            object: Mutex::new(object),
            links: Mutex::new(None),
        })
    }

    /// Has the programs run: on the NIC, on the TAP of this name, and as filter of the sockets.
    pub(super) fn attach(&self, tap: &str, sockets: &[Arc<PacketSocket>]) -> Result<(), XdpError> {
        let mut object = lock(&self.object);
        for socket in sockets {
            let attached = filter(&mut object)
                .and_then(|filter| filter.attach(socket.as_fd()).map_err(|error| chain(&error)));
            attached.map_err(|reason| self.refused(Step::AttachProgram, reason))?;
        }
        let mut at = |name, interface: &str| {
            let attached = tc::attach(&mut object, name, interface, TcAttachType::Ingress, Turn::First);
            attached.map_err(|reason| self.refused(Step::AttachProgram, reason))
        };
        let give = at(GIVE, tap)?;
        let take = at(TAKE, &self.interface)?;
        *lock(&self.links) = Some([take, give]);
        Ok(())
    }

    /// Ends the programs: the kernel has all its packets back.
    pub(super) fn detach(&self) {
        drop(lock(&self.links).take());
    }

    /// What is claimed.
    pub(super) fn claims(&self) -> &Mutex<ClaimMaps> {
        &self.claims
    }

    /// Runs the program that takes on a frame that did not arrive.
    pub(super) fn try_out(&self, frame: &[u8], repeat: u32) -> Result<TestRunResult, XdpError> {
        let mut object = lock(&self.object);
        let program = tc::loaded(&mut object, TAKE);
        let program = program.map_err(|reason| self.refused(Step::LoadProgram, reason))?;
        try_on(&self.interface, program, frame, repeat)
    }

    fn refused(&self, step: Step, reason: String) -> XdpError {
        XdpError::Program { interface: self.interface.clone(), step, reason }
    }
}

/// The program that is a socket's filter, loaded.
fn filter(object: &mut Ebpf) -> Result<&mut SocketFilter, String> {
    let program = object.program_mut(HEAR).ok_or_else(|| format!("the object has no program {HEAR}"))?;
    let program: &mut SocketFilter = program.try_into().map_err(|error: ProgramError| chain(&error))?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(chain(&error)),
    }
}
