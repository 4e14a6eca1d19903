//! The host's routes, as far as `/proc` tells them: which interface leads to an address, which carry a default route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reader::Reader;

/// `RTF_UP` and `RTF_REJECT` (Linux `include/uapi/linux/route.h`).
const FLAG_UP: u32 = 0x1;
const FLAG_REJECT: u32 = 0x200;

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) interface: String,
    pub(super) network: IpAddr,
    pub(super) prefix_bits: u32,
    pub(super) metric: u32,
}

/// The routes of the main tables that are up.
pub(super) fn read(reader: &Reader<'_>) -> Vec<Route> {
    let four = reader.table("/proc/net/route").unwrap_or_default();
    let six = reader.table("/proc/net/ipv6_route").unwrap_or_default();
    four.lines().skip(1).filter_map(route_4).chain(six.lines().filter_map(route_6)).collect()
}

/// `eth0 00000000 0101A8C0 0003 0 0 100 00000000 ...`: addresses as the host's own 32-bit numbers.
fn route_4(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [interface, network, _gateway, flags, _, _, metric, mask, ..] = words.as_slice() else { return None };
    usable(u32::from_str_radix(flags, 16).ok()?)?;
    let address = |text: &str| u32::from_str_radix(text, 16).ok().map(|number| number.to_le_bytes());
    Some(Route {
        interface: (*interface).to_owned(),
        network: IpAddr::V4(Ipv4Addr::from(address(network)?)),
        prefix_bits: u32::from_be_bytes(address(mask)?).count_ones(),
        metric: metric.parse().ok()?,
    })
}

/// `network prefix source prefix next-hop metric references use flags interface`, all hexadecimal.
fn route_6(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [network, prefix, _, _, _, metric, _, _, flags, interface] = words.as_slice() else { return None };
    usable(u32::from_str_radix(flags, 16).ok()?)?;
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    Some(Route {
        interface: (*interface).to_owned(),
        network: IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(network, 16).ok()?)),
        prefix_bits: number(prefix)?,
        metric: number(metric)?,
    })
}

fn usable(flags: u32) -> Option<()> {
    (flags & FLAG_UP != 0 && flags & FLAG_REJECT == 0).then_some(())
}

/// The interfaces that carry a default route.
pub(super) fn default_interfaces(routes: &[Route]) -> Vec<String> {
    let default = routes.iter().filter(|route| route.prefix_bits == 0 && route.network.is_unspecified());
    let mut names: Vec<String> = default.map(|route| route.interface.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The interface that leads to `peer`: the longest prefix, then the lowest metric.
pub(super) fn interface_to(routes: &[Route], peer: IpAddr) -> Option<String> {
    let peer = peer.to_canonical();
    let best = routes
        .iter()
        .filter(|route| leads_to(route, peer))
        .max_by_key(|route| (route.prefix_bits, std::cmp::Reverse(route.metric)));
    best.map(|route| route.interface.clone())
}

fn leads_to(route: &Route, peer: IpAddr) -> bool {
    match (route.network, peer) {
        (IpAddr::V4(network), IpAddr::V4(peer)) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(route.prefix_bits)).unwrap_or(0);
            network.to_bits() & mask == peer.to_bits() & mask
        }
        (IpAddr::V6(network), IpAddr::V6(peer)) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(route.prefix_bits)).unwrap_or(0);
            network.to_bits() & mask == peer.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Vec<Route> {
        let four = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                    wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                    eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n\
                    eth2\t0000000B\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0\n";
        let six = "20010db8000000000000000000000000 20 00000000000000000000000000000000 00 \
                   00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth1\n\
                   00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                   00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        four.lines().filter_map(route_4).chain(six.lines().filter_map(route_6)).collect()
    }

    #[test]
    fn an_address_is_reached_by_the_longest_prefix_and_the_lowest_metric() {
        for (peer, interface) in [
            ("8.8.8.8", Some("eth0")),
            ("10.1.2.3", Some("eth1")),
            ("11.1.2.3", Some("eth0")),
            ("::ffff:10.1.2.3", Some("eth1")),
            ("2001:db8::7", Some("eth1")),
            ("2001:db9::7", None),
        ] {
            assert_eq!(interface_to(&routes(), peer.parse().unwrap()).as_deref(), interface, "{peer}");
        }
    }

    #[test]
    fn default_routes_leave_out_the_rejecting_one() {
        assert_eq!(default_interfaces(&routes()), ["eth0", "wlan0"]);
    }
}
