//! Messages of the routing socket, as far as virtual ports need them. Pure: bytes in, bytes out.
//!
//! Sources: include/uapi/linux/netlink.h, rtnetlink.h and if_link.h; net/core/rtnetlink.c for who writes what. Numbers are
//! in the byte order of the machine, an x86.

use rustix::io::Errno;

use super::{PortSetting, VirtualPort};

// Types and flags of messages.
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
/// Our only message on its socket.
const SEQUENCE: u32 = 1;

// Attributes of a link.
const EXTENSIONS: u16 = 29;
const EXTENSION_VIRTUAL_FUNCTIONS: u32 = 1;
const PORTS: u16 = 22;
// Inside: one for each virtual function, and inside that its settings.
const PORT: u16 = 1;
const PORT_MAC: u16 = 1;
const PORT_VLAN: u16 = 2;
/// The upper two bits of an attribute's type are flags.
const TYPE: u16 = 0x3fff;

/// Bytes of `struct nlmsghdr`, of `struct ifinfomsg`, and of an attribute's header.
const HEADER: usize = 16;
const LINK: usize = 16;
const ATTRIBUTE: usize = 4;
/// Bytes that a port's MAC address has room for (MAX_ADDR_LEN).
const MAC_ROOM: usize = 32;
/// Attributes of one level that are looked at; a card has at most 256 virtual functions.
const ATTRIBUTE_LIMIT: usize = 1024;

/// A setting and the port it is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) index: u32,
    pub(super) setting: PortSetting,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    Refused(Errno),
    Ports(Vec<VirtualPort>),
}

/// The question for the ports of an interface.
pub(super) fn question(interface: u32) -> Vec<u8> {
    let attribute = attribute(EXTENSIONS, &EXTENSION_VIRTUAL_FUNCTIONS.to_le_bytes());
    message(GET_LINK, REQUEST, interface, &attribute)
}

/// The order to change a setting.
pub(super) fn order(interface: u32, Order { index, setting }: Order) -> Vec<u8> {
    let index = index.to_le_bytes();
    let setting = match setting {
        PortSetting::Mac(mac) => {
            let mut room = [0; MAC_ROOM];
            room.iter_mut().zip(mac).for_each(|(place, octet)| *place = octet);
            attribute(PORT_MAC, &[&index[..], &room].concat())
        }
        // The last number is the priority of the frames.
        PortSetting::Vlan(vlan) => {
            attribute(PORT_VLAN, &[index, u32::from(vlan).to_le_bytes(), [0; 4]].concat())
        }
    };
    message(SET_LINK, REQUEST | ACKNOWLEDGE, interface, &attribute(PORTS, &attribute(PORT, &setting)))
}

/// Reads what came back; `None` when it is about something else.
pub(super) fn answer(mut bytes: &[u8]) -> Result<Option<Answer>, Errno> {
    while bytes.len() >= HEADER {
        let len = u32_at(bytes, 0).ok_or(Errno::PROTO)? as usize;
        let message = bytes.get(..len).filter(|message| message.len() >= HEADER).ok_or(Errno::PROTO)?;
        let body = message.get(HEADER..).unwrap_or_default();
        match u16_at(message, 4) {
            Some(ERROR) => {
                let errno = u32_at(body, 0).ok_or(Errno::PROTO)?.cast_signed();
                return Ok(Some(match errno {
                    0 => Answer::Done,
                    errno => Answer::Refused(Errno::from_raw_os_error(errno.saturating_neg())),
                }));
            }
            Some(NEW_LINK) => return Ok(Some(Answer::Ports(ports(body.get(LINK..).unwrap_or_default())))),
            _ => bytes = bytes.get(aligned(len)..).unwrap_or_default(),
        }
    }
    Ok(None)
}

fn ports(link: &[u8]) -> Vec<VirtualPort> {
    let lists = attributes(link).filter(|(kind, _)| *kind == PORTS);
    let each = lists.flat_map(|(_, list)| attributes(list)).filter(|(kind, _)| *kind == PORT);
    let mut ports: Vec<_> = each.filter_map(|(_, settings)| port(settings)).collect();
    ports.sort_unstable_by_key(|port| port.index);
    ports
}

fn port(settings: &[u8]) -> Option<VirtualPort> {
    let mut port = None;
    for (kind, setting) in attributes(settings) {
        let Some(index) = u32_at(setting, 0).filter(|_| matches!(kind, PORT_MAC | PORT_VLAN)) else {
            continue;
        };
        let port = port.get_or_insert(VirtualPort { index, ..VirtualPort::default() });
        match kind {
            PORT_MAC => port.mac = *setting.get(4..)?.first_chunk()?,
            _ => port.vlan = u16::try_from(u32_at(setting, 4)?).ok()?,
        }
    }
    port
}

