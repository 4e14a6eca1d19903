//! The files of assigned functions, taken over from the process that opened them.

use linux::vfio::{Access, Inherited};
use machine::assigned::{FunctionPlace, Request};
use spec::{AssignedFunctionSpec, AssignedSpec, VfioFiles};

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
    };
    let access = Access::from_fds(files).map_err(explain)?;
    Ok(Request { access, functions: spec.functions.iter().map(place).collect() })
}

fn own_file(function: &AssignedFunctionSpec) -> Result<(spec::PciAddress, std::os::fd::OwnedFd), String> {
    let file = function.file.ok_or_else(|| {
        format!("the machine spec names no file for {}, which iommufd needs", function.address)
    })?;
    Ok((function.address, take(file)?))
}
