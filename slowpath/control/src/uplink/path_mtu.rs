//! What routers between nodes have said of how large a packet through a tunnel may be.

use millrace_model::Model;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long that counts, as in Linux (`net.ipv4.route.mtu_expires`): the way may have become wider.
const LIFETIME: Duration = Duration::from_secs(600);

/// Until when the path MTU of each tunnel end counts.
#[derive(Debug, Default)]
pub(crate) struct PathMtus(BTreeMap<IpAddr, Instant>);

impl PathMtus {
    /// A router takes no outer packets to this tunnel end that are larger than `mtu` bytes.
    pub(super) fn learn(&mut self, model: &mut Model, remote: IpAddr, mtu: u16, now: Instant) {
        if model.lower_path_mtu(remote, mtu) {
            tracing::info!(%remote, mtu, "a narrow way to another node");
            self.0.insert(remote, now + LIFETIME);
        }
    }

    /// Forgets what has been true for long enough.
    pub(super) fn expire(&mut self, model: &mut Model, now: Instant) {
        self.0.retain(|remote, until| {
            let counts = *until > now;
            if !counts {
                model.forget_path_mtu(*remote);
            }
            counts
        });
    }
}
