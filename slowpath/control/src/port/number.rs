//! Numbers of ports.

use millrace_fastpath::port::PortId;

/// Hands out port numbers in turn, so that one is used again as late as possible: frames and log lines about its
/// former holder are long gone by then.
#[derive(Debug)]
pub(crate) struct Numbers {
    taken: Vec<bool>,
    next: usize,
}

/// Ports on a node, at most: several times the pods that Kubernetes wants on one (110), and as many as the vhost
/// library has devices for four times over.
const MOST: usize = 4_096;

impl Numbers {
    pub(crate) fn new() -> Self {
        Numbers { taken: vec![false; MOST], next: 0 }
    }

    /// A number that nobody has; `None` when all are taken.
    pub(crate) fn take(&mut self) -> Option<PortId> {
        let number = (0..MOST).map(|step| (self.next + step) % MOST).find(|&number| !self.taken[number])?;
        self.taken[number] = true;
        self.next = (number + 1) % MOST;
        u16::try_from(number).ok().map(PortId)
    }

    /// Gives a number back.
    pub(crate) fn give_back(&mut self, id: PortId) {
        if let Some(taken) = self.taken.get_mut(usize::from(id.0)) {
            *taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_after_all_others() {
        let mut numbers = Numbers::new();
        let first = numbers.take().unwrap();
        numbers.give_back(first);
        for _ in 1..MOST {
            assert_ne!(numbers.take(), Some(first));
        }
        assert_eq!(numbers.take(), Some(first));
        assert_eq!(numbers.take(), None);
    }
}
