//! The vCPU threads: running guests, carrying accesses to the buses, and standing still when told.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use linux::kvm::{Exit, Kick, KvmError, Vcpu};

use crate::bus::{Effect, ResetPath};
use crate::chipset::Chipset;
use crate::events::{Event, Events};

/// All vCPUs of one life of the machine. They wait until [`Vcpus::resume`].
pub(crate) struct Vcpus {
    gate: Arc<Gate>,
    kicks: Vec<Kick>,
    threads: Vec<JoinHandle<()>>,
}

/// What the vCPUs may do now, and how many of them do it.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    // A copy of "not running" that costs one load per exit.
    closed: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct State {
    order: Order,
    standing: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Stand,
    Run,
    End,
}

/// What every vCPU thread needs of the machine.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) chipset: Arc<Chipset>,
    pub(crate) events: Arc<Events>,
    pub(crate) exits: Arc<AtomicU64>,
}

/// A vCPU thread needs little: exits are handled in a few frames.
const STACK: usize = 256 << 10;

impl Vcpus {
    /// Makes a thread for each vCPU; `pins` are the host processors that those from the first on run on.
    pub(crate) fn spawn(vcpus: Vec<Vcpu>, pins: &[u32], surroundings: &Surroundings) -> io::Result<Self> {
        let gate = Arc::new(Gate::default());
        gate.closed.store(true, Ordering::Relaxed);
        let mut all = Self { gate, kicks: Vec::new(), threads: Vec::new() };
        for vcpu in vcpus {
            let kick = vcpu.kick();
            let pin = pins.get(vcpu.id() as usize).copied();
            let gate = Arc::clone(&all.gate);
            let surroundings = surroundings.clone();
            let spawned = std::thread::Builder::new()
                .name(format!("vcpu{}", vcpu.id()))
                .stack_size(STACK)
                .spawn(move || live(vcpu, pin, &gate, &surroundings));
            match spawned {
                Ok(thread) => {
                    all.threads.push(thread);
                    all.kicks.push(kick);
                }
                Err(error) => {
                    all.end();
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    /// Lets the vCPUs run.
    pub(crate) fn resume(&self) {
        self.gate.order(Order::Run);
    }

    /// Makes the vCPUs stand still; returns when all do.
    pub(crate) fn pause(&self) {
        self.gate.order(Order::Stand);
        self.kick();
        let mut state = self.gate.lock();
        while state.standing < self.threads.len() {
            state = self.gate.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the threads; returns when they are gone.
    pub(crate) fn end(&mut self) {
        self.gate.order(Order::End);
        self.kick();
        for thread in self.threads.drain(..) {
            // A vCPU thread that panicked has ended as well; its message is on standard error.
            let _ = thread.join();
        }
    }

    fn kick(&self) {
        for kick in &self.kicks {
            kick.kick();
        }
    }
}

impl Gate {
    fn order(&self, order: Order) {
        let mut state = self.lock();
        state.order = order;
        self.closed.store(order != Order::Run, Ordering::Release);
        self.changed.notify_all();
    }

    /// Waits while the order is to stand; false when it is to end.
    fn pass(&self, vcpu: &Vcpu) -> bool {
        if !self.closed.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.lock();
        if state.order == Order::Stand {
            // So that the guest's watchdogs do not take the pause for a hang. A guest without kvmclock has none to tell.
            let _ = vcpu.note_pause();
            state.standing += 1;
            self.changed.notify_all();
            while state.order == Order::Stand {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.standing -= 1;
        }
        state.order == Order::Run
    }

    /// A thread that will run no more counts as standing.
    fn retire(&self) {
        self.lock().standing += 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn live(mut vcpu: Vcpu, pin: Option<u32>, gate: &Gate, surroundings: &Surroundings) {
    if let Some((cpu, errno)) =
        pin.and_then(|cpu| linux::processor::run_on(cpu).err().map(|errno| (cpu, errno)))
    {
        // It runs elsewhere, more slowly; that is no reason to run not at all.
        let text = format!("vCPU {} cannot be kept on host processor {cpu}: {errno}", vcpu.id());
        surroundings.events.post(Event::Note(text));
    }
    if let Err(error) = vcpu.enter_thread() {
        surroundings.events.post(Event::Fault(describe(&error)));
        return gate.retire();
    }
    while gate.pass(&vcpu) {
        surroundings.exits.fetch_add(1, Ordering::Relaxed);
        let effects = match step(&mut vcpu, &surroundings.chipset) {
            Ok(effects) => effects,
            Err(fault) => {
                surroundings.events.post(Event::Fault(fault));
                break;
            }
        };
        if !carry_out(effects, surroundings) {
            break;
        }
    }
    gate.retire();
}

/// Runs the guest to its next exit and answers that.
fn step(vcpu: &mut Vcpu, chipset: &Chipset) -> Result<Vec<Effect>, String> {
    let mut effects = Vec::new();
    let exit = vcpu
        .run(|port, data| effects.append(&mut chipset.write_ports(port, data.len(), data)))
        .map_err(|error| describe(&error))?;
    let mut more = match exit {
        Exit::PortRead { port, width, data } => chipset.read_ports(port, width, data),
        Exit::PortWrite { port, width, data } => chipset.write_ports(port, width, data),
        Exit::MmioRead { address, data } => chipset.memory().read(address, data),
        Exit::MmioWrite { address, data } => chipset.memory().write(address, data),
        Exit::Interrupted | Exit::Halt => Vec::new(),
        Exit::HypervisorReset => vec![Effect::Reset(ResetPath::Hypervisor)],
        Exit::Shutdown => vec![Effect::Reset(ResetPath::TripleFault)],
        Exit::FailEntry { reason } => {
            return Err(stuck(
                vcpu,
                &format!("the processor refuses the guest's state (reason {reason:#x})"),
            ));
        }
        Exit::InternalError { suberror } => {
            return Err(stuck(
                vcpu,
                &format!("KVM cannot emulate what the guest does (sub-error {suberror})"),
            ));
        }
        Exit::Other(reason) => return Err(stuck(vcpu, &format!("KVM left the guest for reason {reason}"))),
    };
    effects.append(&mut more);
    Ok(effects)
}

/// Carries effects out; false when this vCPU must not run any more.
fn carry_out(effects: Vec<Effect>, surroundings: &Surroundings) -> bool {
    let mut goes_on = true;
    for effect in effects {
        match effect {
            Effect::Pci(function, change) => {
                if let Err(error) = surroundings.chipset.follow(function, change) {
                    goes_on = fail(surroundings, &error);
                }
            }
            Effect::FlashMode => {
                if let Err(error) = surroundings.chipset.follow_flash() {
                    goes_on = fail(surroundings, &error);
                }
            }
            Effect::Note(text) => surroundings.events.post(Event::Note(text)),
            Effect::Reset(path) => {
                surroundings.events.post(Event::Reset(path));
                goes_on = false;
            }
            Effect::PowerOff => {
                surroundings.events.post(Event::PowerOff);
                goes_on = false;
            }
        }
    }
    goes_on
}

/// Ends the machine for something that could not be carried out; false, as this vCPU must not run any more.
fn fail(surroundings: &Surroundings, error: &dyn Error) -> bool {
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    surroundings.events.post(Event::Fault(format!("{error}{cause}")));
    false
}

fn stuck(vcpu: &Vcpu, why: &str) -> String {
    let id = vcpu.id();
    let at = vcpu
        .instruction_pointer()
        .map_or_else(|_| "an unknown address".to_owned(), |rip| format!("{rip:#x}"));
    format!("vCPU {id} cannot go on at {at}: {why}")
}

fn describe(error: &KvmError) -> String {
    format!("{error}: {}", error.errno)
}

#[cfg(test)]
mod tests {
    use super::{Gate, Order};

    #[test]
    fn a_new_gate_makes_vcpus_stand() {
        let gate = Gate::default();
        assert_eq!(gate.lock().order, Order::Stand);
        gate.order(Order::Run);
        assert!(!gate.closed.load(std::sync::atomic::Ordering::Acquire));
        gate.order(Order::End);
        assert!(gate.closed.load(std::sync::atomic::Ordering::Acquire));
    }
}
