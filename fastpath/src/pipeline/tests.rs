//! Packet paths, one module each. Every test says which counters moved; [`Node::check`] says that no other did.

mod addresses_and_neighbours;
mod affinity;
mod answers;
mod established;
mod fixture;
mod fragmentation;
mod fragments_and_errors;
mod frontends;
mod hostile;
mod outer_headers;
mod refusing_routes;
mod services;
mod shortcuts;
mod source_ports;
mod tcp_tracking;
mod trace;
mod tunnels;
mod uplinks;
