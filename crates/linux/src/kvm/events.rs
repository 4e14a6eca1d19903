//! Event fds that KVM itself signals or listens to, so that no exit is needed.

use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, NoDatamatch};

use super::{KvmError, Vm};
use crate::EventFd;

/// An event fd that raises an interrupt, until dropped.
#[derive(Debug)]
pub struct IrqFd {
    vm: Vm,
    trigger: Arc<EventFd>,
    resample: Option<Arc<EventFd>>,
    gsi: u32,
}

/// An event fd that a guest write to an address signals, until dropped.
#[derive(Debug)]
pub struct IoEvent {
    vm: Vm,
    event: Arc<EventFd>,
    address: u64,
    // The dword that must be written, if not any value of any width does.
    value: Option<u32>,
}

impl Vm {
    /// Raises `gsi` whenever `trigger` is signalled, and at once if it is signalled already. With `resample` the
    /// interrupt is level-triggered: it stays up until the guest acknowledges it, which signals `resample`.
    pub fn irqfd(
        &self,
        gsi: u32,
        trigger: Arc<EventFd>,
        resample: Option<Arc<EventFd>>,
    ) -> Result<IrqFd, KvmError> {
        let call = KvmError::new(format!("KVM_IRQFD for GSI {gsi}"));
        match &resample {
            Some(resample) => self.fd().register_irqfd_with_resample(&trigger, resample, gsi),
            None => self.fd().register_irqfd(&trigger, gsi),
        }
        .map_err(call)?;
        Ok(IrqFd { vm: self.clone(), trigger, resample, gsi })
    }

    /// Signals `event` whenever the guest writes to guest-physical `address`, whatever the value and width.
    pub fn ioevent(&self, address: u64, event: Arc<EventFd>) -> Result<IoEvent, KvmError> {
        self.fd()
            .register_ioevent(&event, &IoEventAddress::Mmio(address), NoDatamatch)
            .map_err(KvmError::new(format!("KVM_IOEVENTFD at {address:#x}")))?;
        Ok(IoEvent { vm: self.clone(), event, address, value: None })
    }

    /// Signals `event` whenever the guest writes the dword `value` to guest-physical `address`, and for no other write.
    pub fn ioevent_of(&self, address: u64, value: u32, event: Arc<EventFd>) -> Result<IoEvent, KvmError> {
        self.fd()
            .register_ioevent(&event, &IoEventAddress::Mmio(address), value)
            .map_err(KvmError::new(format!("KVM_IOEVENTFD for {value:#x} at {address:#x}")))?;
        Ok(IoEvent { vm: self.clone(), event, address, value: Some(value) })
    }
}

impl IrqFd {
    /// The event fd that raises the interrupt.
    pub fn trigger(&self) -> &Arc<EventFd> {
        &self.trigger
    }

    /// The event fd that tells of an acknowledged level-triggered interrupt.
    pub fn resample(&self) -> Option<&Arc<EventFd>> {
        self.resample.as_ref()
    }
}

impl Drop for IrqFd {
    fn drop(&mut self) {
        // It was registered by us; the kernel also lets go of it when the fds close, so nothing is lost on failure.
        let _ = self.vm.fd().unregister_irqfd(&self.trigger, self.gsi);
    }
}

impl Drop for IoEvent {
    fn drop(&mut self) {
        // As above: closing the VM would end it too.
        let address = IoEventAddress::Mmio(self.address);
        let _ = match self.value {
            Some(value) => self.vm.fd().unregister_ioevent(&self.event, &address, value),
            None => self.vm.fd().unregister_ioevent(&self.event, &address, NoDatamatch),
        };
    }
}
