//! How a port goes.

use super::remains::{Cleared, Remains};
use super::{Port, PortError, Step};
use crate::control::Control;
use millrace_config::PortName;
use millrace_fastpath::pipeline::Command;
use millrace_fastpath::port::{DropReason, Frame, PortQueue};

impl<F: Frame> Control<F> {
    /// Removes a port, or gives one up that is configured and not open. When this returns without error, nothing of it
    /// is left. The port of an attachment is the container runtime's to remove.
    pub fn remove_port(&mut self, name: &PortName) -> Result<(), PortError> {
        if let Some(id) = self.attachments.of_port(name) {
            return Err(PortError::Attached { port: name.clone(), id: id.clone() });
        }
        self.remove_any_port(name)?;
        self.forget_host_leg(name);
        Ok(())
    }

    /// Removes the port of an attachment, with all that the container has of it.
    pub(crate) fn remove_attached_port(&mut self, name: &PortName) -> Result<(), PortError> {
        self.remove_any_port(name)
    }

    pub(crate) fn remove_any_port(&mut self, name: &PortName) -> Result<(), PortError> {
        self.release_nics_over(name)?;
        let forgotten = self.forget_pending(name);
        let Some(port) = self.ports.remove(name) else {
            return if forgotten { Ok(()) } else { Err(PortError::Unknown(name.clone())) };
        };
        self.tear_down(port)?;
        tracing::info!(port = %name, "port removed");
        Ok(())
    }

    /// Closes a port and leaves what its pod has for the next instance.
    pub(crate) fn release_port(&mut self, name: &PortName) -> Result<(), PortError> {
        let Some(mut port) = self.ports.remove(name) else { return Ok(()) };
        let queues = self.withdraw(&mut port)?;
        drop(queues);
        drop(port.device.take());
        Ok(())
    }

    /// Begins the removal of an attachment's port: no table and no worker knows it any more. What is slow is left to
    /// [`Remains::clear`], for which any thread will do; then [`close`](Self::close) ends it.
    pub(crate) fn begin_removal(&mut self, name: &PortName) -> Result<Remains<F>, PortError> {
        self.forget_pending(name);
        let port = self.ports.remove(name).ok_or_else(|| PortError::Unknown(name.clone()))?;
        self.take_down(port)
    }

    /// Undoes whatever was done for a port, last step first. What was adopted and could not be opened stays.
    pub(super) fn tear_down(&mut self, port: Port) -> Result<(), PortError> {
        let remains = self.take_down(port)?;
        self.clear_here(remains)
    }

    /// Clears what only this thread can, and ends the removal.
    pub(crate) fn clear_here(&mut self, remains: Remains<F>) -> Result<(), PortError> {
        let cleared = remains.clear_with(|site| self.plumbing.undo(site));
        self.close(cleared)
    }

    fn take_down(&mut self, mut port: Port) -> Result<Remains<F>, PortError> {
        let queues = self.withdraw(&mut port)?;
        let undoing = self.plumbing.undoing(&port.site());
        Ok(Remains { port, queues, undoing })
    }

    /// Ends a removal. What could not be removed keeps its number.
    pub(crate) fn close(&mut self, cleared: Cleared) -> Result<(), PortError> {
        let Cleared { port, outcome } = cleared;
        self.keep_counts(&port);
        outcome.map_err(|source| PortError::step(&port.config.name, Step::Undo, source))?;
        self.numbers.give_back(port.id);
        Ok(())
    }

    /// Has workers and tables forget a port; gives its queues.
    fn withdraw(&mut self, port: &mut Port) -> Result<Vec<Box<dyn PortQueue<F>>>, PortError> {
        if let Some(device) = &port.device {
            // The last time that the driver can count what the kernel lost for it.
            device.link();
        }
        self.leave(port);
        self.forget_shortcuts_of(port.id);
        if port.published {
            self.compile();
            // No worker sees the port in its tables any more, and none has frames of a burst for it in hand.
            self.domain.synchronize();
        }
        let queues = self.take_back(port);
        if queues.is_err() {
            // A worker may still use the queues: the device stays open and the number taken, rather than being
            // used by two.
            std::mem::forget(port.device.take());
        }
        queues
    }

    /// Takes the queues back from all workers.
    fn take_back(&mut self, port: &Port) -> Result<Vec<Box<dyn PortQueue<F>>>, PortError> {
        let mut queues = Vec::new();
        if port.workers.is_empty() {
            return Ok(queues);
        }
        let name = &port.config.name;
        for worker in &mut self.workers {
            if worker.queues_of(port.id) > 0 {
                queues.extend(worker.detach(port.id).map_err(|error| error.at(name, Step::Detach))?);
            } else {
                worker
                    .send(Command::Forget { port: port.id })
                    .map_err(|error| error.at(name, Step::Detach))?;
            }
        }
        self.settle().map_err(|error| error.at(name, Step::Detach))?;
        Ok(queues)
    }

    /// Losses of a port that goes stay in the node's totals.
    fn keep_counts(&mut self, port: &Port) {
        for reason in DropReason::ALL {
            self.past_drops[reason.index()] += port.counters.drops(reason);
        }
    }
}
