//! What is being followed, as the kernel told it.

use super::parse::{self, Names};
use super::{Interface, KernelError, Neighbour, Route, Socket, View};
use millrace_config::InterfaceName;
use nix::errno::Errno;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What has to be read again, as the kernel does not tell all that a change brings: routes of IPv4 go without a word when an
/// interface goes down or loses an address (`fib_sync_down_dev`, net/ipv4/fib_semantics.c).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Stale {
    /// Nothing.
    #[default]
    None,
    /// Routes.
    Routes,
    /// All of it.
    Everything,
}

/// The interfaces of interest, and what is known of them.
#[derive(Debug)]
pub(super) struct State {
    wanted: BTreeSet<InterfaceName>,
    names: Names,
    interfaces: BTreeMap<InterfaceName, Interface>,
    routes: Vec<Route>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
}

impl State {
    pub(super) fn new(wanted: BTreeSet<InterfaceName>) -> Self {
        State {
            wanted,
            names: Names::new(),
            interfaces: BTreeMap::new(),
            routes: Vec::new(),
            neighbours: BTreeMap::new(),
        }
    }

    /// Reads everything.
    pub(super) fn read_everything(&mut self, socket: &mut Socket) -> Result<(), KernelError> {
        self.names.clear();
        self.interfaces.clear();
        for name in &self.wanted {
            if let Some(link) = find(socket, name)? {
                self.names.insert(link.header.index, name.clone());
                self.interfaces.insert(name.clone(), parse::interface(&link));
            }
        }
        let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        for message in socket.dump("reading addresses", &addresses)? {
            let RouteNetlinkMessage::NewAddress(message) = message else { continue };
            let Some(name) = self.names.get(&message.header.index) else { continue };
            if let (Some(net), Some(interface)) = (parse::address(&message), self.interfaces.get_mut(name)) {
                interface.addresses.push(net);
            }
        }
        self.read_neighbours(socket)?;
        self.read_routes(socket)
    }

    fn read_neighbours(&mut self, socket: &mut Socket) -> Result<(), KernelError> {
        self.neighbours.clear();
        let question = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        for message in socket.dump("reading neighbours", &question)? {
            if let RouteNetlinkMessage::NewNeighbour(message) = message {
                self.note_neighbour(&message);
            }
        }
        Ok(())
    }

    /// Reads the routes.
    pub(super) fn read_routes(&mut self, socket: &mut Socket) -> Result<(), KernelError> {
        self.routes.clear();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            for message in socket.dump("reading routes", &RouteNetlinkMessage::GetRoute(question))? {
                if let RouteNetlinkMessage::NewRoute(message) = message {
                    self.routes.extend(parse::route(&message, &self.names));
                }
            }
        }
        self.routes.sort_unstable_by(|a, b| (a.metric, a).cmp(&(b.metric, b)));
        Ok(())
    }

    /// Takes in a notification; says what has to be read again after it.
    pub(super) fn note(&mut self, message: &RouteNetlinkMessage) -> Stale {
        match message {
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
                let is_wanted = parse::name(link).is_some_and(|name| self.is_wanted(name));
                if is_wanted || self.names.contains_key(&link.header.index) {
                    Stale::Everything
                } else {
                    Stale::None
                }
            }
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                if self.names.contains_key(&address.header.index) { Stale::Everything } else { Stale::None }
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                if parse::is_main(route) { Stale::Routes } else { Stale::None }
            }
            RouteNetlinkMessage::NewNeighbour(neighbour) => {
                self.note_neighbour(neighbour);
                Stale::None
            }
            RouteNetlinkMessage::DelNeighbour(neighbour) => {
                if let Some(address) = parse::neighbour_address(neighbour) {
                    self.neighbours.remove(&(neighbour.header.ifindex, address));
                }
                Stale::None
            }
            _ => Stale::None,
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted.as_str() == name)
    }

    fn note_neighbour(&mut self, message: &NeighbourMessage) {
        let index = message.header.ifindex;
        if !self.names.contains_key(&index) {
            return;
        }
        match parse::neighbour(message) {
            Some((address, Some(neighbour))) => drop(self.neighbours.insert((index, address), neighbour)),
            Some((address, None)) => drop(self.neighbours.remove(&(index, address))),
            // It is being asked for: what was known of it is not known any more.
            None => {
                if let Some(address) = parse::neighbour_address(message) {
                    self.neighbours.remove(&(index, address));
                }
            }
        }
    }

    /// What is known now.
    pub(super) fn view(&self) -> View {
        let neighbours = self.neighbours.iter().filter_map(|(&(index, address), neighbour)| {
            Some(((self.names.get(&index)?.clone(), address), *neighbour))
        });
        View {
            interfaces: self.interfaces.clone(),
            routes: self.routes.clone(),
            neighbours: neighbours.collect(),
        }
    }
}

/// The interface of this name, if there is one.
fn find(socket: &mut Socket, name: &InterfaceName) -> Result<Option<LinkMessage>, KernelError> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.to_string()));
    match socket.ask(&format!("finding interface {name}"), RouteNetlinkMessage::GetLink(question), 0) {
        Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}