/// The attributes in `bytes`, flags taken off their types; ends at the first that is not whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE;
        let payload = bytes.get(ATTRIBUTE..len)?;
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some((kind, payload))
    })
    .take(ATTRIBUTE_LIMIT)
}

fn message(kind: u16, flags: u16, interface: u32, attributes: &[u8]) -> Vec<u8> {
    let len = (HEADER + LINK + attributes.len()) as u32;
    let mut message = Vec::new();
    message.extend(len.to_le_bytes());
    message.extend(kind.to_le_bytes());
    message.extend(flags.to_le_bytes());
    message.extend(SEQUENCE.to_le_bytes());
    // Of whoever sends: the kernel knows.
    message.extend([0; 4]);
    // Any family, any type; flags and their mask stay as they are.
    message.extend([0; 4]);
    message.extend(interface.to_le_bytes());
    message.extend([0; 8]);
    message.extend(attributes);
    message
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let len = (ATTRIBUTE + payload.len()) as u16;
    let mut attribute = [len.to_le_bytes(), kind.to_le_bytes()].concat();
    attribute.extend(payload);
    attribute.resize(aligned(attribute.len()), 0);
    attribute
}

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::{
        Answer, ERROR, NEW_LINK, Order, PORT, PORT_MAC, PORT_VLAN, PORTS, answer, attribute, message, order,
        question,
    };
    use crate::link::{PortSetting, VirtualPort};

    const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn port(index: u8, mac: [u8; 6], vlan: u8) -> Vec<u8> {
        let mut room = vec![index, 0, 0, 0];
        room.extend(mac);
        room.resize(36, 0);
        // A setting that we do not know stands between.
        let settings = [
            attribute(PORT_MAC, &room),
            attribute(10, &[1, 0, 0, 0, 7]),
            attribute(PORT_VLAN, &[index, 0, 0, 0, vlan, 0, 0, 0, 0, 0, 0, 0]),
        ];
        attribute(PORT | 1 << 15, &settings.concat())
    }

    #[test]
    fn messages_are_the_kernels_bytes() {
        let expected: [&[u8]; 3] = [
            &[40, 0, 0, 0, 18, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[8, 0, 29, 0, 1, 0, 0, 0],
        ];
        assert_eq!(question(7), expected.concat());

        let vlan = order(7, Order { index: 2, setting: PortSetting::Vlan(300) });
        assert_eq!(vlan[..8], [56, 0, 0, 0, 19, 0, 5, 0]);
        let list = [24, 0, 22, 0, 20, 0, 1, 0, 16, 0, 2, 0, 2, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(vlan[32..], list);

        let mac = order(7, Order { index: 2, setting: PortSetting::Mac(MAC) });
        assert_eq!(mac[32..54], [48, 0, 22, 0, 44, 0, 1, 0, 40, 0, 1, 0, 2, 0, 0, 0, 0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!((mac.len(), &mac[54..]), (80, &[0; 26][..]));
    }

    #[test]
    fn ports_are_read_in_their_order_whatever_stands_between() {
        let list = attribute(PORTS, &[port(1, MAC, 0), port(0, [0; 6], 9)].concat());
        let link = message(NEW_LINK, 0, 7, &[attribute(3, b"eth0\0"), list].concat());
        let stray = message(99, 0, 1, &[]);
        let ports =
            vec![VirtualPort { index: 0, mac: [0; 6], vlan: 9 }, VirtualPort { index: 1, mac: MAC, vlan: 0 }];
        assert_eq!(answer(&link), Ok(Some(Answer::Ports(ports.clone()))));
        assert_eq!(answer(&[stray.clone(), link].concat()), Ok(Some(Answer::Ports(ports))));
        assert_eq!(answer(&stray), Ok(None));
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let error = |errno: i32| {
            let mut bytes = message(ERROR, 0, 0, &[]);
            bytes[16..20].copy_from_slice(&errno.to_le_bytes());
            bytes
        };
        for (bytes, expected) in [
            (error(0), Ok(Some(Answer::Done))),
            (error(-22), Ok(Some(Answer::Refused(Errno::INVAL)))),
            (error(0)[..18].to_vec(), Err(Errno::PROTO)),
            (vec![4; 16], Err(Errno::PROTO)),
            (vec![0; 16], Err(Errno::PROTO)),
            (vec![], Ok(None)),
        ] {
            assert_eq!(answer(&bytes), expected, "{bytes:?}");
        }
        // Lists that are cut off end where they are cut.
        let link = message(NEW_LINK, 0, 7, &attribute(PORTS, &port(0, MAC, 0)));
        for cut in 32..link.len() {
            let mut bytes = link[..cut].to_vec();
            bytes[..4].copy_from_slice(&(cut as u32).to_le_bytes());
            assert!(matches!(answer(&bytes), Ok(Some(Answer::Ports(ports))) if ports.len() <= 1), "{cut}");
        }
    }
}
