//! What can go wrong with an interface.

use std::fmt;
use std::io;
use thiserror::Error;

/// What was being done to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Talking to the kernel at all.
    Netlink,
    /// Making the pair of interfaces.
    Create,
    /// Finding an interface by its name.
    Find,
    /// Moving it into the pod's namespace, under its new name.
    Move,
    /// Setting its MAC address and MTU.
    Shape,
    /// Setting one of its IPv4 or IPv6 options.
    Option,
    /// Adding an address.
    Address,
    /// Adding a route.
    Route,
    /// Telling the kernel a neighbour's MAC address.
    Neighbour,
    /// Reading what is there.
    Read,
    /// Turning offloads off.
    Offloads,
    /// Setting it up.
    Up,
    /// Removing it.
    Remove,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Netlink => "opening a netlink socket",
            Step::Create => "creating the interface",
            Step::Find => "finding the interface",
            Step::Move => "moving the interface into the namespace",
            Step::Shape => "setting MAC address and MTU",
            Step::Option => "setting an option of the IP stack",
            Step::Address => "adding the address",
            Step::Route => "adding the route",
            Step::Neighbour => "setting the neighbour's MAC address",
            Step::Read => "reading the kernel's tables",
            Step::Offloads => "turning offloads off",
            Step::Up => "setting the interface up",
            Step::Remove => "removing the interface",
        })
    }
}

/// Why an interface could not be made or removed.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The namespace cannot be opened or entered.
    #[error("network namespace {name}: {source}")]
    Namespace {
        /// As it was given.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("interface {interface}: {step} ({value}): {source}")]
    Kernel {
        /// The interface, by its name at that moment.
        interface: String,
        /// What was being done.
        step: Step,
        /// The value that was being set.
        value: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LinkError {
    pub(super) fn kernel(
        interface: &str,
        step: Step,
        value: impl fmt::Display,
        source: impl Into<io::Error>,
    ) -> Self {
        LinkError::Kernel {
            interface: interface.to_owned(),
            step,
            value: value.to_string(),
            source: source.into(),
        }
    }

    pub(super) fn netlink(
        interface: &str,
        step: Step,
        value: impl fmt::Display,
        error: &rtnetlink::Error,
    ) -> Self {
        LinkError::kernel(interface, step, value, to_io(error))
    }

    /// Whether there is no such interface.
    pub(super) fn is_missing(&self) -> bool {
        self.errno() == Some(nix::errno::Errno::ENODEV as i32)
    }

    /// What the kernel said, as an error number.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            LinkError::Namespace { source, .. } | LinkError::Kernel { source, .. } => source.raw_os_error(),
        }
    }
}

/// The error number in a netlink answer; anything else keeps its text.
fn to_io(error: &rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
