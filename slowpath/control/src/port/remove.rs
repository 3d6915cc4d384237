//! How a port goes.

use super::{Port, PortError, Step};
use crate::control::Control;
use millrace_config::PortName;
use millrace_fastpath::pipeline::Command;
use millrace_fastpath::port::{DropReason, Frame};

impl<F: Frame> Control<F> {
    /// Removes a port, or gives one up that is configured and not open. When this returns without error, nothing of it
    /// is left.
    pub fn remove_port(&mut self, name: &PortName) -> Result<(), PortError> {
        let forgotten = self.forget_pending(name);
        let Some(port) = self.ports.remove(name) else {
            return if forgotten { Ok(()) } else { Err(PortError::Unknown(name.clone())) };
        };
        self.tear_down(port)?;
        tracing::info!(port = %name, "port removed");
        Ok(())
    }

    /// Undoes whatever was done for a port, last step first.
    pub(super) fn tear_down(&mut self, mut port: Port) -> Result<(), PortError> {
        let name = port.config.name.clone();
        if let Some(device) = &port.device {
            // The last time that the driver can count what the kernel lost for it.
            device.link();
        }
        self.leave(&port);
        if port.published {
            self.compile();
            // No worker sees the port in its tables any more, and none has frames of a burst for it in hand.
            self.domain.synchronize();
        }
        if let Err(error) = self.detach(&port) {
            // A worker may still use the queues: the device stays open and the number taken, rather than being
            // used by two.
            std::mem::forget(port.device.take());
            return Err(error);
        }
        drop(port.device.take());
        self.keep_counts(&port);
        if port.prepared {
            self.plumbing.undo(&port.site()).map_err(|source| PortError::step(&name, Step::Undo, source))?;
        }
        self.numbers.give_back(port.id);
        Ok(())
    }

    /// Takes the queues back from all workers and drops them.
    fn detach(&mut self, port: &Port) -> Result<(), PortError> {
        if port.workers.is_empty() {
            return Ok(());
        }
        let name = &port.config.name;
        for worker in &mut self.workers {
            if worker.queues_of(port.id) > 0 {
                drop(worker.detach(port.id).map_err(|error| error.at(name, Step::Detach))?);
            } else {
                worker
                    .send(Command::Forget { port: port.id })
                    .map_err(|error| error.at(name, Step::Detach))?;
            }
        }
        self.settle().map_err(|error| error.at(name, Step::Detach))
    }

    /// Losses of a port that goes stay in the node's totals.
    fn keep_counts(&mut self, port: &Port) {
        for reason in DropReason::ALL {
            self.past_drops[reason.index()] += port.counters.drops(reason);
        }
    }
}
