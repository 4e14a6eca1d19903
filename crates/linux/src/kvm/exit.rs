//! Why a vCPU left the guest, as typed values.

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_HYPERV, KVM_EXIT_HYPERV_HCALL, KVM_EXIT_INTERNAL_ERROR,
    KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_SYSTEM_EVENT_RESET, kvm_run,
};

/// One exit to user space. Data of reads is to be filled in before the vCPU runs again.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<'a> {
    /// The guest reads a port: `data` holds one or more accesses of `width` bytes each, one after another.
    PortRead {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: usize,
        /// To be filled in.
        data: &'a mut [u8],
    },
    /// The guest writes a port: `data` holds one or more accesses of `width` bytes each, one after another.
    PortWrite {
        /// The port.
        port: u16,
        /// Bytes of one access: 1, 2 or 4.
        width: usize,
        /// What it writes.
        data: &'a [u8],
    },
    /// The guest reads memory that has no slot.
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// To be filled in: 1 to 8 bytes.
        data: &'a mut [u8],
    },
    /// The guest writes memory that has no slot.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// What it writes: 1 to 8 bytes.
        data: &'a [u8],
    },
    /// The vCPU was kicked or a signal came.
    Interrupted,
    /// The vCPU halted for good (the in-kernel APIC handles ordinary halts).
    Halt,
    /// Three faults, one inside the other.
    Shutdown,
    /// The processor refused the guest's state.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
    },
    /// KVM met something it cannot emulate.
    InternalError {
        /// KVM's sub-error, for example 1 for an instruction that cannot be emulated.
        suberror: u32,
    },
    /// The guest has asked Hyper-V's register for a reset.
    HypervisorReset,
    /// An exit that this crate asks for nowhere.
    Other(u32),
}

/// What Hyper-V answers to a call it does not have (HV_STATUS_INVALID_HYPERCALL_CODE). Those that KVM leaves to us are
/// about messages between partitions, and there are no others.
const INVALID_HYPERCALL: u64 = 2;

