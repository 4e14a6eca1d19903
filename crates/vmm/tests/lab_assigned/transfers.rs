//! Data between a guest and what lies behind its cards: a drive's file, and the network outside.

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread::JoinHandle;

use lab::{Failure, Host};
use serde_json::Value;

use crate::guests::{TOOLS, TOOLS_DISK, does, find, guest, take};
use crate::{E1000E, IGB, NVME};

const AT_MIB: u64 = 5;

/// The same measures on the lab's host and in the guest: 4 KiB at random for a second each, a line of operations a second
/// for reads and writes at queue depth 32 and 64. Fields of the output are those of fio's manual, "terse output", version 3.
const SPEEDS: &str = "for depth in 32 64; do for way in read,8 write,49; do $in fio --name=speed --filename=/dev/nvme0n1 \
    --direct=1 --ioengine=libaio --iodepth=$depth --rw=rand${way%,*} --bs=4k --offset=32M --time_based --runtime=1 \
    --output-format=terse --terse-version=3 | cut -d';' -f${way#*,}; done; done";
const SPEED_NAMES: [&str; 4] = ["reads at 32", "writes at 32", "reads at 64", "writes at 64"];

/// Writes and reads at random at queue depth 64; what is read is compared with what was written.
pub(crate) const VERIFIED: &str = "fio --name=verified --filename=/dev/nvme0n1 --direct=1 --ioengine=libaio --iodepth=64 --rw=randrw \
    --bs=4k --offset=16M --size=16M --verify=crc32c --verify_fatal=1 --allrandrepeat=1 --output-format=terse | cut -d';' -f5";

/// What a guest does with its drive: megabytes of random data that are read again, and [`VERIFIED`].
fn drive_work() -> String {
    format!(
        "modprobe nvme; {TOOLS} while ! [ -b /dev/nvme0n1 ]; do sleep 0.1; done; \
         dd if=/dev/urandom of=/tmp/d bs=1M count=8 2>/dev/null; \
         dd if=/tmp/d of=/dev/nvme0n1 bs=1M seek={AT_MIB} oflag=direct 2>/dev/null; \
         dd if=/dev/nvme0n1 bs=1M skip={AT_MIB} count=8 iflag=direct 2>/dev/null | cmp - /tmp/d && echo SAME; \
         echo SUM $(sha256sum < /tmp/d); echo VERIFIED $(in_host {VERIFIED}); grep nvme0q1 /proc/interrupts;"
    )
}

/// The drive has what the guest wrote, and the guest its interrupts.
fn has_worked(host: &Host, console: &str) {
    assert!(console.contains("SAME") && console.contains("PCI-MSIX"), "{console}");
    // The error number of the whole job.
    assert_eq!(said(console, "VERIFIED "), "0", "{console}");
    let bytes = read_drive(host, "disk0", 8 << 20);
    assert_eq!(sha256(&bytes), said(console, "SUM "), "what the guest wrote lies in the drive's file");
}

/// A guest's data; and how fast it moves, beside the host's own.
pub(crate) fn nvme(host: &Host) -> Result<(), Failure> {
    let nvme = find(host, NVME)?;
    // Its registers and its MSI-X table are in the same BAR.
    let table = does(host, &format!("lspci -vvs {nvme} | grep 'Vector table'"))?;
    assert!(table.contains("BAR=0"), "{table}");
    let native = speeds(&does(host, SPEEDS)?);
    let work = format!(
        "in=in_host; echo SPEEDS $({SPEEDS}) END; \
         echo CLOCK $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
    );
    let (console, report) = drive(host, &work)?;
    let inside = console.split("SPEEDS ").nth(1).and_then(|rest| rest.split(" END").next());
    let inside = speeds(inside.unwrap_or_default());
    for ((name, native), inside) in SPEED_NAMES.iter().zip(native).zip(inside) {
        println!(
            "        {name}, 4 KiB a second: native {native}, guest {inside}: 1 to {:.2}",
            inside / native
        );
    }
    println!("        guest's clock {}, exits to user space {}", said(&console, "CLOCK "), report["exits"]);
    Ok(())
}

/// A guest's data alone.
pub(crate) fn nvme_data(host: &Host) -> Result<(), Failure> {
    drive(host, "").map(drop)
}

/// A guest with a drive, which does `more` in the end; gives its console and its report.
fn drive(host: &Host, more: &str) -> Result<(String, Value), Failure> {
    let nvme = find(host, NVME)?;
    take(host, &[&nvme])?;
    let (output, report) = guest(host, &[&nvme], TOOLS_DISK, &format!("{} {more}", drive_work()))?;
    has_worked(host, &output.stdout);
    assert_eq!(report["cause"], "power-off", "{output:?}");
    Ok((output.stdout, report))
}

/// Bytes in the file behind a drive, from [`AT_MIB`].
fn read_drive(host: &Host, id: &str, len: usize) -> Vec<u8> {
    let mut drive = std::fs::File::open(host.hardware().drive(id)).unwrap();
    drive.seek(SeekFrom::Start(AT_MIB << 20)).unwrap();
    let mut bytes = vec![0; len];
    drive.read_exact(&mut bytes).unwrap();
    bytes
}

