//! What virtual functions may do on the network: the MAC address and the VLAN that their physical function enforces.
//!
//! Read, set and set back through the routing socket. Not here: making the virtual functions.

use linux::link::{LinkError, PortSetting, VirtualPort};
use spec::PciAddress;
use spec::ledger::{Change, PortSettings};
use spec::seat_file::MacAddress;

use super::place;
use crate::system::System;

/// A virtual function by its physical function and its index.
type Which = (PciAddress, u16);

/// The octets of no address.
const NO_MAC: [u8; 6] = [0; 6];

/// Lists what is to be changed so that `which` has the settings `to`.
///
/// # Errors
///
/// Why it cannot have them, in words.
pub(super) fn changes(system: &dyn System, which: Which, to: PortSettings) -> Result<Vec<Change>, String> {
    if to == PortSettings::default() {
        return Ok(Vec::new());
    }
    let (_, port) = find(system, which)?;
    let mac = to.mac.filter(|mac| mac.octets() != port.mac);
    let vlan = to.vlan.filter(|vlan| *vlan != port.vlan);
    if mac.is_none() && vlan.is_none() {
        return Ok(Vec::new());
    }
    let from = PortSettings { mac: mac.and(MacAddress::unicast(port.mac)), vlan: vlan.map(|_| port.vlan) };
    let (of, index) = which;
    Ok(vec![Change::ConfigureVirtualFunction { of, index, from, to: PortSettings { mac, vlan } }])
}

/// Sets what `to` says, and looks whether it is so then.
///
/// # Errors
///
/// Why not, in words.
pub(super) fn set(system: &dyn System, which: Which, to: &PortSettings) -> Result<(), String> {
    let (interface, _) = find(system, which)?;
    let order = |setting| system.set_virtual_port(interface, u32::from(which.1), setting);
    if let Some(mac) = to.mac {
        order(PortSetting::Mac(mac.octets())).map_err(words)?;
    }
    if let Some(vlan) = to.vlan {
        order(PortSetting::Vlan(vlan)).map_err(words)?;
    }
    let (_, port) = find(system, which)?;
    let as_asked =
        to.mac.is_none_or(|mac| mac.octets() == port.mac) && to.vlan.is_none_or(|vlan| vlan == port.vlan);
    match as_asked {
        true => Ok(()),
        false => Err(format!("the driver reports success, but virtual function {} is not so", which.1)),
    }
}

/// Sets back what [`set`] set, unless others have changed it since; a virtual function that is gone has nothing left.
///
/// # Errors
///
/// Why not, in words.
pub(super) fn set_back(
    system: &dyn System,
    which: Which,
    from: &PortSettings,
    to: &PortSettings,
) -> Result<Option<String>, String> {
    if place::virtual_function(system.tree(), which.0, which.1).is_none() {
        return Ok(Some(format!("virtual function {} of {} is not there any more", which.1, which.0)));
    }
    let (interface, port) = find(system, which)?;
    let order = |setting| system.set_virtual_port(interface, u32::from(which.1), setting);
    if to.vlan == Some(port.vlan)
        && let Some(vlan) = from.vlan
    {
        order(PortSetting::Vlan(vlan)).map_err(words)?;
    }
    if to.mac.is_some_and(|mac| mac.octets() == port.mac) {
        let before = from.mac.map_or(NO_MAC, MacAddress::octets);
        match order(PortSetting::Mac(before)) {
            Ok(()) => {}
            // Many drivers know no way to take an address away; it goes with the virtual function.
            Err(_) if before == NO_MAC => {
                return Ok(Some(format!("virtual function {} keeps its address", which.1)));
            }
            Err(error) => return Err(words(error)),
        }
    }
    Ok(None)
}

/// The number of the physical function's network interface, and how the virtual function stands there.
fn find(system: &dyn System, (of, index): Which) -> Result<(u32, VirtualPort), String> {
    let tree = system.tree();
    let directory = format!("{}/net", place::function(of));
    let name = tree.list(&directory).unwrap_or_default().into_iter().next();
    let name = name.ok_or_else(|| {
        format!(
            "{of} has no network interface; its own driver has to have it, for that enforces the settings"
        )
    })?;
    let number = place::number(tree, &format!("{directory}/{name}/ifindex"))?;
    let interface = u32::try_from(number).map_err(|error| error.to_string())?;
    let ports = system.virtual_ports(interface).map_err(words)?;
    let port = ports.into_iter().find(|port| port.index == u32::from(index));
    let port = port.ok_or_else(|| {
        format!(
            "the driver of {of} tells nothing of virtual function {index}, so it cannot be given an address"
        )
    })?;
    Ok((interface, port))
}

