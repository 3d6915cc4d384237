//! A hostile guest: the front end of a vhost-user port whose rings and memory hold whatever it likes, and change while
//! they are read.
//!
//! ```text
//!   this module: front end ──socket──  vhost-user port  ── rx_burst, tx_burst: polled here
//!         └── writes to the guest's memory, of which the rings are a part, all the while
//! ```
//! Nothing may crash or hang, every frame that is let through must be sound, and when the guest is gone every
//! buffer must be back in its pool.
//!
//! What this does not show: a guest that gives its memory back while it is in use. The kernel then ends the process
//! with SIGBUS; that is the front end's doing, which is the hypervisor's and trusted by vhost-user.

mod front_end;
mod guest_memory;
mod port;
mod random;

pub use port::{HostilePort, HostilePortError};

use random::Random;

/// Polls of the port in one session.
const POLLS: u32 = 200;

/// Lets one guest come, do what `seed` makes it do, and go. Panics when something is wrong.
pub fn session(port: &mut HostilePort, seed: u64) {
    let mut random = Random::new(seed);
    let guest = match front_end::connect(port.socket(), &mut random) {
        Ok(guest) => guest,
        // A message that the port's side did not like: it hangs up, which is its good right.
        Err(_) => return port.wait_until_gone(seed),
    };
    let up = port.wait_until_up();
    let scribbler = guest.memory.scribble_beside(random.next());
    for _ in 0..POLLS {
        guest.memory.mutate(&mut random);
        if random.one_in(40) {
            guest.kick_or_talk(&mut random);
        }
        port.poll(&mut random, seed);
    }
    drop(scribbler);
    if up {
        port.sessions_up += 1;
    }
    drop(guest);
    port.wait_until_gone(seed);
}
