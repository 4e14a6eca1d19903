//! What cannot be assigned: refused before the guest runs, with the cause and the remedy, and left as it was.

use lab::lying_rom::LyingRom;
use lab::{Failure, Host, greeting};

use crate::attention::SAY_AND_HALT;
use crate::guests::{
    debian, does, find, prepare, put_file, report, run, start, stop, take, wait_for, wait_for_end,
};
use crate::micro_guest;
use crate::{EDU, HDA, TEST_DEVICE};

/// All functions of the host: who has each, who may, and what it answers to.
fn state(host: &Host) -> Result<String, Failure> {
    does(
        host,
        "for d in /sys/bus/pci/devices/*; do echo $(basename $d) $(basename \"$(readlink $d/driver)\") \
         $(cat $d/driver_override) $(od -An -tx2 -j4 -N2 $d/config); done",
    )
}

/// A machine that is refused, with these words and an unchanged host.
fn is_refused(host: &Host, command: &str, words: &[&str]) -> Result<(), Failure> {
    does(host, "rm -f /tmp/report")?;
    is_refused_beside(host, command, words)
}

pub(crate) fn refused(host: &Host) -> Result<(), Failure> {
    let (sound, bridge) = (find(host, HDA)?, find(host, "1b36:000c")?);
    prepare(host, "true")?;
    let claim = format!("`allod claim {sound}`");
    for (functions, words) in [
        (vec!["0000:77:00.0"], vec!["no PCI function 0000:77:00.0", "allod devices"]),
        (vec![bridge.as_str()], vec!["is a bridge"]),
        (vec![sound.as_str()], vec!["snd_hda_intel", claim.as_str()]),
        (
            vec![sound.as_str(), sound.as_str(), "0000:77:00.0"],
            vec!["named twice", "snd_hda_intel", "77:00.0"],
        ),
    ] {
        is_refused(host, &debian(&functions, "", ""), &words)?;
        assert!(report(host)?.is_null(), "nothing has run");
    }
    // What the refusal says to do is enough, and so is what it says for afterwards.
    let before = state(host)?;
    let claimed = format!("allod claim {sound} > /dev/null && {}", debian(&[&sound], "", ""));
    let output = run(host, &claimed)?;
    assert!(output.is_success() && report(host)?["cause"] == "power-off", "{output:?}");
    does(host, &format!("allod release {sound}"))?;
    assert_eq!(state(host)?, before, "released");
    Ok(())
}

/// A function that another process has, and memory that the host or the user has not, whichever files the kernel offers.
pub(crate) fn busy_or_too_large(host: &Host) -> Result<(), Failure> {
    let edu = find(host, EDU)?;
    take(host, &[&edu])?;
    put_file(host, "/tmp/micro-guest", &micro_guest::elf(&micro_guest::POWER_OFF))?;
    let with_memory = |memory: &str| {
        format!("allod run --kernel /tmp/micro-guest --memory {memory} --device {edu} < /dev/null")
    };
    // What the host has in all is not what it can give.
    let almost = does(host, "awk '/^MemTotal:/ { print int($2 / 1024) - 64 \"M\" }' /proc/meminfo")?;
    is_refused(host, &with_memory(almost.trim()), &["the host can give", "less memory"])?;

    does(
        host,
        "rm -f /tmp/report; chmod 666 /dev/kvm /dev/iommu $(find /dev/vfio -type c) 2> /dev/null; true",
    )?;
    put_file(host, "/tmp/waiting-guest", &micro_guest::elf(&SAY_AND_HALT))?;
    start(
        host,
        &format!(
            "allod run --report /tmp/report --kernel /tmp/waiting-guest --memory 32M --device {edu} < /dev/null"
        ),
    )?;
    wait_for(host, "@")?;
    let words = [" is in use: process ", " (allod-vmm) has it", "end that first"];
    is_refused_beside(host, &with_memory("32M"), &words)?;
    // Another user is not told by whom.
    let user = "setpriv --reuid 65534 --clear-groups";
    let other = format!("ulimit -l unlimited; {user} {}", with_memory("32M"));
    is_refused_beside(host, &other, &["is in use: another process", "end that first"])?;
    stop(host)?;

    // An ordinary user who was given the files, with too little memory to lock and with enough.
    let user = |kib: u32| format!("ulimit -l {kib}; {user} {}", with_memory("64M"));
    is_refused(host, &user(16 << 10), &["ulimit -l 65536"])?;
    let output = run(host, &user(96 << 10))?;
    assert!(output.is_success(), "{output:?}");
    Ok(())
}

