//! Programs of traffic control on an interface, in either direction.
//!
//! They go with their descriptors, so with who holds the link and with the process. Before Linux 6.6 the kernel knows no such
//! descriptors, and a process that was killed leaves the programs until the next one comes.

use crate::xdp::chain;
use aya::Ebpf;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program};
pub(crate) use aya::programs::tc::{SchedClassifierLink, TcAttachType};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier};
use aya::util::KernelVersion;

/// Whether the kernel has such descriptors.
pub(crate) fn has_links() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

/// Where among the programs that are there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Before them: one of them may end the row.
    First,
    /// Behind them.
    Last,
}

/// Loads the program `name` of `object`, once, and runs it on what passes `place` of the interface, in its turn, for as long as the
/// link is kept. Before Linux 6.6 the kernel says in which.
///
/// # Errors
/// The kernel's answer, down to its first cause, or that the object has no such program.
pub(crate) fn attach(
    object: &mut Ebpf,
    name: &str,
    interface: &str,
    place: TcAttachType,
    turn: Turn,
) -> Result<SchedClassifierLink, String> {
    if !has_links() {
        return attach_to_qdisc(object, name, interface, place);
    }
    let program = loaded(object, name)?;
    let order = if turn == Turn::First { LinkOrder::first() } else { LinkOrder::last() };
    let id = program.attach_with_options(interface, place, TcAttachOptions::TcxOrder(order));
    let id = id.map_err(|error| chain(&error))?;
    program.take_link(id).map_err(|error| chain(&error))
}

/// The same by a queueing discipline of the interface. That takes none of the kernel's grace periods, of which a link takes one or two, ten
/// milliseconds each; but a process that is killed leaves the program. What such a one has left is taken away first. The thread
/// that drops the link has to be in the interface's network namespace.
///
/// # Errors
/// As for [`attach`].
pub(crate) fn attach_to_qdisc(
    object: &mut Ebpf,
    name: &str,
    interface: &str,
    place: TcAttachType,
) -> Result<SchedClassifierLink, String> {
    let program = loaded(object, name)?;
    let _there_already = qdisc_add_clsact(interface);
    let _none = qdisc_detach_program(interface, place, name);
    let options = TcAttachOptions::Netlink(NlOptions::default());
    let id = program.attach_with_options(interface, place, options).map_err(|error| chain(&error))?;
    program.take_link(id).map_err(|error| chain(&error))
}

/// The program `name` of `object`, loaded.
///
/// # Errors
/// As for [`attach`].
pub(crate) fn loaded<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, String> {
    let program = object.program_mut(name).ok_or_else(|| format!("the object has no program {name}"))?;
    let program: &mut SchedClassifier = program.try_into().map_err(|error: ProgramError| chain(&error))?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
        Err(error) => Err(chain(&error)),
    }
}
