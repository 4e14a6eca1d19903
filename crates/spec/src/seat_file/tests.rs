//! What a seat file may say and what is told about a wrong one. Rows of texts and the places of their problems.

use proptest::prelude::*;

use super::decode::BEYOND_THE_CHECKS;
use super::{DisplayKind, MAX_PROBLEMS, MAX_SEAT_FILE_BYTES, PageSize, SeatFile};

/// Two seats that use every key.
const WHOLE: &str = r#"
[host]
memory = "4GiB"
cores = 2

[[seat]]
name = "anna"
display = "primary"
console = "give"
cpus = { count = 4 }
memory = { size = "8GiB", pages = "2MiB", shared = true, node = 0 }
firmware = { kind = "uefi", variables = "/var/lib/allod/anna.vars" }

[[seat.device]]
class = "display"
vendor = "amd"
model = "RX 6600"
connector = "HDMI-A-1"
monitor = "DELL"
rom = "/var/lib/allod/card.rom"

[[seat.device]]
usb = "046d:c31c"

[[seat.disk]]
path = "/dev/vg/anna"
format = "raw"
as = "nvme"

[[seat.disk]]
path = "/iso/debian.iso"
media = "cdrom"

[[seat.network]]
bridge = "br0"
mac = "52:54:00:00:00:01"

[[seat]]
name = "ben"
display = "none"
cpus.pin = [2, 10, 3, 11]
memory.size = "6G"

[seat.kernel]
image = "/boot/vmlinuz"
initrd = "/boot/initrd.img"
cmdline = "root=/dev/vda"

[[seat.device]]
address = "0000:03:00.0"

[[seat.device]]
path = "0000:00/01.1/00.0"

[[seat.virtual-function]]
of.interface = "enp5s0f0"
mac = "52:54:00:00:00:02"
vlan = 30

[[seat.disk]]
path = "/iso/debian.iso"
read-only = true

[[seat.network]]
tap = "tap0"

[[seat.network]]
"#;

/// The least a seat can say, to put one more line before, into or behind.
const SEAT: &str =
    "[[seat]]\nname = \"a\"\ncpus = { count = 1 }\nmemory = { size = \"1G\", pages = \"1GiB\" }\n";

/// The problems of `text` as `line:column message / help`.
fn problems(text: &str) -> Vec<String> {
    let errors = SeatFile::parse("seats.toml", text).err();
    let problems = errors.into_iter().flat_map(|errors| errors.problems);
    problems
        .map(|problem| {
            let help = problem.help.map(|help| format!(" / {help}")).unwrap_or_default();
            format!("{}:{} {}{help}", problem.line, problem.column, problem.message)
        })
        .collect()
}

#[test]
fn every_key_arrives_in_its_type() {
    let file = SeatFile::parse("seats.toml", WHOLE).unwrap();
    let [anna, ben] = file.seats.as_slice() else { panic!("{file:?}") };
    assert_eq!((file.host.memory, file.host.cores), (Some(crate::Bytes::gib(4)), Some(2)));
    assert_eq!((anna.display, anna.memory.pages), (Some(DisplayKind::Primary), PageSize::Huge2M));
    assert_eq!(anna.devices[0].vendor.as_deref(), Some("amd"));
    assert_eq!(ben.cpus.pin.as_deref(), Some([2, 10, 3, 11].as_slice()));
    assert_eq!(ben.devices[1].path.as_ref().unwrap().to_string(), "0000:00/01.1/00.0");
    assert_eq!(ben.virtual_functions[0].vlan, Some(30));
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let file = SeatFile::parse("seats.toml", WHOLE).unwrap();
    let text = toml::to_string(&file).unwrap();
    assert_eq!(SeatFile::parse("again", &text), Ok(file), "{text}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table of rows")]
