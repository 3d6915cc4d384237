//! Where a connection begins, as far as services tell the difference.

use super::{Address, PortRole, TableSet};

/// Who opens a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// A pod of this node.
    Pod,
    /// A pod of another node.
    RemotePod,
    /// A process of this node, in its own network namespace.
    Node,
    /// Anybody else.
    Outside,
}

impl Origin {
    /// The name in traces.
    pub const fn name(self) -> &'static str {
        match self {
            Origin::Pod => "a pod of this node",
            Origin::RemotePod => "a pod of another node",
            Origin::Node => "this node",
            Origin::Outside => "outside the cluster",
        }
    }
}

impl TableSet {
    /// Who sends from `source` through a port of this role.
    #[inline]
    pub fn origin(&self, role: PortRole, source: Address) -> Origin {
        match role {
            PortRole::Pod => Origin::Pod,
            PortRole::Host => Origin::Node,
            PortRole::Uplink if self.pod_ranges.contains(source) => Origin::RemotePod,
            PortRole::Uplink => Origin::Outside,
        }
    }
}
