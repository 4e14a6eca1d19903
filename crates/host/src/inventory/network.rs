//! The network interfaces of functions, and which of them the host or the present login cannot do without.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use spec::PciAddress;
use spec::inventory::{Function, HoldKind, HoldStrength, NetInterface};

use super::holders::Holders;
use super::reader::Reader;
use super::routes::{self, Route};
use super::storage::Remote;

const INTERFACES: &str = "/sys/class/net";
/// The most processes between this one and the first of the login that are looked at.
const MOST_ANCESTORS: usize = 64;
/// The most bytes of a process's environment (the kernel's own limit is a quarter of the stack, 2 MiB).
const MOST_ENVIRONMENT: usize = 4 << 20;

/// The host's interfaces and routes.
pub(super) struct Network<'a> {
    reader: &'a Reader<'a>,
    /// The function of each interface that has one.
    owners: BTreeMap<String, PciAddress>,
    routes: Vec<Route>,
}

impl<'a> Network<'a> {
    pub(super) fn read(reader: &'a Reader<'a>) -> Self {
        let names = reader.list(INTERFACES).into_iter();
        let owners = names.filter_map(|name| {
            let device = format!("{INTERFACES}/{name}/device");
            let function = reader.tree().exists(&device).then(|| reader.function_of(&device))??;
            Some((name, function))
        });
        Self { reader, owners: owners.collect(), routes: routes::read(reader) }
    }

    /// Tells each function its interfaces.
    pub(super) fn name_interfaces(&self, functions: &mut [Function]) {
        for (name, owner) in &self.owners {
            if let Some(function) = functions.iter_mut().find(|function| function.address == *owner) {
                function.interfaces.push(NetInterface {
                    name: name.clone(),
                    mac: self.reader.text(&format!("{INTERFACES}/{name}/address")),
                    up: self.is_up(name),
                });
            }
        }
    }

    fn is_up(&self, name: &str) -> Option<bool> {
        let state = self.reader.text(&format!("{INTERFACES}/{name}/operstate"))?;
        (state != "unknown").then_some(state == "up")
    }

    /// Adds the holds of routes, of the login and of what comes from `remotes`.
    pub(super) fn hold(&self, holders: &mut Holders, remotes: &[Remote]) {
        self.hold_default_routes(holders);
        self.hold_login(holders);
        for remote in remotes {
            self.hold_remote(holders, remote);
        }
        for (name, owner) in &self.owners {
            if self.is_up(name) == Some(true) {
                holders.add(*owner, HoldStrength::Note, HoldKind::NetworkUp { interface: name.clone() });
            }
        }
    }

    fn hold_default_routes(&self, holders: &mut Holders) {
        let interfaces = routes::default_interfaces(&self.routes);
        let mut carriers: Vec<(PciAddress, String, Option<String>)> = Vec::new();
        for above in &interfaces {
            let below = self.physical(above);
            if below.is_empty() {
                let reason = "carries the default route, but no PCI function is known below it";
                self.reader.note(&format!("{INTERFACES}/{above}"), reason);
            }
            for (interface, owner) in below {
                let route_interface = (interface != *above).then(|| above.clone());
                carriers.push((owner, interface, route_interface));
            }
        }
        let only = carriers.iter().map(|(owner, ..)| owner).collect::<BTreeSet<_>>().len() == 1;
        let strength = if only { HoldStrength::Critical } else { HoldStrength::InUse };
        for (owner, interface, route_interface) in carriers {
            holders.add(owner, strength, HoldKind::DefaultRoute { interface, route_interface, only });
        }
    }

    fn hold_login(&self, holders: &mut Holders) {
        let Some(Peer { address: peer, scope }) = login_peer(self.reader) else { return };
        if peer.is_loopback() {
            return;
        }
        let scoped = scope.map(|interface| self.physical(&interface)).filter(|carriers| !carriers.is_empty());
        let Some(carriers) = scoped.or_else(|| self.carriers_to(peer)) else {
            self.reader.note(
                "/proc/net/route",
                format!("no interface leads to {peer}, where this login comes from"),
            );
            return;
        };
        for (interface, owner) in carriers {
            let kind = HoldKind::Login { interface, peer: peer.to_string() };
            holders.add(owner, HoldStrength::Critical, kind);
        }
    }

