//! Network links as the kernel's routing socket knows them: what the virtual functions of a card may do on the network.
//!
//! One question or order at a time over a fresh socket. Not here: which addresses are given, and making the virtual
//! functions; both are the host side's. The messages themselves are in `message`.

mod message;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with};

use message::{Answer, Order};

/// An answer about 256 virtual functions, the most a card can have, takes about a third of this.
const LARGEST_ANSWER: usize = 256 << 10;
/// Messages on a socket of ours that are not about our question: none come, so a few are enough.
const STRAY_LIMIT: usize = 16;

/// What a virtual function may do on the network, as its physical function enforces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtualPort {
    /// Its index.
    pub index: u32,
    /// Its MAC address; all zero when none is set.
    pub mac: [u8; 6],
    /// The VLAN that its frames are put into; 0 for none.
    pub vlan: u16,
}

/// A setting of a virtual port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSetting {
    /// The MAC address; all zero takes it away, where the driver can do that.
    Mac([u8; 6]),
    /// The VLAN; 0 for none.
    Vlan(u16),
}

/// The kernel did not answer or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} of the network interface {interface}")]
pub struct LinkError {
    /// What was tried.
    pub operation: &'static str,
    /// The interface's number.
    pub interface: u32,
    /// What the kernel said.
    #[source]
    pub errno: Errno,
}

/// Asks for the virtual ports of `interface`, the physical function's network interface by its number
/// (`/sys/class/net/NAME/ifindex`); by rising index.
///
/// # Errors
///
/// There is no such interface, or the socket does not work.
pub fn virtual_ports(interface: u32) -> Result<Vec<VirtualPort>, LinkError> {
    let fail = |errno| LinkError { operation: "read the virtual functions", interface, errno };
    match ask(&message::question(interface)).map_err(fail)? {
        Answer::Ports(ports) => Ok(ports),
        Answer::Done => Ok(Vec::new()),
        Answer::Refused(errno) => Err(fail(errno)),
    }
}

/// Changes a setting of the virtual port `index` of `interface`. Needs CAP_NET_ADMIN.
///
/// # Errors
///
/// `INVAL` for what the driver cannot do or an index that does not exist, `OPNOTSUPP` for a card without such settings,
/// `PERM` for want of the capability.
pub fn set_virtual_port(interface: u32, index: u32, setting: PortSetting) -> Result<(), LinkError> {
    let operation = match setting {
        PortSetting::Mac(_) => "set the MAC address of a virtual function",
        PortSetting::Vlan(_) => "set the VLAN of a virtual function",
    };
    let fail = |errno| LinkError { operation, interface, errno };
    match ask(&message::order(interface, Order { index, setting })).map_err(fail)? {
        Answer::Refused(errno) => Err(fail(errno)),
        Answer::Done | Answer::Ports(_) => Ok(()),
    }
}

/// Sends one message and takes its answer.
fn ask(request: &[u8]) -> Result<Answer, Errno> {
    // The routing protocol has the number 0, which is that of no protocol named.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // To the kernel, which has the number 0.
    sendto(&socket, request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut buffer = vec![0; LARGEST_ANSWER];
    for _ in 0..STRAY_LIMIT {
        let (len, whole) = recv(&socket, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
        let answer = buffer.get(..len).filter(|_| whole == len).ok_or(Errno::MSGSIZE)?;
        if let Some(answer) = message::answer(answer)? {
            return Ok(answer);
        }
    }
    Err(Errno::PROTO)
}
