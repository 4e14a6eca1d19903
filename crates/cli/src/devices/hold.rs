//! A hold in words.

use spec::inventory::{Hold, HoldKind};

/// Says what holds a function, as the rest of a sentence that starts with its device.
pub(super) fn words(hold: &Hold) -> String {
    match &hold.kind {
        HoldKind::FileSystem { device, mount_point, file_system, through } => {
            let kind = file_system.as_deref().unwrap_or("file system");
            let place = mount_point.as_deref().map_or("elsewhere".to_owned(), |point| format!("at {point}"));
            format!("{kind} mounted {place} from {device}{}", chain(through))
        }
        HoldKind::Swap { device, through } => format!("swap on {device}{}", chain(through)),
        HoldKind::StorageMember { device, part_of } => format!("{device} is a part of {part_of}"),
        HoldKind::DefaultRoute { interface, route_interface, only } => {
            let above = route_interface.as_deref().map_or(String::new(), |name| format!(" below {name}"));
            let which = if *only { "the only default route" } else { "a default route" };
            format!("{interface}{above} carries {which}")
        }
        HoldKind::Login { interface, peer } => format!("your login from {peer} came in through {interface}"),
        HoldKind::NetworkStorage { interface, server, used_for } => {
            format!("{used_for} comes from {server} through {interface}")
        }
        HoldKind::NetworkUp { interface } => format!("{interface} is up"),
        HoldKind::BootVga => "the boot display".to_owned(),
        HoldKind::Framebuffer { owner } => format!("the host's boot screen ({owner})"),
        HoldKind::Console { device } => format!("the host's text console ({device})"),
        HoldKind::DrmMaster { node, process } => {
            format!("{} draws on {node}", process.as_deref().unwrap_or("a desktop"))
        }
        HoldKind::Sound { card, process } => {
            format!("{} plays or records on {card}", process.as_deref().unwrap_or("a process"))
        }
        HoldKind::Open { node, process } => format!("{process} has {node} open"),
        HoldKind::VirtualFunctions { count } => format!("{count} virtual functions of it exist"),
        HoldKind::Input { device } => format!("the host's {device}"),
        HoldKind::Unknown => "a holder that this program does not know".to_owned(),
    }
}

fn chain(through: &[String]) -> String {
    if through.is_empty() { String::new() } else { format!(" through {}", through.join(", ")) }
}