    fn hold_remote(&self, holders: &mut Holders, remote: &Remote) {
        let carriers = remote.server.parse().ok().and_then(|server| self.carriers_to(server));
        // A server whose address is not known can be behind any interface with a default route.
        let carriers = carriers.unwrap_or_else(|| {
            let default = routes::default_interfaces(&self.routes);
            default.iter().flat_map(|name| self.physical(name)).collect()
        });
        for (interface, owner) in carriers {
            let (server, used_for) = (remote.server.clone(), remote.used_for.clone());
            holders.add(owner, remote.strength, HoldKind::NetworkStorage { interface, server, used_for });
        }
    }

    /// The physical interfaces on the way to `peer`; `None` when no route leads there.
    fn carriers_to(&self, peer: IpAddr) -> Option<Vec<(String, PciAddress)>> {
        let interface = routes::interface_to(&self.routes, peer)?;
        Some(self.physical(&interface)).filter(|carriers| !carriers.is_empty())
    }

    /// The interfaces with a function below `name`: itself, or the members of a bridge, bond or VLAN.
    fn physical(&self, name: &str) -> Vec<(String, PciAddress)> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            if let Some(owner) = self.owners.get(&name) {
                found.push((name, *owner));
                continue;
            }
            let entries = self.reader.list(&format!("{INTERFACES}/{name}"));
            open.extend(entries.iter().filter_map(|entry| entry.strip_prefix("lower_")).map(str::to_owned));
        }
        found.sort();
        found
    }
}

/// The other end of a login.
#[derive(Debug, PartialEq, Eq)]
struct Peer {
    address: IpAddr,
    /// The interface, which link-local addresses name: they are on every link.
    scope: Option<String>,
}

/// The other end of the SSH session that this process runs in: from its environment or from that of the nearest
/// ancestor that still has it (`sudo` takes it away).
fn login_peer(reader: &Reader<'_>) -> Option<Peer> {
    let mut process = "self".to_owned();
    for _ in 0..MOST_ANCESTORS {
        // Ancestors of another user keep their environment to themselves: that is no failure.
        let environment = reader.tree().read(&format!("/proc/{process}/environ"), MOST_ENVIRONMENT);
        let peer = environment.ok().and_then(|bytes| peer_in(&String::from_utf8_lossy(&bytes)));
        if peer.is_some() {
            return peer;
        }
        let status = reader.tree().table(&format!("/proc/{process}/status")).ok()?;
        process = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
        if process == "0" {
            return None;
        }
    }
    None
}

/// `SSH_CONNECTION=192.0.2.1 50000 192.0.2.2 22`; a link-local address names its interface behind `%`.
fn peer_in(environment: &str) -> Option<Peer> {
    let value = environment.split('\0').find_map(|entry| entry.strip_prefix("SSH_CONNECTION="))?;
    let mut parts = value.split_whitespace().next()?.splitn(2, '%');
    let address = parts.next()?.parse::<IpAddr>().ok()?.to_canonical();
    Some(Peer { address, scope: parts.next().map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_is_found_in_the_environment() {
        for (environment, peer) in [
            ("A=1\0SSH_CONNECTION=192.0.2.1 5 192.0.2.2 22\0B=2\0", Some(("192.0.2.1", None))),
            ("SSH_CONNECTION=fe80::1%eth0 5 fe80::2 22", Some(("fe80::1", Some("eth0")))),
            ("SSH_CONNECTION=::ffff:192.0.2.1 5 x 22", Some(("192.0.2.1", None))),
            ("SSH_CONNECTION=\0", None),
            ("XSSH_CONNECTION=192.0.2.1", None),
        ] {
            let peer = peer.map(|(address, scope)| Peer {
                address: address.parse().unwrap(),
                scope: scope.map(str::to_owned),
            });
            assert_eq!(peer_in(environment), peer, "{environment:?}");
        }
    }
}
