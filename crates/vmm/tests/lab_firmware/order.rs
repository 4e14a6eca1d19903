//! The order to boot in, once somebody has chosen one.

use lab::{Failure, Host};

use crate::disks::new_volume;
use crate::{machine, run};

/// The shell's script of the first start, when no disk has a boot loader: it gives the first disk one, puts the second disk
/// before it, and resets the machine.
const CHOOSE: &str = r#"if not exist fs0:\EFI\BOOT\BOOTX64.EFI then
  cp fs0:\one.efi fs0:\EFI\BOOT\BOOTX64.EFI
  bcfg boot add 0 fs1:\two.efi "chosen"
  bcfg boot dump
  reset
endif
"#;

pub(crate) fn stays(host: &Host) -> Result<(), Failure> {
    let made = run(
        host,
        &format!(
            "set -e; cd /tmp; rm -f fo-vars\nfor n in one two; do\n\
             printf 'echo this is disk %s\\nhalt\\n' $n > fo-cfg; grub-mkimage -O x86_64-efi -o fo-$n.efi -p / -c fo-cfg \
             echo halt sleep\ndone\n\
             {first}; mkdir -p fw-mount/EFI/BOOT; cp fo-one.efi fw-mount/one.efi; sed 's/$/\\r/' > fw-mount/startup.nsh <<'END'\n\
             {CHOOSE}END\numount fw-mount; {second}; cp fo-two.efi fw-mount/two.efi; umount fw-mount",
            first = new_volume("fo-first", "40M"),
            second = new_volume("fo-second", "40M"),
        ),
    )?;
    assert!(made.is_success(), "{made:?}");
    let flags = "--firmware uefi --vars /tmp/fo-vars --disk /tmp/fo-first --disk /tmp/fo-second";
    // Chosen in the first life, followed in the second; then by another process, with the same variables.
    for resets in [1, 0] {
        let (output, report) = machine(host, flags)?;
        assert_eq!(
            (&report["cause"], &report["resets"]),
            (&"power-off".into(), &resets.into()),
            "{output:?}"
        );
        assert!(output.stdout.contains("this is disk two"), "{output:?}");
        assert!(!output.stdout.contains("this is disk one"), "{output:?}");
    }
    // Variables that know of no order follow that of the disks.
    let (output, _) = machine(host, &flags.replace("fo-vars", "fo-new-vars"))?;
    assert!(output.stdout.contains("this is disk one"), "{output:?}");
    Ok(())
}