fn each_slip_is_told_with_its_place_and_what_would_be_right() {
    for (line, told) in [
        ("dispaly = \"none\"", "5:1 unknown key `dispaly` in `[[seat]]` / did you mean `display`?"),
        ("display = \"primry\"", "5:11 `display` cannot be `primry` / did you mean `primary`?"),
        ("display = \"hdmi\"", "5:11 `display` cannot be `hdmi` / known are `primary`, `none`, `emulated`"),
        (
            "display = true",
            "5:11 `display` is a boolean, but must be a string / for example `display = \"primary\"`",
        ),
        (
            "host = 1",
            "5:1 unknown key `host` in `[[seat]]` / known are `clock`, `console`, `cpus`, `device`, `disk`, \
            `display`, `entropy`, `firmware`, `hypervisor`, `kernel`, `memory`, `name`, `network`, \
            `power-off-seconds`, `tpm`, `virtual-function`",
        ),
        ("name = \"b\"", "5:1 duplicate key"),
        (
            "device = [{ address = \"03:00.8\" }]",
            "5:23 `address` cannot be `03:00.8` / `03:00.8` is not a PCI \
            address; write it as in `lspci -D`: 0000:03:00.0",
        ),
        (
            "device = [{ path = \"1.0\" }]",
            "5:20 `path` cannot be `1.0` / `1.0` is not a slot path; write the root \
            bus, then device.function of each bridge and of the device: 0000:00/01.1/00.0",
        ),
        (
            "device = [{ rom = \"/x\" }]",
            "5:11 nothing says which device is meant / give its `address`, its `path`, \
            or what is true of it, for example `class = \"display\"`",
        ),
        (
            "device = [{ clas = \"usb\" }]",
            "5:13 unknown key `clas` in `[[seat.device]]` / did you mean `class`?",
        ),
        (
            "device = { class = \"usb\" }",
            "5:10 `device` is a table, but must be an array / write each as a table: \
            `[[seat.device]]`",
        ),
        (
            "device = [{ address = \"03:00.0\" }, { address = \"0000:03:00.0\" }]",
            "5:48 the device 0000:03:00.0 is used twice; first in line 5",
        ),
        ("firmware = {}", "5:12 `kind` is missing in `[seat.firmware]` / for example `kind = \"uefi\"`"),
        (
            "firmware = { kind = \"bios\", variables = \"/x\" }",
            "5:41 BIOS firmware has no `variables` / remove \
            `variables`, or set `kind = \"uefi\"`",
        ),
        (
            "network = [{ tap = \"a\", bridge = \"b\" }]",
            "5:25 `bridge` and `tap` exclude each other / remove one of \
            the two",
        ),
        (
            "network = [{ tap = \"a\", mac = \"1\" }]",
            "5:31 `mac` cannot be `1` / `1` is not a MAC address; write six \
            pairs of hexadecimal digits: 52:54:00:12:34:56",
        ),
        (
            "virtual-function = [{ of.class = \"network\", vlan = 0 }]",
            "5:52 `vlan` is 0, but must be 1 to 4094",
        ),
        (
            "virtual-function = [{ vlan = 1 }]",
            "5:21 `of` is missing in `[[seat.virtual-function]]` / add a table \
            `[seat.virtual-function.of]`",
        ),
        (
            "disk = [{ path = \"x\" }]",
            "5:18 `path` cannot be `x` / must be the whole path, beginning with `/`",
        ),
        (
            "disk = [{ path = \"/x\", read-only = \"yes\" }]",
            "5:36 `read-only` is a string, but must be true or false \
            / for example `read-only = true`",
        ),
        (
            "disk = [{ path = \"/x\" }, { path = \"/x\" }]",
            "5:35 the disk /x for writing is used twice; first in line 5",
        ),
        (
            "[[seat]]\nname = \"a\"\ncpus.count = 1\nmemory.size = \"1G\"",
            "6:8 the name `a` is used twice; first in \
            line 2",
        ),
        (
            "[[seat]]\nname = \"b\"\ncpus.pin = []\nmemory.size = \"1G\"",
            "7:12 `pin` is empty / for example `pin = \
            [2,10,3,11]`",
        ),
        (
            "[[seat]]\nname = \"b\"\ncpus.pin = [1, 1]\nmemory.size = \"1G\"",
            "7:16 the host's CPU 1 is used twice; \
            first in line 7",
        ),
        (
            "[[seat]]\nname = \"b\"\ncpus = { pin = [1], shared = true }\nmemory.size = \"1G\"",
            "7:21 `pin` and `shared` exclude each other / remove one of the two",
        ),
        (
            "[[seat]]\nname = \"b\"\ncpus = {}\nmemory.size = \"1G\"",
            "7:8 one of `count` and `pin` is missing",
        ),
        (
            "[[seat]]\nname = \"b\"\ncpus.count = 0x1FF\nmemory.size = \"1G\"",
            "7:14 `count` is 1FF, but must be 1 to 254",
        ),
        (
            "[[seat]]\nname = \"b\"\ncpus.count = 1\nmemory = { size = \"1500M\", pages = \"1GiB\" }",
            "8:19 1500MiB is not a whole number of 1GiB pages / write `size = \"2GiB\"`, or other `pages`",
        ),
        (
            "[[seat]]\nname = \"b\"\ncpus.count = 1",
            "5:1 `memory` is missing in `[[seat]]` / add a table `[seat.memory]`",
        ),
        (
            "[host]\ncores = 99999999999999999999",
            "6:9 `cores` is 99999999999999999999, but must be 1 to 1024",
        ),
    ] {
        assert_eq!(problems(&format!("{SEAT}{line}\n")), [told], "{line}");
    }
}