/// As [`is_refused`], while another machine runs, whose report stays its own.
fn is_refused_beside(host: &Host, command: &str, words: &[&str]) -> Result<(), Failure> {
    let before = state(host)?;
    let output = run(host, command)?;
    let told = words.iter().all(|word| output.stderr.contains(word));
    assert!(output.status == 1 && told, "{command}: {words:?} {output:?}");
    assert_eq!(state(host)?, before, "{command}");
    Ok(())
}

/// The cards of a crowded host, in the order of its profile.
fn crowd(host: &Host) -> Result<Vec<String>, Failure> {
    let list = does(host, &format!("lspci -Dn -d {TEST_DEVICE} | cut -d' ' -f1"))?;
    let cards: Vec<String> = list.lines().map(str::to_owned).collect();
    take(host, &cards.iter().map(String::as_str).collect::<Vec<_>>())?;
    put_file(host, "/tmp/micro-guest", &micro_guest::elf(&micro_guest::POWER_OFF))?;
    Ok(cards)
}

const KERNEL: &str = "--kernel /tmp/micro-guest";

/// A machine with these functions, in the foreground.
fn machine(how: &str, devices: &[&str]) -> String {
    let devices: Vec<_> = devices.iter().map(|device| format!("--device {device}")).collect();
    format!("allod run --report /tmp/report {how} --memory 64M {} < /dev/null", devices.join(" "))
}

/// One card more than there are slots, and just as many.
pub(crate) fn too_many(host: &Host) -> Result<(), Failure> {
    let cards = crowd(host)?;
    let mut cards: Vec<_> = cards.iter().map(String::as_str).collect();
    assert_eq!(cards.len(), 16, "{cards:?}");
    does(host, "rm -f /tmp/report")?;
    // The second has a ROM that no guest can have.
    let second = format!("{},rom=none", cards[1]);
    cards[1] = &second;
    let refused = run(host, &machine(KERNEL, &cards))?;
    let words = ["16 slots are needed and a machine has 15", "assign fewer cards"];
    assert!(refused.status == 1 && words.iter().all(|word| refused.stderr.contains(word)), "{refused:?}");
    assert!(report(host)?.is_null(), "nothing has run");
    let full = run(host, &machine(KERNEL, &cards[..15]))?;
    assert!(full.is_success() && report(host)?["cause"] == "power-off", "{full:?}");
    Ok(())
}

