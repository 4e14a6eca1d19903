//! A seat whose network card is plugged into nothing of the host's: it reaches what the host reaches, by passt.

use lab::{Failure, Host};

use crate::seats::{deaf, debian, does, run, seat, until, write};

/// Passt may run as a variant for the host's processor.
const PASST: &str = "pgrep '^passt'";

/// A wire to a host far away, which is a name space of this one's, and the way to everywhere else by it; somebody who answers
/// there, and somebody who is here for the host alone.
const GROUND: &str = "modprobe veth; unshare -n sleep 1000 > /dev/null 2>&1 & n=$!; \
    while [ /proc/$n/ns/net -ef /proc/self/ns/net ]; do sleep 0.1; done; away=\"nsenter -t $n -n\"; \
    ip link add labout type veth peer name away netns $n; ip addr add 10.79.0.2/24 dev labout; ip link set labout up; \
    ip route add default via 10.79.0.1 dev labout; $away ip addr add 10.79.0.1/24 dev away; $away ip link set away up; \
    $away ip addr add 10.81.0.9/32 dev lo; $away ip link set lo up; \
    for at in away here; do echo answer of $at > /tmp/$at; done; listen='socat -U TCP-LISTEN'; \
    $away $listen:7778,fork OPEN:/tmp/away,rdonly > /dev/null 2>&1 & n=\"$n $!\"; \
    $listen:7779,bind=127.0.0.1,fork OPEN:/tmp/here,rdonly > /dev/null 2>&1 & echo $n $! > /tmp/away-pids";

const CLEAN: &str = "ip link del labout; kill $(cat /tmp/away-pids)";

pub(crate) fn a_seat_without_a_bridge_reaches_what_the_host_reaches(host: &Host) -> Result<(), Failure> {
    does(host, GROUND)?;
    let guest = "modprobe virtio_net; ifconfig eth0 up; udhcpc -f -q -n -i eth0 -s /bin/true; ifconfig eth0 10.79.0.2; \
        route add default gw 10.79.0.1; nc -w 9 10.81.0.9 7778; nc -w 3 10.79.0.1 7779; echo asked; read line";
    write(host, "/tmp/passt.toml", &[seat("anna", &debian(host, guest)?, &[], "network = [{}]")])?;
    let plan = does(host, "allod plan /tmp/passt.toml")?;
    assert!(plan.contains(" on passt"), "{plan}");
    does(host, "allod up /tmp/passt.toml")?;
    does(host, &until("allod logs anna | grep -q asked"))?;
    let said = does(host, "allod logs anna")?;
    assert!(said.contains("lease of 10.79.0.2 obtained from 10.79.0.1"), "{said}");
    assert!(said.contains("answer of away") && !said.contains("answer of here"), "{said}");
    is_shut_in(host)?;
    does(host, "allod down anna --deadline 1")?;
    assert_eq!(run(host, PASST)?.stdout, "");

    write(host, "/tmp/passt.toml", &[seat("anna", &deaf(host)?, &[], "network = [{}]")])?;
    for (kill, pays) in [
        ("allod kill anna", "true"),
        ("kill -9 $(pidof allod-vmm)", "true"),
        ("kill -9 $(pgrep -f '[s]eat-supervisor')", "allod down anna"),
    ] {
        does(host, &format!("allod up /tmp/passt.toml && {PASST}"))?;
        does(host, &format!("{kill}; {}", until(&format!("! {PASST}"))))?;
        does(host, &format!("{pays}; {}", until("! allod ps | grep -q anna")))?;
    }
    does(host, CLEAN).map(drop)
}

/// As the machine is.
fn is_shut_in(host: &Host) -> Result<(), Failure> {
    let status = does(host, &format!("p=$({PASST}); cat /proc/$p/status /proc/$p/cgroup /proc/$p/limits"))?;
    let machine = does(host, "grep ^Uid: /proc/$(pidof allod-vmm)/status")?;
    assert!(!machine.contains("\t0\t"), "{machine}");
    for words in [machine.trim(), "/allod/anna", "Max core file size        0"] {
        assert!(status.contains(words), "no `{words}` in {status}");
    }
    Ok(())
}