#[test]
fn a_file_without_a_seat_is_told_what_to_add() {
    assert_eq!(problems(""), ["1:1 `seat` is missing at the top of the file / add a table `[[seat]]`"]);
    assert_eq!(problems("seat = []"), ["1:8 `seat` is empty / write each as a table: `[[seat]]`"]);
}

#[test]
fn all_problems_of_a_file_are_told_at_once_and_in_its_order() {
    let text = "[[seat]]\nname = \"a b\"\ncpus = { count = 0 }\nmemory = { sise = \"1G\" }\n\
                [[seat]]\nname = ???\ncpus = { count = 1 }\nmemory = { size = \"1\" }\n";
    let places: Vec<_> =
        problems(text).iter().map(|told| told.split_once(' ').unwrap().0.to_owned()).collect();
    assert_eq!(places, ["2:8", "3:18", "4:12", "6:8", "8:19"]);
}

#[test]
fn the_line_is_shown_with_a_mark_under_what_is_wrong() {
    let errors = SeatFile::parse("seats.toml", &format!("{SEAT}dispaly = \"none\"\n")).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "seats.toml:5:1: unknown key `dispaly` in `[[seat]]`\n  |\n5 | dispaly = \"none\"\n  | ^^^^^^^\n  \
         = did you mean `display`?\n"
    );
}

#[test]
fn a_file_of_nothing_but_problems_ends_at_the_limit() {
    let text: String = (0..5000).map(|number| format!("key{number} = 1\n")).collect();
    let errors = SeatFile::parse("seats.toml", &text).unwrap_err();
    assert_eq!((errors.problems.len(), errors.more), (MAX_PROBLEMS, 5001 - MAX_PROBLEMS));
    assert!(errors.to_string().ends_with("\nand 4901 more\n"));
    let long = " ".repeat(MAX_SEAT_FILE_BYTES + 1);
    assert_eq!(problems(&long), ["1:1 the file has 1048577 bytes, but at most 1048576 are read"]);
}

#[test]
fn the_terminal_is_safe_from_the_file() {
    let errors = SeatFile::parse("\u{1b}[2J", "\"\u{9b}31m\" = 1\nx\u{1b}y = 2").unwrap_err();
    assert!(!errors.to_string().contains(['\u{1b}', '\u{9b}']), "{errors}");
}