fn words(error: LinkError) -> String {
    format!("{error}: {}", error.errno)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use linux::link::{LinkError, PortSetting, VirtualPort};
    use linux::sysfs::{FakeTree, Tree};
    use spec::PciAddress;
    use spec::ledger::{Change, PortSettings, ProcessMark};

    use super::{changes, set, set_back};
    use crate::system::System;

    /// A card with two virtual functions, whose driver may not know how to take an address away.
    struct Card {
        tree: FakeTree,
        ports: Mutex<[VirtualPort; 2]>,
        clears: bool,
    }

    const OF: &str = "0000:01:00.0";
    const MAC: &str = "52:54:00:00:00:07";

    impl Card {
        fn new(clears: bool) -> Self {
            let tree = FakeTree::new();
            tree.edit(|nodes| {
                let function = format!("/sys/bus/pci/devices/{OF}");
                nodes.put_file(&format!("{function}/net/eth0/ifindex"), "4\n");
                nodes.put_link(&format!("{function}/virtfn0"), "../0000:01:10.0");
                nodes.put_link(&format!("{function}/virtfn1"), "../0000:01:10.2");
            });
            let port = |index| VirtualPort { index, ..VirtualPort::default() };
            Self { tree, ports: Mutex::new([port(0), port(1)]), clears }
        }

        fn port(&self, index: usize) -> ([u8; 6], u16) {
            let port = self.ports.lock().unwrap()[index];
            (port.mac, port.vlan)
        }
    }

    impl System for Card {
        fn tree(&self) -> &dyn Tree {
            &self.tree
        }

        fn virtual_ports(&self, interface: u32) -> Result<Vec<VirtualPort>, LinkError> {
            assert_eq!(interface, 4);
            Ok(self.ports.lock().unwrap().to_vec())
        }

        fn set_virtual_port(
            &self,
            interface: u32,
            index: u32,
            setting: PortSetting,
        ) -> Result<(), LinkError> {
            let port = &mut self.ports.lock().unwrap()[index as usize];
            match setting {
                PortSetting::Mac(mac) if mac == [0; 6] && !self.clears => {
                    let errno = linux::vfio::Errno::INVAL;
                    return Err(LinkError { operation: "set", interface, errno });
                }
                PortSetting::Mac(mac) => port.mac = mac,
                PortSetting::Vlan(vlan) => port.vlan = vlan,
            }
            Ok(())
        }

        fn load_module(&self, _: &str) -> Result<(), String> {
            Ok(())
        }

        fn now(&self) -> u64 {
            0
        }

        fn pause(&self, _: Duration) {}

        fn process(&self) -> ProcessMark {
            ProcessMark { pid: 1, start: 1 }
        }
    }

    fn of() -> PciAddress {
        OF.parse().unwrap()
    }

    #[test]
    fn what_is_set_is_set_back_and_the_neighbour_stays_as_it_is() {
        let to = PortSettings { mac: Some(MAC.parse().unwrap()), vlan: Some(7) };
        for clears in [true, false] {
            let card = Card::new(clears);
            let list = changes(&card, (of(), 1), to).unwrap();
            let [Change::ConfigureVirtualFunction { from, to: after, .. }] = list.as_slice() else {
                panic!("{list:?}")
            };
            assert_eq!((*from, *after), (PortSettings { mac: None, vlan: Some(0) }, to));
            set(&card, (of(), 1), after).unwrap();
            assert_eq!(card.port(1), ([0x52, 0x54, 0, 0, 0, 7], 7));
            assert_eq!(changes(&card, (of(), 1), to).unwrap(), [], "it is so already");
            let note = set_back(&card, (of(), 1), from, after).unwrap();
            assert_eq!((note.is_none(), card.port(1).1), (clears, 0), "{note:?}");
            assert_eq!(card.port(1).0 == [0; 6], clears);
            assert_eq!(card.port(0), ([0; 6], 0));
        }
    }

    #[test]
    fn what_others_set_since_and_what_is_gone_is_left_alone() {
        let card = Card::new(true);
        let to = PortSettings { mac: Some(MAC.parse().unwrap()), vlan: Some(7) };
        set(&card, (of(), 0), &to).unwrap();
        card.ports.lock().unwrap()[0].vlan = 9;
        set_back(&card, (of(), 0), &PortSettings { mac: None, vlan: Some(0) }, &to).unwrap();
        assert_eq!(card.port(0), ([0; 6], 9));
        let note = set_back(&card, (of(), 5), &PortSettings::default(), &to).unwrap();
        assert!(note.unwrap().contains("not there any more"));
    }

    #[test]
    fn a_card_without_an_interface_or_such_a_port_is_refused_in_words() {
        let card = Card::new(true);
        let to = PortSettings { mac: None, vlan: Some(7) };
        let why = changes(&card, (of(), 2), to).unwrap_err();
        assert!(why.contains("virtual function 2"), "{why}");
        let why = changes(&card, ("0000:02:00.0".parse().unwrap(), 0), to).unwrap_err();
        assert!(why.contains("no network interface"), "{why}");
        assert_eq!(changes(&card, (of(), 9), PortSettings::default()), Ok(vec![]));
    }
}
