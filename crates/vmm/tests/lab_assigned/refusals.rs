//! What cannot be assigned: refused before the guest runs, with the cause and the remedy, and left as it was.

use lab::{Failure, Host};

use crate::guests::{debian, find, prepare, put_file, report, run, take};
use crate::micro_guest;
use crate::{EDU, HDA};

pub(crate) fn refused(host: &Host) -> Result<(), Failure> {
    let (sound, bridge) = (find(host, HDA)?, find(host, "1b36:000c")?);
    let before = run(host, &format!("readlink /sys/bus/pci/devices/{sound}/driver"))?.stdout;
    prepare(host, "true")?;
    for (functions, words) in [
        (vec!["0000:77:00.0"], vec!["no PCI function 0000:77:00.0", "allod devices"]),
        (vec![bridge.as_str()], vec!["is a bridge"]),
        (vec![sound.as_str()], vec!["snd_hda_intel", "driver_override", "drivers_probe"]),
        (
            vec![sound.as_str(), sound.as_str(), "0000:77:00.0"],
            vec!["named twice", "snd_hda_intel", "77:00.0"],
        ),
    ] {
        let output = run(host, &debian(&functions, "", ""))?;
        assert_eq!(output.status, 1, "{output:?}");
        assert!(words.iter().all(|word| output.stderr.contains(word)), "{functions:?}: {output:?}");
        assert!(report(host)?.is_null(), "nothing has run");
    }
    let edu = find(host, EDU)?;
    take(host, &[&edu])?;
    let busy = format!(
        "g=$(basename $(readlink /sys/bus/pci/devices/{edu}/iommu_group)); exec 9<> /dev/vfio/$g; {}",
        debian(&[&edu], "", "")
    );
    let output = run(host, &busy)?;
    assert!(output.status == 1 && output.stderr.contains("is in use"), "{output:?}");
    // An ordinary user who was given the files, with too little memory to lock and with enough.
    put_file(host, "/tmp/micro-guest", &micro_guest::elf(&micro_guest::POWER_OFF))?;
    let user = |kib: u32| {
        format!(
            "chmod 666 /dev/kvm /dev/vfio/*; ulimit -l {kib}; setpriv --reuid 65534 --clear-groups \
             allod run --kernel /tmp/micro-guest --memory 64M --device {edu} < /dev/null"
        )
    };
    let output = run(host, &user(16 << 10))?;
    assert!(output.status == 1 && output.stderr.contains("ulimit -l 65536"), "{output:?}");
    let output = run(host, &user(96 << 10))?;
    assert!(output.is_success(), "{output:?}");
    assert_eq!(run(host, &format!("readlink /sys/bus/pci/devices/{sound}/driver"))?.stdout, before);
    Ok(())
}