/// A ROM that lies is refused where somebody would believe it, and no reason to refuse once the guest is not to see it.
pub(crate) fn lying_roms(host: &Host) -> Result<(), Failure> {
    let cards = crowd(host)?;
    let [foreign, huge, cut] = [0, 1, 2].map(|index: usize| cards[index].as_str());
    put_file(host, "/tmp/greets", &greeting::program())?;
    does(host, "truncate -s 1M /tmp/greets")?;
    let bios = "--firmware bios --disk /tmp/greets";
    for (how, card, words) in [
        (bios, foreign, "is for another card: its first image names 1af4:"),
        (bios, cut, "lacks its last 2048 bytes"),
        (bios, huge, "has 32MiB"),
        (KERNEL, huge, "has 32MiB"),
    ] {
        // Firmware that is started after all never ends.
        let refused = run(host, &format!("timeout 60 {}", machine(how, &[card])))?;
        let told = [card, words, "`rom=none` behind the address", "allod rom show"];
        assert!(told.iter().all(|word| refused.stderr.contains(word)), "{how} {words}: {refused:?}");
        let report = report(host)?;
        assert!(refused.status == 1 && report["cause"] == "fault", "{report}");
    }
    let none = |card: &str| format!("{card},rom=none");
    files_in_the_place_of_roms(host, bios, foreign)?;
    // A kernel that is started at once asks no ROM, so nothing of it is read.
    for card in [foreign, cut, &none(huge)] {
        let output = run(host, &machine(KERNEL, &[card]))?;
        assert!(output.is_success(), "{output:?}");
    }
    does(host, "rm -f /tmp/report /tmp/rom-control")?;
    let controlled = format!("{bios} --control /tmp/rom-control");
    // Of the last two the host's kernel shows no byte (drivers/pci/rom.c, pci_get_rom_size), so there is nothing to believe.
    let [endless, ones] = [14, 15].map(|index: usize| cards[index].as_str());
    for card in [endless, ones] {
        let judged = run(host, &format!("allod rom check {card}"))?;
        assert!(judged.status == 1 && judged.stderr.contains("read the option ROM of"), "{judged:?}");
    }
    start(host, &machine(&controlled, &[&none(foreign), &none(huge), &none(cut), endless, ones]))?;
    wait_for(host, greeting::BY_BIOS)?;
    // Asked kindly, nothing there would answer.
    does(host, "echo '{\"command\":\"quit\"}' | socat -t 60 - UNIX-CONNECT:/tmp/rom-control")?;
    wait_for_end(host).map(drop)
}

/// A file is judged before anything is opened for the machine, by whichever firmware is going to look at it.
fn files_in_the_place_of_roms(host: &Host, bios: &str, card: &str) -> Result<(), Failure> {
    // Images of one block that go on and on, for the test device.
    let mut image = LyingRom::Endless.bytes();
    image.truncate(512);
    (image[0x2c], image[0x31]) = (1, 0);
    put_file(host, "/tmp/endless.rom", &LyingRom::Endless.bytes())?;
    put_file(host, "/tmp/ones.rom", &LyingRom::Ones.bytes())?;
    put_file(host, "/tmp/many.rom", &image.repeat(40))?;
    for (file, words) in [
        (
            "endless",
            "is not what it says: the chain of images breaks at number 0: the image says that it has no bytes",
        ),
        (
            "many",
            "is not what it says: the chain of images breaks at number 32: there are more images than any ROM has",
        ),
        ("ones", "is no option ROM: all of it is ones"),
    ] {
        for how in [bios, "--firmware uefi"] {
            let path = format!("/tmp/{file}.rom");
            let command = format!("timeout 60 {}", machine(how, &[&format!("{card},rom={path}")]));
            is_refused(host, &command, &[&path, words, "use another file", "rom = \"none\""])?;
            assert!(report(host)?.is_null(), "nothing has run");
        }
        // A kernel that is started at once asks no ROM.
        let output = run(host, &machine(KERNEL, &[&format!("{card},rom=/tmp/{file}.rom")]))?;
        assert!(output.is_success(), "{output:?}");
    }
    Ok(())
}

/// Something else on the host uses the addresses of a BAR: here it is where a kernel keeps its last words.
pub(crate) fn taken_bar(host: &Host) -> Result<(), Failure> {
    let cards = crowd(host)?;
    let card = cards[3].as_str();
    does(
        host,
        &format!(
            "modprobe ramoops mem_address=$(head -1 /sys/bus/pci/devices/{card}/resource | cut -d' ' -f1) mem_size=4096 \
             record_size=4096 console_size=0 ftrace_size=0 pmsg_size=0; grep ramoops /proc/iomem"
        ),
    )?;
    let refused = run(host, &machine(KERNEL, &[card]))?;
    let words = [card, "its BAR 0 cannot be mapped", "/proc/iomem tells what"];
    assert!(refused.status == 1 && words.iter().all(|word| refused.stderr.contains(word)), "{refused:?}");
    does(host, "rmmod ramoops")?;
    let output = run(host, &machine(KERNEL, &[card]))?;
    assert!(output.is_success(), "{output:?}");
    Ok(())
}
