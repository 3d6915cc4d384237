//! Where workers run.

use crate::StartError;
use millrace_config::Cores;

/// Where one worker runs: pinned to a core, or wherever the scheduler puts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(pub(crate) Option<u16>);

/// One place for each configured worker. Every pinned core must be one that this process may run on.
pub(crate) fn places(cores: &Cores) -> Result<Vec<Place>, StartError> {
    match cores {
        Cores::Count(count) => Ok(vec![Place(None); usize::from(*count)]),
        Cores::Pinned(cores) => {
            let allowed = core_affinity::get_core_ids().unwrap_or_default();
            let place = |core: u16| match allowed.iter().any(|id| id.id == usize::from(core)) {
                true => Ok(Place(Some(core))),
                false => Err(StartError::Core(core)),
            };
            cores.iter().map(|core| place(core.0)).collect()
        }
    }
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
    fn workers_without_cores_are_left_to_the_scheduler() {
        assert_eq!(places(&Cores::Count(2)).unwrap(), [Place(None), Place(None)]);
    }
}
