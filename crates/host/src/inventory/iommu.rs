//! The IOMMU: its kind, its groups with their reserved ranges, and whether interrupts are remapped.

use spec::inventory::{
    Function, IommuFacts, IommuGroup, IommuKind, PhysicalAddress, RegionKind, ReservedRegion,
};

use super::reader::{Reader, full_address};

const GROUPS: &str = "/sys/kernel/iommu_groups";
const UNITS: &str = "/sys/class/iommu";
const TABLES: &str = "/sys/firmware/acpi/tables";

/// The PCI vendor of virtio devices.
const VIRTIO_VENDOR: u16 = 0x1af4;

/// Reads the facts about the IOMMU. `functions` tell a virtio-iommu, which is named by its PCI address.
pub(super) fn read(reader: &Reader<'_>, functions: &[Function]) -> IommuFacts {
    let units = reader.list(UNITS);
    let kind = units.iter().find_map(|unit| kind_of(unit, functions));
    let kind = match kind {
        Some(kind) => kind,
        None if units.is_empty() => IommuKind::None,
        None => IommuKind::Unknown,
    };
    let tables = reader.known(reader.tree().list(TABLES));
    let firmware_table =
        tables.iter().flatten().find(|name| matches!(name.as_str(), "DMAR" | "IVRS" | "VIOT"));
    IommuFacts {
        kind,
        firmware_table: firmware_table.cloned(),
        firmware_tables_read: tables.is_some(),
        interrupt_remapping: interrupt_remapping(reader, kind),
        address_bits: units.iter().filter_map(|unit| address_bits(reader, unit)).min(),
        units,
    }
}

fn kind_of(unit: &str, functions: &[Function]) -> Option<IommuKind> {
    if unit.starts_with("dmar") {
        return Some(IommuKind::Intel);
    }
    if unit.starts_with("ivhd") {
        return Some(IommuKind::Amd);
    }
    let address = full_address(unit)?;
    let function = functions.iter().find(|function| function.address == address)?;
    (function.identity.vendor.0 == VIRTIO_VENDOR).then_some(IommuKind::Virtio)
}

/// The kernel puts `IR-` before the names of interrupt chips whose interrupts go through remapping.
fn interrupt_remapping(reader: &Reader<'_>, kind: IommuKind) -> Option<bool> {
    if kind == IommuKind::None {
        return Some(false);
    }
    let table = reader.table("/proc/interrupts")?;
    Some(table.contains(" IR-"))
}

/// The guest address width from VT-d's capability register (VT-d 4.1, section 11.4.2: MGAW in bits 21:16).
fn address_bits(reader: &Reader<'_>, unit: &str) -> Option<u8> {
    let register = reader.parsed::<PhysicalAddress>(&format!("{UNITS}/{unit}/intel-iommu/cap"))?;
    u8::try_from((register.0 >> 16 & 0x3f) + 1).ok()
}

/// Reads all groups in rising order.
pub(super) fn groups(reader: &Reader<'_>) -> Vec<IommuGroup> {
    let numbers = reader.list(GROUPS).into_iter().filter_map(|name| name.parse().ok());
    let translated = numbers.filter(|number| !is_without_iommu(reader, *number));
    let mut groups: Vec<IommuGroup> = translated.map(|number| group(reader, number)).collect();
    groups.sort_by_key(|group| group.number);
    groups
}

/// VFIO's unsafe mode makes groups for devices whose DMA nothing translates (Linux drivers/vfio/group.c,
/// `vfio_noiommu_group_alloc`): those are no groups here.
fn is_without_iommu(reader: &Reader<'_>, number: u32) -> bool {
    let path = format!("{GROUPS}/{number}/name");
    let unsafe_group = reader.text(&path).as_deref() == Some("vfio-noiommu");
    if unsafe_group {
        reader.note(&path, "a group without an IOMMU: DMA of its functions reaches all memory");
    }
    unsafe_group
}

fn group(reader: &Reader<'_>, number: u32) -> IommuGroup {
    let directory = format!("{GROUPS}/{number}");
    let members = reader.list(&format!("{directory}/devices"));
    let mut functions: Vec<_> = members.iter().filter_map(|name| full_address(name)).collect();
    functions.sort();
    let others = members.into_iter().filter(|name| full_address(name).is_none()).collect();
    let path = format!("{directory}/reserved_regions");
    let regions = reader.text(&path).unwrap_or_default();
    let reserved = regions.lines().filter_map(|line| {
        let region = region(line);
        if region.is_none() {
            reader.note(&path, format!("`{}` is no range", super::reader::shorten(line)));
        }
        region
    });
    IommuGroup {
        number,
        domain_type: reader.text(&format!("{directory}/type")),
        functions,
        others,
        reserved: reserved.collect(),
    }
}

/// Reads `0x00000000fee00000 0x00000000feefffff msi`.
fn region(line: &str) -> Option<ReservedRegion> {
    let mut words = line.split_whitespace();
    let start = words.next()?.parse().ok()?;
    let end = words.next()?.parse().ok()?;
    let kind = match words.next()? {
        "direct" => RegionKind::Direct,
        "direct-relaxable" => RegionKind::DirectRelaxable,
        "reserved" => RegionKind::Reserved,
        "msi" => RegionKind::Msi,
        _ => RegionKind::Unknown,
    };
    Some(ReservedRegion { start, end, kind })
}
