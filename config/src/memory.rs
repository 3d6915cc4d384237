//! Packet memory.

use crate::error::InvalidValue;
use crate::node::bounded_number;
use serde::{Deserialize, Serialize};

/// The packet memory of the daemon, allocated when it starts.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "RawMemory")]
pub struct Memory {
    /// Whether it lies in hugepages.
    pub hugepages: Hugepages,
    /// How much memory DPDK may take.
    pub mebibytes: Mebibytes,
    /// Frames of the pool that all ports but AF_XDP pods receive into.
    pub frames: FrameCount,
    /// Frames of the arena that AF_XDP pods share. The kernel keeps 128 bytes for each of them *and each port*.
    pub af_xdp_frames: FrameCount,
}

/// Whether packet memory lies in hugepages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hugepages {
    /// In hugepages if enough are free, in ordinary memory otherwise.
    #[default]
    Auto,
    /// In ordinary memory.
    Never,
    /// In hugepages; the daemon does not start without.
    Required,
}

bounded_number! {
    /// An amount of memory.
    Mebibytes(u32), 64..=1_048_576, " MiB"
}

bounded_number! {
    /// A number of frames in a pool.
    FrameCount(u32), 1_024..=4_194_304, " frames"
}

/// What a frame takes: 2 KiB of data, headroom, the mbuf's own 128 bytes and the pool's bookkeeping.
const FRAME_BYTES: u64 = 2_560;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct RawMemory {
    hugepages: Hugepages,
    mebibytes: Mebibytes,
    frames: FrameCount,
    af_xdp_frames: FrameCount,
}

impl Default for RawMemory {
    fn default() -> Self {
        RawMemory {
            hugepages: Hugepages::Auto,
            mebibytes: Mebibytes(256),
            frames: FrameCount(32_768),
            af_xdp_frames: FrameCount(16_384),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        let RawMemory { hugepages, mebibytes, frames, af_xdp_frames } = RawMemory::default();
        Memory { hugepages, mebibytes, frames, af_xdp_frames }
    }
}

impl TryFrom<RawMemory> for Memory {
    type Error = InvalidValue;
    fn try_from(raw: RawMemory) -> Result<Self, InvalidValue> {
        let frames = u64::from(raw.frames.get()) + u64::from(raw.af_xdp_frames.get());
        let needed = (frames * FRAME_BYTES).div_ceil(1 << 20);
        if u64::from(raw.mebibytes.get()) < needed {
            return Err(InvalidValue::Range {
                value: raw.mebibytes.get().into(),
                least: needed,
                most: Mebibytes::MOST.into(),
                unit: " MiB, which this many frames need",
            });
        }
        Ok(Memory {
            hugepages: raw.hugepages,
            mebibytes: raw.mebibytes,
            frames: raw.frames,
            af_xdp_frames: raw.af_xdp_frames,
        })
    }
}
