//! The interfaces below a bond, a VLAN or another interface that stands on others.

use crate::interface::Probe;
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How deep interfaces are stacked at most: a VLAN on a bond is 2.
const DEEPEST: u32 = 4;

/// Interfaces whose merging (GRO) is off because of us, and for how many uplinks.
static OFF: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// Keeps the interfaces below one from merging packets (GRO) before XDP sees them behind it: a merged packet has no room in
/// a chunk. The kernel sees to that itself only for the interface that the program is on (`netif_elide_gro`).
pub(super) struct Unmerged {
    probe: Probe,
    interfaces: Vec<String>,
}

impl Unmerged {
    /// Switches GRO off where it is on below `interface`.
    pub(super) fn below(interface: &str, probe: Probe) -> Unmerged {
        let mut interfaces = Vec::new();
        find(interface, DEEPEST, &mut interfaces);
        let mut off = lock();
        interfaces.retain(|lower| match off.get_mut(lower) {
            Some(uplinks) => {
                *uplinks += 1;
                true
            }
            None => switch_off(interface, lower, &probe) && off.insert(lower.clone(), 1).is_none(),
        });
        Unmerged { probe, interfaces }
    }
}

impl Drop for Unmerged {
    fn drop(&mut self) {
        let mut off = lock();
        for lower in &self.interfaces {
            let left = off.remove(lower).unwrap_or(1) - 1;
            if left > 0 {
                off.insert(lower.clone(), left);
            } else if let Err(error) = self.probe.set_merging(lower, true) {
                tracing::warn!(interface = lower, %error, "GRO stays off");
            }
        }
    }
}

/// True when it was on and is off now.
fn switch_off(interface: &str, lower: &str, probe: &Probe) -> bool {
    if !probe.merges(lower).unwrap_or(false) {
        return false;
    }
    match probe.set_merging(lower, false) {
        Ok(()) => {
            tracing::info!(interface = lower, uplink = interface, "GRO is off while the uplink is open")
        }
        Err(ref error) => {
            tracing::warn!(interface = lower, uplink = interface, %error, "GRO cannot be switched off");
            return false;
        }
    }
    true
}

/// The interfaces that one stands on directly.
pub(super) fn members(interface: &str) -> Vec<String> {
    let mut members = Vec::new();
    find(interface, 1, &mut members);
    members
}

/// Collects what is below an interface, as sysfs shows it.
fn find(interface: &str, deepest: u32, into: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(format!("/sys/class/net/{interface}")) else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for lower in names.filter_map(|name| name.strip_prefix("lower_").map(str::to_owned)) {
        if deepest > 1 {
            find(&lower, deepest - 1, into);
        }
        if !into.contains(&lower) {
            into.push(lower);
        }
    }
}

fn lock() -> MutexGuard<'static, BTreeMap<String, u32>> {
    OFF.lock().unwrap_or_else(PoisonError::into_inner)
}