/// The word behind `mark`.
pub(crate) fn said<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split(mark).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("")
}

/// What [`SPEEDS`] has printed.
fn speeds(text: &str) -> [f64; 4] {
    let numbers: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let numbers: [f64; 4] = numbers.try_into().unwrap_or_else(|_| panic!("`{text}` is not four numbers"));
    assert!(numbers.iter().all(|number| *number > 0.0), "{text}");
    numbers
}

/// The sum as `sha256sum` of this machine prints it.
fn sha256(bytes: &[u8]) -> String {
    use std::io::Write;
    let mut program = std::process::Command::new("sha256sum");
    let mut child =
        program.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Bytes sent in each direction.
const EXCHANGED: usize = 4 << 20;

/// A peer outside of the lab that takes data from a guest and answers with other data.
pub(crate) struct Exchange {
    port: u16,
    answer: Vec<u8>,
    taken: JoinHandle<std::io::Result<Vec<u8>>>,
}

impl Exchange {
    /// Listens for one guest.
    pub(crate) fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        // Any bytes do that are not all the same in each page.
        let answer: Vec<u8> = (0..EXCHANGED).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect();
        let sent = answer.clone();
        let taken = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut bytes = vec![0; EXCHANGED];
            stream.read_exact(&mut bytes)?;
            stream.write_all(&sent)?;
            Ok(bytes)
        });
        Self { port, answer, taken }
    }

    /// A guest's work: brings its card up by `driver` and exchanges random data with the peer, whom the emulator's
    /// gateway reaches.
    pub(crate) fn script(&self, driver: &str) -> String {
        format!(
            "modprobe {driver}; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; \
             while ! ping -c 1 -W 1 10.0.2.2 > /dev/null; do sleep 0.2; done; \
             dd if=/dev/urandom of=/tmp/up bs=1M count={} 2> /dev/null; \
             nc 10.0.2.2 {} < /tmp/up > /tmp/down; \
             echo UP $(sha256sum < /tmp/up); echo DOWN $(sha256sum < /tmp/down); grep eth0 /proc/interrupts",
            EXCHANGED >> 20,
            self.port
        )
    }

    /// Compares what each side had with what the other sent.
    pub(crate) fn compare(self, console: &str) {
        assert_eq!(said(console, "DOWN "), sha256(&self.answer), "to the guest: {console}");
        let taken = self.taken.join().unwrap().unwrap();
        assert_eq!(said(console, "UP "), sha256(&taken), "from the guest: {console}");
    }
}

/// Capabilities that the host uses and no guest can, as `lspci` names them: splitting a card, function numbers beyond seven,
/// and the card's own dealings with the host's IOMMU.
pub(crate) const NOT_FOR_GUESTS: &str =
    "\\(SR-IOV\\)|\\(ARI\\)|\\(ATS\\)|\\(PRI\\)|\\(PASID\\)|Address Translation Service|Page Request";

/// A card that could be split, and is a guest's as a whole.
pub(crate) struct Whole {
    pub(crate) card: String,
    exchange: Exchange,
}

impl Whole {
    /// Takes the host's, which has what no guest can use.
    pub(crate) fn take(host: &Host) -> Result<Self, Failure> {
        let card = find(host, IGB)?;
        take(host, &[&card])?;
        let shown = does(host, &format!("lspci -vvs {card} | grep -cE '{NOT_FOR_GUESTS}'"))?;
        assert!(shown.trim() != "0", "the host has nothing to keep to itself: {shown}");
        Ok(Self { card, exchange: Exchange::listen() })
    }

    /// A guest's work with it, which has its [`TOOLS`] and no other network by then.
    pub(crate) fn script(&self) -> String {
        format!(
            "echo WHOLE KEPT $(in_host lspci -vv | grep -cE '{NOT_FOR_GUESTS}') OF $(in_host lspci -n | grep -c {IGB}); {}",
            self.exchange.script("igb")
        )
    }

    pub(crate) fn compare(self, console: &str) {
        let (_, console) = console.split_once("WHOLE").unwrap_or_else(|| panic!("no igb: {console}"));
        assert!(console.contains("KEPT 0 OF 1") && console.contains("PCI-MSIX"), "{console}");
        self.exchange.compare(console);
    }
}

/// A disk and two network cards, each moving data by the IOMMU of the other kind.
pub(crate) fn amd(host: &Host) -> Result<(), Failure> {
    let (nvme, nic, split) = (find(host, NVME)?, find(host, E1000E)?, Whole::take(host)?);
    take(host, &[&nvme, &nic])?;
    let exchange = Exchange::listen();
    let script = format!("{} {}; rmmod e1000e; {}", drive_work(), exchange.script("e1000e"), split.script());
    let (output, report) = guest(host, &[&nvme, &nic, &split.card], TOOLS_DISK, &script)?;
    assert_eq!(report["cause"], "power-off", "{output:?}");
    has_worked(host, &output.stdout);
    exchange.compare(&output.stdout);
    split.compare(&output.stdout);
    Ok(())
}
