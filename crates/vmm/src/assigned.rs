//! The files of assigned functions, taken over from the process that opened them.

use std::fs::File;
use std::io::Read;

use linux::vfio::{Access, Inherited};
use machine::assigned::{FunctionPlace, GuestRom, Request};
use spec::{AssignedFunctionSpec, AssignedSpec, InheritedFd, PciAddress, VfioFiles};

use crate::{explain, take};

/// Takes over the inherited files that `spec` names.
pub(crate) fn take_over(spec: &AssignedSpec) -> Result<Request, String> {
    let files = match &spec.files {
        VfioFiles::Groups { container, groups } => Inherited::Groups {
            container: take(*container)?,
            groups: groups
                .iter()
                .map(|group| Ok((group.id, take(group.file)?)))
                .collect::<Result<_, String>>()?,
            members: spec.functions.iter().map(|function| (function.address, function.group)).collect(),
        },
        VfioFiles::Iommufd { control } => Inherited::Cdevs {
            iommufd: take(*control)?,
            space: None,
            devices: spec.functions.iter().map(own_file).collect::<Result<_, String>>()?,
        },
    };
    let place = |function: &AssignedFunctionSpec| FunctionPlace {
        address: function.address,
        slot: function.slot,
        function: function.function,
        legacy_vga: function.legacy_vga,
    };
    let access = Access::from_fds(files).map_err(explain)?;
    let rom = |function: &AssignedFunctionSpec| {
        let rom = match function.rom {
            Some(file) => read_rom(function.address, file).map(GuestRom::Given)?,
            None if function.no_rom => GuestRom::Hidden,
            None => GuestRom::Own,
        };
        Ok((function.address, rom))
    };
    let roms = spec.functions.iter().map(rom).collect::<Result<_, String>>()?;
    Ok(Request { access, functions: spec.functions.iter().map(place).collect(), roms })
}

/// The largest ROM BAR there is.
const LARGEST_ROM: u64 = 16 << 20;

/// Reads the option ROM that the guest is to see. What is wrong with it is told and no reason to refuse: its owner may know
/// better.
fn read_rom(address: PciAddress, file: InheritedFd) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    File::from(take(file)?)
        .take(LARGEST_ROM + 1)
        .read_to_end(&mut bytes)
        .map_err(|errno| format!("read the option ROM for {address}: {errno}"))?;
    if bytes.is_empty() || bytes.len() as u64 > LARGEST_ROM {
        return Err(format!(
            "the option ROM for {address} has {} bytes or more; one has at least a byte and at most 16 MiB",
            bytes.len()
        ));
    }
    for fault in pci::rom::judge(&bytes, None) {
        eprintln!("allod-vmm: the option ROM for {address}: {fault}");
    }
    Ok(bytes)
}

fn own_file(function: &AssignedFunctionSpec) -> Result<(spec::PciAddress, std::os::fd::OwnedFd), String> {
    let file = function.file.ok_or_else(|| {
        format!("the machine spec names no file for {}, which iommufd needs", function.address)
    })?;
    Ok((function.address, take(file)?))
}
