//! A NIC that the kernel keeps an interface for, and is to hear nothing from: what comes in reaches packet sockets, which
//! come first (`__netif_receive_skb_core`, net/core/dev.c), and goes no further.
//!
//! It is a filter at the interface's ingress, a classic BPF program of one instruction.

use crate::uplink::kernel::{KernelError, Socket};
use nix::errno::Errno;
use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

/// `TCA_BPF_OPS_LEN`, `TCA_BPF_OPS` and `TCA_BPF_FLAGS` (linux/pkt_cls.h).
const OPS_LEN: u16 = 4;
const OPS: u16 = 5;
const FLAGS: u16 = 8;
/// What the program returns is what is done (`TCA_BPF_FLAG_ACT_DIRECT`).
const ACT_DIRECT: u32 = 1;
/// `BPF_RET | BPF_K` (linux/filter.h) and `TC_ACT_SHOT` (linux/pkt_cls.h).
const RETURN: u16 = 0x06;
const DROP: u32 = 2;
/// By this the filter is known again: `M`, `R`.
const PRIORITY: u32 = 0x4d52;
/// `ETH_P_ALL` (linux/if_ether.h).
const ALL: u16 = 3;

/// From now on the kernel hears nothing from the interface.
pub(super) fn hush(socket: &mut Socket, index: u32) -> Result<(), KernelError> {
    let mut qdisc = message(index, TcHandle::INGRESS);
    qdisc.header.handle = TcHandle { major: 0xffff, minor: 0 };
    qdisc.attributes.push(TcAttribute::Kind("ingress".to_owned()));
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    accept(Errno::EEXIST, socket.ask("an ingress", RouteNetlinkMessage::NewQueueDiscipline(qdisc), flags))?;
    let instruction = [RETURN.to_ne_bytes().to_vec(), vec![0, 0], DROP.to_ne_bytes().to_vec()].concat();
    let option = |kind, value| TcOption::Other(DefaultNla::new(kind, value));
    let mut filter = filter(index);
    filter.attributes.push(TcAttribute::Options(vec![
        option(OPS_LEN, 1_u16.to_ne_bytes().to_vec()),
        option(OPS, instruction),
        option(FLAGS, ACT_DIRECT.to_ne_bytes().to_vec()),
    ]));
    accept(
        Errno::EEXIST,
        socket.ask("an ingress filter", RouteNetlinkMessage::NewTrafficFilter(filter), flags),
    )
}

/// The kernel hears it again. What others have at the ingress stays, and so does an ingress without anything at it.
pub(super) fn unhush(socket: &mut Socket, index: u32) -> Result<(), KernelError> {
    let removed =
        socket.ask("removing the ingress filter", RouteNetlinkMessage::DelTrafficFilter(filter(index)), 0);
    // Without an ingress the kernel finds the parent wrong.
    accept(Errno::EINVAL, accept_all(Errno::ENOENT, removed))
}

fn message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = index.cast_signed();
    message.header.parent = parent;
    message
}

fn filter(index: u32) -> TcMessage {
    let mut message = message(index, TcHandle { major: 0xffff, minor: TcHandle::MIN_INGRESS });
    message.header.info = PRIORITY << 16 | u32::from(ALL.to_be());
    message.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    message
}

fn accept_all<T>(errno: Errno, outcome: Result<Vec<T>, KernelError>) -> Result<Vec<T>, KernelError> {
    match outcome {
        Err(error) if error.errno() == Some(errno) => Ok(Vec::new()),
        outcome => outcome,
    }
}

fn accept<T>(errno: Errno, outcome: Result<Vec<T>, KernelError>) -> Result<(), KernelError> {
    accept_all(errno, outcome).map(drop)
}
