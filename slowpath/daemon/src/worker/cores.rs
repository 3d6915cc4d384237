//! Where workers run.

use crate::StartError;
use millrace_config::Cores;

/// Where one worker runs: pinned to a core, or wherever the scheduler puts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(pub(crate) Option<u16>);

/// One place for each configured worker. Every pinned core must be one that this process may run on.
pub(crate) fn places(cores: &Cores) -> Result<Vec<Place>, StartError> {
    match cores {
        Cores::Count(count) => Ok(spread(usize::from(*count), &allowed(), online())),
        Cores::Pinned(cores) => {
            let allowed = allowed();
            let place = |core: u16| match allowed.contains(&core) {
                true => Ok(Place(Some(core))),
                false => Err(StartError::Core(core)),
            };
            cores.iter().map(|core| place(core.0)).collect()
        }
    }
}

/// Places for workers that none was configured for. Who has been given some of the machine's cores, as a container has by the
/// kubelet's static CPU manager, has them alone: then each worker gets one, from the last on, so that the other
/// threads find the first ones free. Otherwise others use the cores too, and the scheduler knows better.
fn spread(count: usize, allowed: &[u16], online: usize) -> Vec<Place> {
    if allowed.len() >= online || allowed.len() < count {
        return vec![Place(None); count];
    }
    allowed.iter().rev().take(count).map(|core| Place(Some(*core))).collect()
}

/// The cores that this process may run on, in order.
fn allowed() -> Vec<u16> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    let mut cores: Vec<u16> = ids.iter().filter_map(|id| u16::try_from(id.id).ok()).collect();
    cores.sort_unstable();
    cores
}

/// How many cores the machine has.
fn online() -> usize {
    let all = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    all.ok().flatten().and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX)
}

impl Place {
    /// Moves the calling thread there.
    pub(crate) fn take(self) {
        if let Some(core) = self.0
            && !core_affinity::set_for_current(core_affinity::CoreId { id: usize::from(core) })
        {
            tracing::warn!(core, "the worker could not be pinned to its core");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_config::CoreId;

    #[test]
    fn a_core_that_does_not_exist_is_named() {
        let error = places(&Cores::Pinned(vec![CoreId(60_000)])).unwrap_err();
        assert!(error.to_string().contains("core 60000"), "{error}");
    }

    #[test]
    fn workers_without_cores_are_left_to_the_scheduler_where_all_cores_are_everybodys() {
        assert_eq!(spread(2, &[0, 1, 2, 3], 4), [Place(None), Place(None)]);
    }

    #[test]
    fn on_cores_of_its_own_each_worker_has_one() {
        assert_eq!(spread(2, &[3, 5, 7], 8), [Place(Some(7)), Place(Some(5))]);
        assert_eq!(spread(3, &[3, 5], 8), [Place(None); 3], "too few for one each");
    }
}