/// Reads the exit that `KVM_RUN` left in the page(s) at `run`.
///
/// # Safety
/// `run` points to the vCPU's live mapping of `len` bytes, nothing else refers to it for the lifetime of the result,
/// and the vCPU does not run meanwhile.
pub(super) unsafe fn decode<'a>(run: *mut kvm_run, len: usize) -> Exit<'a> {
    // SAFETY: by the caller's promise the structure is there and nobody writes it now; the reads below go through
    // raw places, so the data area behind the structure stays free for the slices that are handed out.
    unsafe {
        match (*run).exit_reason {
            KVM_EXIT_IO => {
                let io = (*run).__bindgen_anon_1.io;
                let width = usize::from(io.size);
                let start = usize::try_from(io.data_offset).unwrap_or(len);
                let bytes = width.saturating_mul(io.count as usize).min(len.saturating_sub(start));
                let data = run.cast::<u8>().add(start.min(len));
                if u32::from(io.direction) == KVM_EXIT_IO_IN {
                    Exit::PortRead { port: io.port, width, data: std::slice::from_raw_parts_mut(data, bytes) }
                } else {
                    Exit::PortWrite { port: io.port, width, data: std::slice::from_raw_parts(data, bytes) }
                }
            }
            KVM_EXIT_MMIO => {
                let mmio = &raw mut (*run).__bindgen_anon_1.mmio;
                let address = (*mmio).phys_addr;
                let bytes = ((*mmio).len as usize).min((*mmio).data.len());
                let data = (&raw mut (*mmio).data).cast::<u8>();
                if (*mmio).is_write == 0 {
                    Exit::MmioRead { address, data: std::slice::from_raw_parts_mut(data, bytes) }
                } else {
                    Exit::MmioWrite { address, data: std::slice::from_raw_parts(data, bytes) }
                }
            }
            KVM_EXIT_INTR => Exit::Interrupted,
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_FAIL_ENTRY => {
                Exit::FailEntry { reason: (*run).__bindgen_anon_1.fail_entry.hardware_entry_failure_reason }
            }
            KVM_EXIT_INTERNAL_ERROR => {
                Exit::InternalError { suberror: (*run).__bindgen_anon_1.internal.suberror }
            }
            KVM_EXIT_HYPERV => {
                let hyperv = &raw mut (*run).__bindgen_anon_1.hyperv;
                if (*hyperv).type_ == KVM_EXIT_HYPERV_HCALL {
                    (*hyperv).u.hcall.result = INVALID_HYPERCALL;
                }
                // Else the guest has placed a page of the synthetic interrupt controller, which is KVM's alone.
                Exit::Interrupted
            }
            KVM_EXIT_SYSTEM_EVENT if (*run).__bindgen_anon_1.system_event.type_ == KVM_SYSTEM_EVENT_RESET => {
                Exit::HypervisorReset
            }
            // A crash that the guest tells of: it goes on to do what it does about it.
            KVM_EXIT_SYSTEM_EVENT => Exit::Interrupted,
            other => Exit::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use kvm_bindings::{KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, kvm_run};

    use super::{Exit, decode};

    /// A run area as KVM makes it: the structure's page, then the page with the data of port accesses.
    #[repr(C, align(4096))]
    struct Area {
        run: kvm_run,
        rest: [u8; 8192 - size_of::<kvm_run>()],
    }

    fn area() -> Box<Area> {
        Box::new(Area { run: kvm_run::default(), rest: [0xaa; 8192 - size_of::<kvm_run>()] })
    }

    #[test]
    fn a_string_write_keeps_its_width_and_all_its_elements() {
        let mut area = area();
        area.run.exit_reason = KVM_EXIT_IO;
        area.run.__bindgen_anon_1.io.direction = KVM_EXIT_IO_OUT as u8;
        area.run.__bindgen_anon_1.io.size = 2;
        area.run.__bindgen_anon_1.io.count = 3;
        area.run.__bindgen_anon_1.io.port = 0x3f8;
        area.run.__bindgen_anon_1.io.data_offset = 4096;
        // SAFETY: the area is ours, of that size, and used by nobody else.
        let exit = unsafe { decode((&raw mut *area).cast(), size_of::<Area>()) };
        assert_eq!(exit, Exit::PortWrite { port: 0x3f8, width: 2, data: &[0xaa; 6] });
    }

    #[test]
    fn data_that_would_lie_outside_the_area_is_cut() {
        let mut area = area();
        area.run.exit_reason = KVM_EXIT_IO;
        area.run.__bindgen_anon_1.io.direction = KVM_EXIT_IO_OUT as u8;
        area.run.__bindgen_anon_1.io.size = 4;
        area.run.__bindgen_anon_1.io.count = u32::MAX;
        area.run.__bindgen_anon_1.io.data_offset = 8190;
        // SAFETY: the area is ours, of that size, and used by nobody else.
        let exit = unsafe { decode((&raw mut *area).cast(), size_of::<Area>()) };
        assert_eq!(exit, Exit::PortWrite { port: 0, width: 4, data: &[0xaa; 2] });
    }

    #[test]
    fn a_memory_read_gives_the_bytes_to_fill() {
        let mut area = area();
        area.run.exit_reason = KVM_EXIT_MMIO;
        area.run.__bindgen_anon_1.mmio = kvm_bindings::kvm_run__bindgen_ty_1__bindgen_ty_6 {
            phys_addr: 0xb000_0000,
            data: [0; 8],
            len: 4,
            is_write: 0,
        };
        // SAFETY: the area is ours, of that size, and used by nobody else.
        let exit = unsafe { decode((&raw mut *area).cast(), size_of::<Area>()) };
        assert_eq!(exit, Exit::MmioRead { address: 0xb000_0000, data: &mut [0; 4] });
    }
}
