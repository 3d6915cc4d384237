//! The memory that batches are in, and the program that sends them.

use super::{ETHER_TYPE, LONGEST, MOST_FRAMES, ether_type};
use crate::mapping::Mapping;
use crate::mbuf::{ETHERNET, Mbuf};
use crate::tc;
use crate::xdp::chain;
use aya::maps::{DevMapHash, Map, MapData};
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use millrace_fastpath::port::Frame;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// The compiled program.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/batch.o"));

/// The object's program and maps, by names that others have none of.
const SEND: &str = "millrace_send";
const BATCHES: &str = "batches";
const INTERFACES: &str = "interfaces";

const ROOM: usize = MOST_FRAMES * LONGEST;

/// Frames begin at multiples of this: a processor's cache line.
const ALIGNMENT: usize = 64;

/// What the program has not come to.
const UNTOUCHED: i32 = i32::MIN;

/// `struct place`: where a frame is in the bytes.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    at: u32,
    len: u32,
}

/// `struct batch` of `bpf/batch.c`.
#[repr(C, align(64))]
struct Shared {
    bytes: [u8; ROOM],
    ifindex: u32,
    queue: u32,
    count: u32,
    frames: [Place; MOST_FRAMES],
    outcomes: [i32; MOST_FRAMES],
}

const _: () = assert!(MOST_FRAMES == 64 && LONGEST == 2_048 && size_of::<Shared>() == 131_904);

/// The interfaces that the program knows.
pub(super) type Interfaces = DevMapHash<MapData>;

/// Room for one batch at a time.
pub(super) struct Area {
    /// The program, loaded.
    object: Arc<Ebpf>,
    /// The map of all areas.
    memory: Arc<Mapping>,
    number: usize,
    /// What the kernel makes the skb of: its length, number and EtherType count.
    model: [u8; LONGEST],
    count: usize,
    /// Bytes that are taken, and those of the longest frame.
    used: usize,
    longest: usize,
}

/// Loads the program for so many areas.
///
/// # Errors
/// The kernel's answer, down to its first cause.
pub(super) fn load(areas: usize) -> Result<(Vec<Area>, Interfaces), String> {
    let mut loader = EbpfLoader::new();
    // The program refers to none of the kernel's types, which are megabytes to read.
    loader.btf(None);
    loader.map_max_entries(BATCHES, areas as u32);
    let mut object = loader.load(OBJECT).map_err(|error| chain(&error))?;
    let mut map = |name| object.take_map(name).ok_or_else(|| format!("the object has no map {name}"));
    let Map::Array(batches) = map(BATCHES)? else { return Err("the map of batches is no array".to_owned()) };
    let interfaces = map(INTERFACES)?.try_into().map_err(|error: aya::maps::MapError| chain(&error))?;
    let memory = Mapping::shared(batches.fd().as_fd(), areas * size_of::<Shared>(), 0);
    let memory = Arc::new(memory.map_err(|error| chain(&error))?);
    tc::loaded(&mut object, SEND)?;
    let object = Arc::new(object);
    let area = |number| Area {
        object: object.clone(),
        memory: memory.clone(),
        number,
        model: [0; LONGEST],
        count: 0,
        used: 0,
        longest: 0,
    };
    let mut areas: Vec<Area> = (0..areas).map(area).collect();
    // What the process may do, or the kernel knows, may not be enough to run it.
    areas.iter_mut().try_for_each(|area| area.run().map_err(|error| chain(&error)))?;
    Ok((areas, interfaces))
}

impl Area {
    /// An empty batch for a transmit queue of the interface of this number.
    pub(super) fn begin(&mut self, ifindex: u32, queue: u32) {
        (self.count, self.used, self.longest) = (0, 0, 0);
        let shared = self.shared();
        (shared.ifindex, shared.queue) = (ifindex, queue);
    }

    /// Adds a finished frame; all of a batch are of the same EtherType. False: it is too long, or one too many.
    pub(super) fn push(&mut self, frame: &Mbuf) -> bool {
        let (number, at, len) = (self.count, self.used, frame.total_len());
        if number == MOST_FRAMES || len > LONGEST {
            return false;
        }
        let shared = self.shared();
        let mut room = &mut shared.bytes[at..at + len];
        for segment in frame.segments() {
            let (part, rest) = room.split_at_mut(segment.len());
            part.copy_from_slice(segment);
            room = rest;
        }
        shared.frames[number] = Place { at: at as u32, len: len as u32 };
        shared.outcomes[number] = UNTOUCHED;
        self.count += 1;
        self.used = at + len.next_multiple_of(ALIGNMENT);
        self.longest = self.longest.max(len);
        if let Some(ether_type) = ether_type(frame) {
            self.model[ETHER_TYPE].copy_from_slice(&ether_type);
        }
        true
    }

    /// Sends the batch, which is not empty. Of each frame what became of it: 0, a `NET_XMIT_…` or a negative error number.
    ///
    /// # Errors
    /// The kernel's; none was sent.
    pub(super) fn send(&mut self) -> Result<&[i32], ProgramError> {
        let ended = self.run();
        let count = self.count;
        let outcomes = &self.shared().outcomes[..count];
        match (ended, outcomes.first()) {
            (Err(error), Some(&UNTOUCHED)) => Err(error),
            _ => Ok(outcomes),
        }
    }

    /// Has the kernel run the program.
    fn run(&mut self) -> Result<(), ProgramError> {
        self.shared().count = self.count as u32;
        let number = (self.number as u32).to_ne_bytes();
        self.model[..number.len()].copy_from_slice(&number);
        let data_in = Some(&self.model[..self.longest.max(ETHERNET.into())]);
        let program: &SchedClassifier =
            self.object.program(SEND).ok_or(ProgramError::NotLoaded)?.try_into()?;
        program.test_run(TestRunOptions { data_in, ..TestRunOptions::new() })?;
        Ok(())
    }

    fn shared(&mut self) -> &mut Shared {
        // SAFETY: the mapping has room for as many as there are numbers.
        let mut shared: NonNull<Shared> = unsafe { self.memory.base().cast().add(self.number) };
        // SAFETY: it lies in the mapping, which begins at a page; any bytes are a value; there is one area of each number, and the kernel's
        // program touches it only during the calls that this makes, while nobody has a reference.
        unsafe { shared.as_mut() }
    }
}
