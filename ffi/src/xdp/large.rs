//! Large frames, past AF_XDP: whole, through a packet socket, and cut by the kernel or the NIC. Datagrams of one flow that
//! follow each other are such a frame, too. Where the uplink has a TAP that knows of tunnels, TCP in a tunnel goes out by that.
//!
//! Why: `docs/decisions/0017-large-frames-past-af-xdp.md` and `0020-receiving-behind-gro.md`.

use super::packet::PacketSocket;
use crate::checksum;
use crate::gso::train::{Parts, Progress, Trains};
use crate::gso::{self, convoy, outer};
use crate::mbuf::{ETHERNET, Mbuf, TCP_CHECKSUM};
use crate::tap::TapFile;
use crate::virtio_header;
use millrace_fastpath::port::{Checksum, DropReason, Frame, Gso, GsoKind, Offload};
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Large frames of a kind that are cut here after the kernel has refused one, before it is asked again.
const REST: u32 = 1 << 16;

/// Datagrams that are handed over together, at least: fewer cost less through the ring.
const LEAST_TOGETHER: usize = 8;

/// What the kernel may refuse, each by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    TcpV4,
    TcpV6,
    Udp,
    TunnelV4,
    TunnelV6,
    Datagrams,
    /// By the TAP.
    Tunnelled,
}

const KINDS: usize = 7;

/// Bytes of a frame, at most: an Ethernet header, and as much as an IP header can say.
const LONGEST_FRAME: usize = ETHERNET as usize + 65_535;

impl Kind {
    fn of(gso: Gso, offload: &Offload) -> Kind {
        match gso.kind {
            _ if offload.outer != 0 => match outer::is_v6(outer::udp_offset(offload.outer.into())) {
                false => Kind::TunnelV4,
                true => Kind::TunnelV6,
            },
            GsoKind::TcpV4 => Kind::TcpV4,
            GsoKind::TcpV6 => Kind::TcpV6,
            GsoKind::Udp => Kind::Udp,
        }
    }
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handed {
    /// All of it was taken.
    Whole,
    /// The kernel cannot take it, or the rest of it, now.
    Later,
    /// So many of its pieces were taken, and the rest is to be cut here.
    Refused(usize),
    Lost(DropReason),
}

/// One queue's way for large frames.
#[derive(Debug)]
pub(super) struct Large {
    interface: String,
    socket: PacketSocket,
    /// A TAP whose frames go out by the interface, and which takes large ones in tunnels.
    tap: Option<Arc<TapFile>>,
    /// Bytes of a piece, at most.
    longest_piece: usize,
    datagrams: bool,
    /// The UDP port of tunnels' packets.
    tunnel_port: u16,
    /// For each kind, how many frames are still cut here.
    resting: [u32; KINDS],
    trains: Trains,
    /// Of the frame that waits.
    progress: Progress,
    /// Something went out by the socket since it was last seen empty.
    was_used: bool,
}

impl Large {
    /// The way for an interface of the calling thread's network namespace. `datagrams`: whether it is to be given large datagrams,
    /// which those of a tunnel are. `tunnel_port`: the UDP port of tunnels' packets, which get a checksum by this way; 0 for none.
    /// `tap`: whose frames go out by the interface, too.
    ///
    /// # Errors
    /// Those of [`PacketSocket::sender`].
    pub(super) fn open(
        interface: &str,
        ifindex: u32,
        longest_piece: usize,
        datagrams: bool,
        tunnel_port: u16,
        tap: Option<Arc<TapFile>>,
    ) -> io::Result<Large> {
        Ok(Large {
            interface: interface.to_owned(),
            socket: PacketSocket::sender(ifindex)?,
            tap: tap.filter(|tap| tap.carries_tunnels()),
            longest_piece,
            datagrams,
            tunnel_port,
            resting: [0; KINDS],
            trains: Trains::default(),
            progress: Progress::default(),
            was_used: false,
        })
    }

    /// Whether to hand this frame over, as far as can be told before.
    pub(super) fn takes(&mut self, frame: &mut Mbuf) -> bool {
        self.takes_tunnelled(frame) || self.takes_large(frame)
    }