/// Lines and pieces of lines of a seat file, right and wrong.
#[allow(clippy::too_many_lines, reason = "one table of rows")]
fn piece() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "name",
        "display",
        "console",
        "cpus",
        "memory",
        "kernel",
        "firmware",
        "device",
        "disk",
        "network",
        "host",
        "seat",
        "count",
        "pin",
        "size",
        "pages",
        "node",
        "shared",
        "image",
        "kind",
        "address",
        "path",
        "class",
        "usb",
        "of",
        "mac",
        "vlan",
        "tap",
        "bridge",
        "media",
        "format",
        "as",
        "read-only",
        "cores",
        "cpus.count",
        "memory.size",
        "of.path",
    ]);
    let plain = prop::sample::select(vec![
        "1",
        "-1",
        "0x7fffffffffffffff",
        "9999999999999999999999",
        "1.5",
        "inf",
        "true",
        "\"\"",
        "\"anna\"",
        "\"8GiB\"",
        "\"2MiB\"",
        "\"uefi\"",
        "\"usb\"",
        "\"03:00.0\"",
        "\"0000:00/01.1\"",
        "\"52:54:00:00:00:01\"",
        "\"/x\"",
        "\"primary\"",
        "1979-05-27",
        "[]",
        "{}",
        "[1, 2]",
        "'''\nä'''",
    ]);
    let value = prop_oneof![
        plain.clone().prop_map(str::to_owned),
        (key.clone(), plain.clone()).prop_map(|(key, value)| format!("{{ {key} = {value} }}")),
        (key.clone(), plain.clone(), key.clone(), plain)
            .prop_map(|(a, b, c, d)| format!("[{{ {a} = {b}, {c} = {d} }}]")),
    ];
    let header = prop::sample::select(vec![
        "[host]",
        "[[seat]]",
        "[[seat.device]]",
        "[seat.memory]",
        "[seat.cpus]",
        "[seat.kernel]",
        "[seat]",
        "[[host]]",
        "[[seat.disk]]",
        "[[seat.virtual-function]]",
        "[seat.virtual-function.of]",
        "[[seat.network]]",
    ]);
    prop_oneof![
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}\n")),
        1 => header.prop_map(|header| format!("{header}\n")),
    ]
}

/// Whatever the text: types, or problems that lie within it.
fn answers(text: &str) {
    let Err(errors) = SeatFile::parse("f", text) else { return };
    assert!(!errors.problems.is_empty(), "{text}");
    for problem in &errors.problems {
        assert!(problem.line <= text.split('\n').count(), "{problem:?}\n{text}");
        assert!(!problem.message.starts_with(BEYOND_THE_CHECKS), "{problem:?}\n{text}");
        assert!(problem.mark + problem.width <= 121, "{problem:?}");
    }
    assert!(!errors.to_string().is_empty());
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}|[\\[\\]{}=\",.#\\n a-z0-9\u{0}-\u{1f}]{0,200}") {
        answers(&text);
    }

    #[test]
    fn any_order_of_keys_and_tables_is_answered(pieces in prop::collection::vec(piece(), 0..24)) {
        answers(&pieces.concat());
    }

    #[test]
    fn a_whole_file_with_a_wound_is_answered(
        at in 0..WHOLE.len(), length in 0_usize..40, put in "[\\[\\]{}=\",.#\\n a-z0-9é]{0,8}",
    ) {
        let end = (at + length).min(WHOLE.len());
        answers(&format!("{}{put}{}", &WHOLE[..at], &WHOLE[end..]));
    }

    #[test]
    fn a_deep_nest_is_answered(depth in 0_usize..20_000) {
        answers(&format!("a = {}", "[".repeat(depth)));
        answers(&format!("a = {}", "{a=".repeat(depth)));
        answers(&format!("{}a = 1", "a.".repeat(depth)));
    }
}
