//! A library preloaded into the lab's outer QEMU, and into nothing else: lets one wrong assertion pass.
//!
//! When a nested guest under TCG writes CR8 while a virtual interrupt is pending (OVMF always does),
//! `helper_write_crN` (target/i386/tcg/system/misc_helper.c) calls `cpu_interrupt` without QEMU's big lock, and
//! `tcg_handle_interrupt` (accel/tcg/tcg-accel-ops.c) aborts the emulator over the missing lock. Here the lock is
//! taken in its stead and the function goes on behind its check.
//!
//! This is the one place besides the crate `linux` with unsafe code: it must look like GLib's
//! `g_assertion_message_expr` to a C program, and return to where that function never returns. It is no crate:
//! the build script of `lab` compiles it for itself, so that the library is inside every program that starts a lab.
#![no_std]

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering};

/// Bytes of the function looked through for its check.
const SEARCH_LEN: usize = 64;
/// `test %al,%al; je +disp8`: the check, going on behind these four bytes when the lock is held.
const CHECK: [u8; 3] = [0x84, 0xc0, 0x74];
/// `or %ebp,disp32(%rbx)`: `cpu->interrupt_request |= mask`, with the processor in rbx and the mask in ebp.
const SET_REQUEST: [u8; 2] = [0x09, 0xab];
/// Length of that instruction with its displacement.
const SET_REQUEST_LEN: usize = 6;

#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dprintf(file: c_int, format: *const c_char, ...) -> c_int;
}

/// Registers of the function whose check failed, as the entry below pushes them.
#[repr(C)]
struct Registers {
    rbx: *mut u8,
    rbp: u64,
}

/// GLib's function as QEMU calls it, `(domain, file, line, function, expression)`. It passes on where the caller's
/// registers are, and returns to the place `decide` names instead of behind the call.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn g_assertion_message_expr() {
    core::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "mov r9, rsp",
        // The stack is at a multiple of 16 plus 8 on entry, and again after two pushes.
        "sub rsp, 8",
        "call {decide}",
        "add rsp, 8",
        "pop rbx",
        "pop rbp",
        // In place of the return address.
        "mov [rsp], rax",
        "ret",
        decide = sym decide,
    )
}

/// Returns the address to go on at, or ends the process as GLib would.
unsafe extern "C" fn decide(
    _domain: *const c_char,
    file: *const c_char,
    line: c_int,
    function: *const c_char,
    expression: *const c_char,
    registers: *const Registers,
) -> *const u8 {
    // SAFETY: QEMU passes string constants (or null), and the entry above the registers' place.
    unsafe {
        if is(expression, c"bql_locked()")
            && is(function, c"tcg_handle_interrupt")
            && let Some(go_on) = behind_the_check(&*registers)
        {
            say_once();
            return go_on;
        }
        dprintf(2, c"ERROR:%s:%d:%s: assertion failed: (%s)\n".as_ptr(), file, line, function, expression);
        abort()
    }
}

/// Does what the function does under the lock, and returns where it goes on.
unsafe fn behind_the_check(registers: &Registers) -> Option<*const u8> {
    // SAFETY: the function's code is mapped for as long as the emulator runs, and longer than SEARCH_LEN. The
    // addresses read and written are those its own next instruction, recognised byte by byte, would use.
    unsafe {
        let code = dlsym(core::ptr::null_mut(), c"tcg_handle_interrupt".as_ptr()).cast::<u8>();
        if code.is_null() {
            return None;
        }
        let bytes = core::slice::from_raw_parts(code, SEARCH_LEN);
        let at = bytes.windows(CHECK.len()).position(|window| window == CHECK)? + CHECK.len() + 1;
        let next = bytes.get(at..at + SET_REQUEST_LEN)?;
        if !next.starts_with(&SET_REQUEST) {
            // Another compiler's code: go on without the lock, as a build without assertions does.
            return Some(code.add(at));
        }
        let offset = i32::from_le_bytes([next[2], next[3], next[4], next[5]]);
        let lock = dlsym(core::ptr::null_mut(), c"bql_lock_impl".as_ptr());
        let unlock = dlsym(core::ptr::null_mut(), c"bql_unlock".as_ptr());
        if lock.is_null() || unlock.is_null() {
            return Some(code.add(at));
        }
        // void bql_lock_impl(const char *file, int line); void bql_unlock(void);
        let lock: extern "C" fn(*const c_char, c_int) = core::mem::transmute(lock);
        let unlock: extern "C" fn() = core::mem::transmute(unlock);
        lock(c"lab".as_ptr(), 0);
        let request = registers.rbx.offset(offset as isize).cast::<u32>();
        request.write_volatile(request.read_volatile() | registers.rbp as u32);
        unlock();
        Some(code.add(at + SET_REQUEST_LEN))
    }
}

unsafe fn is(text: *const c_char, expected: &CStr) -> bool {
    // SAFETY: the caller passes null or a string of a C program.
    !text.is_null() && unsafe { CStr::from_ptr(text) } == expected
}

fn say_once() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        // SAFETY: a constant format without arguments.
        unsafe { dprintf(2, c"lab: took the lock for a nested write of CR8\n".as_ptr()) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: abort takes nothing.
    unsafe { abort() }
}