    fn takes_large(&mut self, frame: &Mbuf) -> bool {
        let offload = frame.offload();
        let Some(gso) = offload.gso else { return false };
        let kind = Kind::of(gso, &offload);
        if !self.datagrams && !matches!(kind, Kind::TcpV4 | Kind::TcpV6) {
            return false;
        }
        !self.is_resting(kind)
            && gso::can_be_cut(frame, self.longest_piece)
            && (offload.outer != 0 || frame.headers_bear_out())
    }

    /// Takes what goes out by the TAP, and makes its inner checksum if it is small.
    fn takes_tunnelled(&mut self, frame: &mut Mbuf) -> bool {
        if !self.is_tunnelled(frame) || self.is_resting(Kind::Tunnelled) {
            return false;
        }
        let offload = frame.offload();
        match (offload.gso, offload.checksum) {
            (Some(_), _) => frame.total_len() <= LONGEST_FRAME && gso::can_be_cut(frame, self.longest_piece),
            // Not every NIC can make the inner one of a packet that is not large, and of two the kernel makes but one.
            (None, Checksum::Partial { start, offset }) => {
                let done =
                    frame.total_len() <= self.longest_piece && checksum::complete(frame, start, offset);
                if done {
                    frame.set_offload(Offload { outer: offload.outer, ..Offload::NONE });
                }
                done
            }
            _ => false,
        }
    }

    /// Whether a frame is one of a connection whose large frames go out by the TAP: all of these do, so that none overtakes another.
    /// Such a connection leaves checksums to be made.
    pub(super) fn is_tunnelled(&self, frame: &Mbuf) -> bool {
        let Offload { checksum, outer, .. } = frame.offload();
        let is_tcp = matches!(checksum, Checksum::Partial { offset: TCP_CHECKSUM, .. });
        self.tap.is_some() && outer != 0 && is_tcp
    }

    /// Whether a frame that was [taken](Large::takes) goes out by the TAP.
    pub(super) fn goes_by_tap(&self, frame: &Mbuf) -> bool {
        let offload = frame.offload();
        match offload.gso {
            // Unfinished and small: it was made for that.
            None => self.tap.is_some() && offload.outer != 0,
            Some(_) => {
                let is_resting = self.resting[Kind::Tunnelled as usize] > 0;
                self.is_tunnelled(frame) && !is_resting && frame.total_len() <= LONGEST_FRAME
            }
        }
    }

    /// Whether the kernel has refused frames of this kind lately.
    fn is_resting(&mut self, kind: Kind) -> bool {
        let resting = &mut self.resting[kind as usize];
        let is_resting = *resting > 0;
        *resting = resting.saturating_sub(1);
        is_resting
    }

    /// How many of these frames, from the first on, are to go together, or else (`Err`) none with those behind them.
    pub(super) fn takes_together<'a>(
        &mut self,
        frames: impl ExactSizeIterator<Item = &'a Mbuf> + Clone,
    ) -> Result<usize, usize> {
        let resting = &mut self.resting[Kind::Datagrams as usize];
        if !self.datagrams || *resting > 0 {
            *resting = resting.saturating_sub(frames.len() as u32);
            return Err(frames.len());
        }
        let count = convoy::count(frames, LEAST_TOGETHER, self.tunnel_port);
        if count < LEAST_TOGETHER { Err(count) } else { Ok(count) }
    }

