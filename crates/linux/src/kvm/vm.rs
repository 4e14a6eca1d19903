//! One virtual machine: memory slots, the interrupt controllers in the kernel, interrupt routes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KVM_MEM_READONLY, KVM_MSI_VALID_DEVID, KVM_PIT_SPEAKER_DUMMY, KvmIrqRouting,
    kvm_create_device, kvm_device_type_KVM_DEV_TYPE_VFIO, kvm_irq_routing_entry, kvm_irq_routing_irqchip,
    kvm_irq_routing_msi, kvm_pit_config, kvm_reinject_control, kvm_userspace_memory_region,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::KvmError;
use super::vcpu::Vcpu;
use crate::memory::MappingRange;

/// A virtual machine. Clones are handles to the same one; it ends with the last handle and vCPU.
#[derive(Clone, Debug)]
pub struct Vm {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fd: VmFd,
    // What KVM maps must stay mapped here: the slot's memory is dropped only after KVM has let go of it. Fields drop
    // in order, so the VM's own fd goes first.
    slots: Mutex<BTreeMap<u32, MappingRange>>,
    buffered_writes: Mutex<()>,
}

/// A KVM memory slot that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// A message-signalled interrupt: the message that GSI `gsi` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiRoute {
    /// The GSI, 24 or above: those below are the IOAPIC's pins.
    pub gsi: u32,
    /// The message address.
    pub address: u64,
    /// The message data.
    pub data: u32,
    /// The requester id (bus, device, function) when it is known.
    pub requester: Option<u16>,
}

/// An interrupt input of the in-kernel controllers.
#[derive(Clone, Debug)]
pub struct IrqLine {
    vm: Vm,
    gsi: u32,
}

/// `_IO(KVMIO, 0x71)` (include/uapi/linux/kvm.h).
const REINJECT_CONTROL: libc::Ioctl = 0xae71;
/// Pins of the in-kernel IOAPIC (`KVM_IOAPIC_NUM_PINS`), and so the first GSI free for messages.
const IOAPIC_PINS: u32 = 24;

impl Vm {
    pub(super) fn create(kvm: &kvm_ioctls::Kvm) -> Result<Self, KvmError> {
        // A signal can interrupt the creation; anything else is final.
        let fd = loop {
            match kvm.create_vm() {
                Err(error) if error.errno() == libc::EINTR => {}
                result => break result.map_err(KvmError::new("KVM_CREATE_VM"))?,
            }
        };
        Ok(Self {
            shared: Arc::new(Shared { fd, slots: Mutex::default(), buffered_writes: Mutex::default() }),
        })
    }

    /// Makes the PIC, the IOAPIC, a local APIC per future vCPU, and the PIT. `tss` is the guest-physical address of
    /// four pages that the guest must not use (needed on Intel hosts without unrestricted guests).
    pub fn create_interrupt_controllers(&self, tss: u64) -> Result<(), KvmError> {
        let fd = &self.shared.fd;
        fd.set_identity_map_address(tss)
            .map_err(KvmError::new(format!("KVM_SET_IDENTITY_MAP_ADDR {tss:#x}")))?;
        let after = tss + 0x1000;
        fd.set_tss_address(after as usize).map_err(KvmError::new(format!("KVM_SET_TSS_ADDR {after:#x}")))?;
        fd.create_irq_chip().map_err(KvmError::new("KVM_CREATE_IRQCHIP"))?;
        // Port 0x61 comes with the PIT, so that no exit is needed for the speaker.
        let config = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
        fd.create_pit2(config).map_err(KvmError::new("KVM_CREATE_PIT2"))?;
        self.set_msi_routes(&[])
    }

    /// Makes the PIT deliver its ticks when they are due and forget those a guest had no time for.
    ///
    /// Made up for later, as by default, each tick's end must be watched, and that keeps AMD's AVIC off for the whole
    /// machine (arch/x86/kvm/i8254.c, `APICV_INHIBIT_REASON_PIT_REINJ`) and delays its end by the time this call takes.
    /// Only systems that keep time by this timer, such as Linux 2.4, miss anything (Documentation/virt/kvm/api.rst,
    /// KVM_REINJECT_CONTROL).
    pub fn let_go_of_late_ticks(&self) -> Result<(), KvmError> {
        let control = kvm_reinject_control::default();
        // kvm-ioctls has no such call.
        // SAFETY: KVM reads the structure, which outlives the call.
        match unsafe {
            libc::ioctl(self.shared.fd.as_raw_fd(), REINJECT_CONTROL, std::ptr::from_ref(&control))
        } {
            0.. => Ok(()),
            _ => Err(KvmError {
                call: "KVM_REINJECT_CONTROL".to_owned(),
                errno: std::io::Error::last_os_error(),
            }),
        }
    }

    /// Shows `memory` to the guest at guest-physical address `guest`.
    pub fn map(&self, guest: u64, memory: &MappingRange, read_only: bool) -> Result<Slot, KvmError> {
        let mut slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // The lowest free number: KVM's slot ids are few.
        let slot =
            (0..).zip(slots.keys()).find(|(free, used)| free != *used).map_or(slots.len() as u32, |(n, _)| n);
        let region = kvm_userspace_memory_region {
            slot,
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: guest,
            memory_size: memory.len() as u64,
            userspace_addr: memory.address() as u64,
        };
        // SAFETY: the memory is mapped, and `slots` keeps it so until KVM has given the slot up.
        unsafe { self.shared.fd.set_user_memory_region(region) }
            .map_err(KvmError::new(format!("KVM_SET_USER_MEMORY_REGION slot {slot} at {guest:#x}")))?;
        slots.insert(slot, memory.clone());
        Ok(Slot(slot))
    }

