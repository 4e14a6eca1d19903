//! A process that shuts itself in and tries one thing; this very program is that process, started anew.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

const WHAT: &str = "ALLOD_SANDBOX_PROBE";
/// The exit status of a probe whose attempt was harmless.
const LIVED: i32 = 40;

/// What the process does when it is shut in; `true` when it went as a machine's process needs it.
fn attempt(what: &str, address: usize) -> bool {
    match what {
        "threads and memory" => {
            let thread = std::thread::Builder::new().name("vcpu0".into());
            let work = || vec![7_u8; 1 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>();
            thread.spawn(work).is_ok_and(|thread| thread.join().is_ok_and(|sum| sum == 7 << 20))
        }
        "files are not there" => {
            std::fs::File::open("/etc/passwd").is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
        }
        "a socket" => {
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .is_ok()
        }
        "a program" => Command::new("/bin/true").status().is_ok(),
        "a name" => std::fs::metadata("/etc/passwd").is_ok(),
        "a link" => std::fs::read_link("/proc/self/exe").is_ok(),
        "another's signal" => rustix::process::getppid()
            .is_some_and(|parent| rustix::process::test_kill_process(parent).is_ok()),
        "code" => {
            // SAFETY: changes the protection of one page that this test has mapped for it and does not use.
            let done = unsafe {
                libc::mprotect(address as *mut libc::c_void, 4096, libc::PROT_READ | libc::PROT_EXEC)
            };
            done == 0
        }
        _ => false,
    }
}

fn page() -> usize {
    let (prot, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::PRIVATE);
    // SAFETY: a new mapping, at no address in particular, that nothing else refers to.
    unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), 4096, prot, flags) }.unwrap() as usize
}

/// Not a test by itself: the process that is started by the one below.
#[test]
fn probe() {
    let Ok(what) = std::env::var(WHAT) else { return };
    let page = page();
    super::enter().unwrap();
    let lived = attempt(&what, page);
    // Not by the usual way: the harness would print and tidy up.
    std::process::exit(if lived { LIVED } else { 1 });
}

#[test]
fn a_machine_can_do_its_work_and_everything_else_ends_it() {
    const KILLED: Option<i32> = Some(libc::SIGSYS);
    for (what, signal) in [
        ("threads and memory", None),
        ("files are not there", None),
        ("a socket", KILLED),
        ("a program", KILLED),
        ("a name", KILLED),
        ("a link", KILLED),
        ("another's signal", KILLED),
        ("code", KILLED),
    ] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["sandbox::tests::probe", "--exact", "--nocapture", "--test-threads=1"]).env(WHAT, what);
        let output = child.output().unwrap();
        assert_eq!(output.status.signal(), signal, "{what}: {output:?}");
        assert_eq!(output.status.code(), signal.is_none().then_some(LIVED), "{what}: {output:?}");
    }
}