    /// Sends frames that are to go together.
    pub(super) fn send_together<'a>(&mut self, frames: impl Iterator<Item = &'a Mbuf> + Clone) -> Handed {
        let Some((head, offload)) = convoy::head(frames.clone()) else { return Handed::Refused(0) };
        let header = virtio_header::encode(offload, &head);
        let mut parts = Parts::new();
        parts.extend([IoSlice::new(&header), IoSlice::new(&head)]);
        if !convoy::lay_out(frames, head.len(), &mut parts) {
            return Handed::Refused(0);
        }
        self.was_used = true;
        match self.socket.send(&parts) {
            Ok(()) => Handed::Whole,
            Err(error) => self.failed(&error, Kind::Datagrams),
        }
    }

    /// Whether something may not have left that was handed over: what is sent otherwise could overtake it.
    pub(super) fn is_busy(&mut self) -> bool {
        self.was_used = self.was_used && self.socket.is_sending();
        self.was_used
    }

    /// Whether a part of the frame that waits was taken.
    pub(super) fn is_amid(&self) -> bool {
        self.progress != Progress::default()
    }

    /// Sends a large frame that it [`takes`](Large::takes), or what is left of one that had to wait; or a finished one.
    pub(super) fn send(&mut self, frame: &Mbuf) -> Handed {
        let offload = frame.offload();
        if let Some(handed) = self.send_tunnelled(frame) {
            return handed;
        }
        let outcome =
            if offload.outer == 0 { self.send_plain(frame, offload) } else { self.send_trains(frame) };
        self.was_used = true;
        let handed = match (outcome, offload.gso) {
            (Ok(true), _) => Handed::Whole,
            (Ok(false), Some(_)) => Handed::Refused(self.progress.pieces),
            (Err(error), Some(gso)) => self.failed(&error, Kind::of(gso, &offload)),
            // A finished frame waits until it can go otherwise.
            (Err(error), None) => loss(&error).map_or(Handed::Later, Handed::Lost),
            (Ok(false), None) => Handed::Later,
        };
        if handed != Handed::Later {
            self.progress = Progress::default();
        }
        handed
    }

    /// By the TAP; nothing if that is not the frame's way. What a NIC's queue has no room for is lost on that.
    fn send_tunnelled(&mut self, frame: &Mbuf) -> Option<Handed> {
        let tap = self.tap.as_ref().filter(|_| self.goes_by_tap(frame) && !self.is_amid())?;
        let header = virtio_header::encode_tunnel(frame.offload(), frame.head());
        let mut parts = Parts::new();
        parts.push(IoSlice::new(&header));
        let fits = frame.segments().all(|segment| parts.try_push(IoSlice::new(segment)).is_ok());
        Some(match fits.then(|| tap.write(&parts)) {
            Some(Ok(_)) => Handed::Whole,
            Some(Err(error)) => self.failed(&error, Kind::Tunnelled),
            None => Handed::Refused(0),
        })
    }

    /// False: it is in too many pieces of memory.
    fn send_plain(&self, frame: &Mbuf, offload: Offload) -> io::Result<bool> {
        let header = virtio_header::encode(offload, frame.head());
        let mut parts = Parts::new();
        let mut fits = parts.try_push(IoSlice::new(&header)).is_ok();
        frame.segments().for_each(|segment| fits &= parts.try_push(IoSlice::new(segment)).is_ok());
        if fits { self.socket.send(&parts).map(|()| true) } else { Ok(false) }
    }

    /// False: not all of it is gone, and the rest is for somebody else.
    fn send_trains(&mut self, frame: &Mbuf) -> io::Result<bool> {
        while let Some(offload) = self.trains.make(frame, self.progress) {
            let header = virtio_header::encode(offload, self.trains.outer());
            let mut parts = Parts::new();
            parts.push(IoSlice::new(&header));
            if !self.trains.lay_out(frame, &mut parts) {
                return Ok(false);
            }
            self.socket.send(&parts)?;
            self.progress = self.trains.ended();
            if self.trains.is_last() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn failed(&mut self, error: &io::Error, kind: Kind) -> Handed {
        if let Some(reason) = loss(error) {
            return Handed::Lost(reason);
        }
        match error.raw_os_error() {
            Some(libc::EAGAIN) => return Handed::Later,
            Some(libc::ENOMEM) => {}
            _ => {
                self.resting[kind as usize] = REST;
                tracing::info!(interface = self.interface, ?kind, %error, "large frames are cut before they are sent");
            }
        }
        Handed::Refused(self.progress.pieces)
    }
}

/// Why the kernel has not sent what it was given, where it will not do so in another form either.
fn loss(error: &io::Error) -> Option<DropReason> {
    match error.raw_os_error()? {
        // The interface's queueing discipline has dropped it: its sender is to slow down.
        libc::ENOBUFS => Some(DropReason::TxQueueFull),
        libc::ENETDOWN | libc::ENXIO | libc::ENODEV => Some(DropReason::LinkDown),
        _ => None,
    }
}
