//! Sets of backends of one service, each made once.

use super::plan::Plan;
use millrace_fastpath::tables::{Backend, BackendSet, Balancing};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Sets of backends, by what is in them. Equal ones are shared, also with the tables before.
pub(in crate::model) struct Sets {
    known: BTreeSet<ByBackends>,
    balancing: Balancing,
}

impl Sets {
    /// Those that a service has in the tables.
    pub(in crate::model) fn of(former: &Plan, balancing: Balancing) -> Self {
        let pools = former.frontends.values().flat_map(|frontend| [&frontend.inside, &frontend.outside]);
        Sets { known: pools.map(|pool| ByBackends(Arc::clone(&pool.backends))).collect(), balancing }
    }

    /// The set of these backends, which are sorted, each once.
    pub(in crate::model) fn get(&mut self, backends: Vec<Backend>) -> Arc<BackendSet> {
        if let Some(ByBackends(set)) = self.known.get(&backends[..]) {
            return Arc::clone(set);
        }
        let set = Arc::new(BackendSet::new(backends, self.balancing));
        self.known.insert(ByBackends(Arc::clone(&set)));
        set
    }
}

/// A set in the order of its backends.
struct ByBackends(Arc<BackendSet>);

impl Borrow<[Backend]> for ByBackends {
    fn borrow(&self) -> &[Backend] {
        self.0.backends()
    }
}

impl Ord for ByBackends {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.backends().cmp(other.0.backends())
    }
}

impl PartialOrd for ByBackends {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByBackends {
    fn eq(&self, other: &Self) -> bool {
        self.0.backends() == other.0.backends()
    }
}

impl Eq for ByBackends {}