    /// Takes the slot's memory from the guest.
    pub fn unmap(&self, slot: Slot) -> Result<(), KvmError> {
        let mut slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let region = kvm_userspace_memory_region { slot: slot.0, ..Default::default() };
        // SAFETY: a size of zero removes the slot; nothing is given to the guest.
        unsafe { self.shared.fd.set_user_memory_region(region) }
            .map_err(KvmError::new(format!("KVM_SET_USER_MEMORY_REGION remove slot {}", slot.0)))?;
        slots.remove(&slot.0);
        Ok(())
    }

    /// Makes the device by which KVM is told of assigned functions ([`crate::vfio::add_to_kvm`]).
    pub fn create_vfio_device(&self) -> Result<VfioDevice, KvmError> {
        let mut question = kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 };
        let device = self
            .shared
            .fd
            .create_device(&mut question)
            .map_err(KvmError::new("KVM_CREATE_DEVICE of type VFIO"))?;
        Ok(VfioDevice { device })
    }

    /// Makes vCPU number `id`, which is also its APIC id.
    pub fn create_vcpu(&self, id: u32) -> Result<Vcpu, KvmError> {
        let fd = self
            .shared
            .fd
            .create_vcpu(u64::from(id))
            .map_err(KvmError::new(format!("KVM_CREATE_VCPU {id}")))?;
        Vcpu::new(self.clone(), fd, id)
    }

    /// The interrupt input `gsi` of the in-kernel controllers.
    pub fn irq_line(&self, gsi: u32) -> IrqLine {
        IrqLine { vm: self.clone(), gsi }
    }

    /// Makes `messages` the only message routes, beside the fixed ones of PIC and IOAPIC.
    pub fn set_msi_routes(&self, messages: &[MsiRoute]) -> Result<(), KvmError> {
        let entries: Vec<_> = controller_routes().chain(messages.iter().map(MsiRoute::entry)).collect();
        let call = || format!("KVM_SET_GSI_ROUTING with {} messages", messages.len());
        let routing = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| KvmError { call: call(), errno: std::io::Error::from_raw_os_error(libc::E2BIG) })?;
        self.shared.fd.set_gsi_routing(&routing).map_err(KvmError::new(call()))
    }

    /// Buffers writes of `len` bytes at port `port` in the kernel until the next exit of any vCPU.
    pub fn coalesce_port(&self, port: u16, len: u32) -> Result<(), KvmError> {
        self.shared
            .fd
            .register_coalesced_mmio(kvm_ioctls::IoEventAddress::Pio(u64::from(port)), len)
            .map_err(KvmError::new(format!("KVM_REGISTER_COALESCED_MMIO port {port:#x}")))
    }

    /// Held by the vCPU that carries buffered port writes out.
    pub(super) fn buffered_writes(&self) -> &Mutex<()> {
        &self.shared.buffered_writes
    }

    pub(crate) fn fd(&self) -> &VmFd {
        &self.shared.fd
    }
}

impl IrqLine {
    /// Drives the line high or low.
    pub fn set(&self, high: bool) -> Result<(), KvmError> {
        let call = format!("KVM_IRQ_LINE {} {high}", self.gsi);
        self.vm.shared.fd.set_irq_line(self.gsi, high).map_err(KvmError::new(call))
    }
}

impl MsiRoute {
    fn entry(&self) -> kvm_irq_routing_entry {
        let mut message = kvm_irq_routing_msi {
            address_lo: self.address as u32,
            address_hi: (self.address >> 32) as u32,
            data: self.data,
            ..Default::default()
        };
        let mut entry =
            kvm_irq_routing_entry { gsi: self.gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
        if let Some(requester) = self.requester {
            message.__bindgen_anon_1.devid = u32::from(requester);
            entry.flags = KVM_MSI_VALID_DEVID;
        }
        entry.u.msi = message;
        entry
    }
}

/// What KVM knows of assigned functions; it forgets them when this is dropped with the VM.
#[derive(Debug)]
pub struct VfioDevice {
    device: DeviceFd,
}

impl AsFd for VfioDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // kvm-ioctls shows the fd as a raw number only.
        // SAFETY: the fd belongs to the device, which the borrow keeps open.
        unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) }
    }
}

/// The wiring of the legacy interrupts. Setting any route replaces all of them, so these are part of each set.
///
/// It differs from what KVM starts with (arch/x86/kvm/irq_comm.c, default_routing) in one wire: the PIT's output,
/// GSI 0, reaches the IOAPIC at pin 2, as on PC boards and as the MADT's override tells the guest.
fn controller_routes() -> impl Iterator<Item = kvm_irq_routing_entry> {
    let pic = (0..16).map(|gsi| match gsi {
        0..8 => pin(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => pin(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    let ioapic = (0..IOAPIC_PINS)
        .filter(|gsi| *gsi != 2)
        .map(|gsi| pin(gsi, KVM_IRQCHIP_IOAPIC, if gsi == 0 { 2 } else { gsi }));
    pic.chain(ioapic)
}

fn pin(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip = kvm_irq_routing_irqchip { irqchip, pin };
    entry
}

#[cfg(test)]
mod tests {
    use super::controller_routes;

    #[test]
    fn every_ioapic_pin_but_the_first_is_reached_once() {
        let mut pins: Vec<_> = controller_routes()
            // SAFETY: these entries are all of the irqchip kind, made just above.
            .map(|entry| (entry.gsi, unsafe { entry.u.irqchip }))
            .filter(|(_, to)| to.irqchip == kvm_bindings::KVM_IRQCHIP_IOAPIC)
            .map(|(gsi, to)| (to.pin, gsi))
            .collect();
        pins.sort_unstable();
        let expected: Vec<_> = (1..24).map(|pin| (pin, if pin == 2 { 0 } else { pin })).collect();
        assert_eq!(pins, expected);
    }
}
