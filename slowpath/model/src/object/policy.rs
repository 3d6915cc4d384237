//! NetworkPolicies. They are held and counted; nothing enforces them yet.

use super::{ObjectName, Transport};
use ipnet::IpNet;

/// A NetworkPolicy, in few allocations: a cluster may have many.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NetworkPolicy {
    /// Its name.
    pub name: ObjectName,
    /// The pods of its namespace that it is for.
    pub pods: Selector,
    /// What may come to them; nothing if it does not speak of that direction.
    pub ingress: Option<Box<[PolicyRule]>>,
    /// Where they may go; nothing if it does not speak of that direction.
    pub egress: Option<Box<[PolicyRule]>>,
}

/// What passes: from or to any of the peers, at any of the ports.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PolicyRule {
    /// The other ends; empty means everybody.
    pub peers: Box<[PolicyPeer]>,
    /// The ports; empty means all.
    pub ports: Box<[PolicyPort]>,
}

/// Who the other end may be.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PolicyPeer {
    /// Pods.
    Pods {
        /// Of these namespaces; if absent, of the policy's own.
        namespaces: Option<Selector>,
        /// Those of these labels; if absent, all.
        pods: Option<Selector>,
    },
    /// Addresses.
    Range {
        /// In this range,
        net: IpNet,
        /// and in none of these parts of it.
        except: Box<[IpNet]>,
    },
}

/// A port of the destination.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PolicyPort {
    /// The protocol.
    pub protocol: Transport,
    /// Which of its ports.
    pub numbers: PolicyNumbers,
}

/// Numbers of ports.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PolicyNumbers {
    /// All.
    All,
    /// From the first to the last.
    Range(u16, u16),
    /// That which the pod calls so.
    Named(Box<str>),
}

/// A choice by labels: whoever meets all of these is chosen. Without any, everybody is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Selector(pub Box<[Requirement]>);

/// What is asked of one label.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Requirement {
    /// Its key.
    pub key: Box<str>,
    /// What is asked.
    pub test: LabelTest,
}

/// What can be asked of a label.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LabelTest {
    /// That its value is one of these.
    In(Box<[Box<str>]>),
    /// That its value is none of these, or that it is not there.
    NotIn(Box<[Box<str>]>),
    /// That it is there.
    Exists,
    /// That it is not there.
    DoesNotExist,
}
