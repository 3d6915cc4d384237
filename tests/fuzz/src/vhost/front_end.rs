//! The front end's side of the vhost-user protocol, as far as a device needs it to start; and some nonsense.

use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::guest_memory::{
    AVAILABLE, DESCRIPTORS, GUEST_ADDRESS, GuestMemory, RING, RING_STRIDE, RINGS, SIZE, USED, USER_ADDRESS,
};
use super::random::Random;

/// Requests (vhost-user protocol, "Front-end message types").
mod request {
    pub(super) const GET_FEATURES: u32 = 1;
    pub(super) const SET_FEATURES: u32 = 2;
    pub(super) const SET_OWNER: u32 = 3;
    pub(super) const SET_MEM_TABLE: u32 = 5;
    pub(super) const SET_VRING_NUM: u32 = 8;
    pub(super) const SET_VRING_ADDR: u32 = 9;
    pub(super) const SET_VRING_BASE: u32 = 10;
    pub(super) const GET_VRING_BASE: u32 = 11;
    pub(super) const SET_VRING_KICK: u32 = 12;
    pub(super) const SET_VRING_CALL: u32 = 13;
    pub(super) const GET_PROTOCOL_FEATURES: u32 = 15;
    pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
    pub(super) const SET_VRING_ENABLE: u32 = 18;
}

/// Negotiates protocol features.
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;
const PACKED: u64 = 1 << 34;

/// A guest that is connected.
pub(super) struct Guest {
    stream: UnixStream,
    pub(super) memory: GuestMemory,
    kicks: Vec<OwnedFd>,
}

/// Connects and starts the device, with features as `random` has it.
pub(super) fn connect(socket: &Path, random: &mut Random) -> io::Result<Guest> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let offered = get(&stream, request::GET_FEATURES)?;
    let mut features = offered & (random.next() | random.next()) | PROTOCOL_FEATURES | VERSION_1;
    if random.one_in(20) {
        features ^= 1 << random.below(64);
    }
    let protocol = get(&stream, request::GET_PROTOCOL_FEATURES)?;
    // Without acknowledgments (bit 3), which would have to be read.
    send(&stream, request::SET_PROTOCOL_FEATURES, &(protocol & 1).to_le_bytes(), &[])?;
    send(&stream, request::SET_OWNER, &[], &[])?;
    send(&stream, request::SET_FEATURES, &features.to_le_bytes(), &[])?;

    let packed = features & PACKED != 0;
    let memory = GuestMemory::try_new(packed, random)?;
    let region = [1, GUEST_ADDRESS, SIZE, USER_ADDRESS, 0].map(u64::to_le_bytes).concat();
    send(&stream, request::SET_MEM_TABLE, &region, &[memory.fd().as_raw_fd()])?;
    let mut guest = Guest { stream, memory, kicks: Vec::new() };
    for ring in 0..RINGS {
        guest.start_ring(ring as u32, packed, random)?;
    }
    Ok(guest)
}

impl Guest {
    fn start_ring(&mut self, ring: u32, packed: bool, random: &mut Random) -> io::Result<()> {
        let state = |number: u32| [ring, number].map(u32::to_le_bytes).concat();
        let (kick, call) = (event()?, event()?);
        let start = USER_ADDRESS + u64::from(ring) * RING_STRIDE;
        let mut places = [start + DESCRIPTORS, start + USED, start + AVAILABLE, 0];
        if random.one_in(50) {
            let place = random.below(3) as usize;
            places[place] = places[place].wrapping_add(random.next() >> random.below(64));
        }
        let size = if random.one_in(50) { random.next() as u32 } else { u32::from(RING) };
        // A packed ring begins in its first round: both wrap counters are 1.
        let base = if random.one_in(20) {
            random.next() as u32
        } else if packed {
            0x8000_8000
        } else {
            0
        };
        let stream = &self.stream;
        send(stream, request::SET_VRING_CALL, &u64::from(ring).to_le_bytes(), &[call.as_raw_fd()])?;
        send(stream, request::SET_VRING_NUM, &state(size), &[])?;
        send(stream, request::SET_VRING_BASE, &state(base), &[])?;
        let address = [state(0), places.map(u64::to_le_bytes).concat()].concat();
        send(stream, request::SET_VRING_ADDR, &address, &[])?;
        send(stream, request::SET_VRING_KICK, &u64::from(ring).to_le_bytes(), &[kick.as_raw_fd()])?;
        send(stream, request::SET_VRING_ENABLE, &state(1), &[])?;
        self.kicks.push(kick);
        Ok(())
    }

    /// Wakes the device, restarts a ring, or says something odd. Whether anybody listens does not matter.
    pub(super) fn kick_or_talk(&self, random: &mut Random) {
        let ring = random.below(3) as u32;
        let state = |number: u32| [ring, number].map(u32::to_le_bytes).concat();
        let _ = match random.below(6) {
            0 => send(&self.stream, request::SET_VRING_ENABLE, &state(random.below(3) as u32), &[]),
            1 => send(&self.stream, request::SET_VRING_BASE, &state(random.next() as u32), &[]),
            2 => send(&self.stream, request::SET_VRING_NUM, &state(random.next() as u32), &[]),
            3 => get_state(&self.stream, request::GET_VRING_BASE, &state(0)).map(drop),
            4 => {
                // A request that there is not, or of a length that it must not have.
                let mut payload = vec![0; random.below(64) as usize];
                random.fill(&mut payload);
                send(&self.stream, random.pick(&[0, 2, 8, 9, 10, 18, 19, 24, 100, u32::MAX]), &payload, &[])
            }
            _ => self
                .kicks
                .iter()
                .try_for_each(|kick| nix::unistd::write(kick, &1_u64.to_ne_bytes()).map(drop))
                .map_err(io::Error::from),
        };
    }
}

fn event() -> io::Result<OwnedFd> {
    Ok(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into())
}

/// Asks for a number.
fn get(stream: &UnixStream, request: u32) -> io::Result<u64> {
    let answer = get_state(stream, request, &[])?;
    Ok(answer.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

/// Asks, and gives the answer's payload.
fn get_state(mut stream: &UnixStream, request: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    send(stream, request, payload, &[])?;
    let mut header = [0; 12];
    stream.read_exact(&mut header)?;
    let [.., a, b, c, d] = header;
    let mut answer = vec![0; u32::from_le_bytes([a, b, c, d]).min(4096) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Sends a message of version 1, with descriptors.
fn send(stream: &UnixStream, request: u32, payload: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let header = [request, 1, payload.len() as u32].map(u32::to_le_bytes).concat();
    let parts = [IoSlice::new(&header), IoSlice::new(payload)];
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(stream.as_fd().as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
