//! Images made here, byte by byte, against a plain disk of the same content; and images that contradict themselves.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use linux::disk::Disk;
use linux::memory::VolatileSlice;
use proptest::prelude::*;

use super::super::Storage;
use super::{OpenImageError, Qcow2};

/// Bytes of a cluster: the smallest there are, so that few of them need all kinds of table.
const CLUSTER: u64 = 512;
/// A disk of four tables of the second level.
const SIZE: u64 = 4 * 64 * CLUSTER;

/// A new image of version 3: header, table of counts, a block of counts, first table.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; 6 * CLUSTER as usize];
    let mut put = |at: u64, what: &[u8]| {
        let at = at as usize;
        bytes[at..at + what.len()].copy_from_slice(what);
    };
    put(0, b"QFI\xfb");
    for (at, value) in [(4, 3_u32), (20, 9), (36, 4), (56, 1), (96, 4), (100, 104)] {
        put(at, &value.to_be_bytes());
    }
    for (at, value) in [(24, SIZE), (40, 3 * CLUSTER), (48, CLUSTER), (CLUSTER, 2 * CLUSTER)] {
        put(at, &value.to_be_bytes());
    }
    for cluster in 0..4 {
        put(2 * CLUSTER + cluster * 2, &[0, 1]);
    }
    bytes.truncate(4 * CLUSTER as usize);
    bytes
}

fn file(bytes: &[u8]) -> File {
    // In memory: a flush costs nothing there.
    let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(file: &File, read_only: bool) -> Result<Arc<Qcow2>, OpenImageError> {
    let disk = Disk::from_file(file.try_clone().unwrap().into()).unwrap();
    Qcow2::open(Arc::new(disk), read_only).map(Arc::new)
}

/// The file as it is now, opened as another process would after this one is gone.
fn reopened(file: &File) -> Arc<Qcow2> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let copy = self::file(&bytes);
    open(&copy, false).unwrap()
}

fn read(image: &Arc<Qcow2>, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    image.read_at(offset, &[VolatileSlice::from(&mut bytes[..])]).unwrap();
    bytes
}

fn write(image: &Arc<Qcow2>, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    // In two parts, as guests give memory.
    let mut bytes = bytes.to_vec();
    let third = bytes.len() / 3;
    let (first, second) = bytes.split_at_mut(third);
    image.write_at(offset, &[VolatileSlice::from(first), VolatileSlice::from(second)])
}

#[test]
fn a_new_image_is_zero_and_keeps_what_is_written() {
    let file = file(&image());
    let disk = open(&file, false).unwrap();
    assert_eq!((disk.len(), read(&disk, 0, 2000)), (SIZE, vec![0; 2000]));
    write(&disk, 700, &[7; 1000]).unwrap();
    write(&disk, SIZE - 512, &[9; 512]).unwrap();
    for disk in [Arc::clone(&disk), {
        disk.flush().unwrap();
        reopened(&file)
    }] {
        assert_eq!(read(&disk, 699, 3), [0, 7, 7]);
        assert_eq!(read(&disk, 1699, 3), [7, 0, 0]);
        assert_eq!(read(&disk, SIZE - 513, 3), [0, 9, 9]);
    }
    assert!(file.metadata().unwrap().len() < 16 * CLUSTER, "it grows with what is written");
    disk.read_at(SIZE - 1, &[VolatileSlice::from(&mut [0; 2][..])]).unwrap_err();
    write(&disk, SIZE - 1, &[0; 2]).unwrap_err();
    write(&disk, u64::MAX - 1, &[0; 1]).unwrap_err();
}

#[test]
fn what_is_not_flushed_is_kept_when_the_image_is_closed() {
    let file = file(&image());
    let disk = open(&file, false).unwrap();
    write(&disk, 0, &[5; 512]).unwrap();
    assert_eq!(read(&reopened(&file), 0, 1), [0], "nothing refers to it yet");
    drop(disk);
    assert_eq!(read(&reopened(&file), 0, 1), [5]);
}

#[test]
fn discarded_clusters_are_zero_and_used_again() {
    let file = file(&image());
    let disk = open(&file, false).unwrap();
    write(&disk, 0, &[1; 64 * 512]).unwrap();
    disk.flush().unwrap();
    let len = file.metadata().unwrap().len();
    // What is not a whole cluster stays.
    disk.discard(100, 63 * 512).unwrap();
    disk.flush().unwrap();
    let reopened = reopened(&file);
    assert_eq!((read(&reopened, 511, 2), read(&reopened, 63 * 512 - 1, 2)), (vec![1, 0], vec![0, 1]));
    write(&disk, 64 * 512, &[2; 60 * 512]).unwrap();
    disk.flush().unwrap();
    assert!(file.metadata().unwrap().len() <= len + 2 * CLUSTER);
    assert_eq!(read(&disk, 64 * 512, 1), [2]);
}

#[test]
fn what_was_let_go_of_before_the_image_was_opened_is_used_again() {
    let file = file(&image());
    let disk = open(&file, false).unwrap();
    write(&disk, 0, &[1; 64 * 512]).unwrap();
    disk.discard(0, 60 * 512).unwrap();
    disk.flush().unwrap();
    drop(disk);
    let len = file.metadata().unwrap().len();
    let disk = open(&file, false).unwrap();
    write(&disk, 64 * 512, &[2; 59 * 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(file.metadata().unwrap().len(), len, "59 clusters and a table, in the place of 60");
    assert_eq!((read(&disk, 64 * 512, 1), read(&disk, 63 * 512, 1)), (vec![2], vec![1]));
}

#[test]
fn a_guest_that_never_flushes_does_not_make_the_file_longer_than_the_disk() {
    let file = file(&image());
    let disk = open(&file, false).unwrap();
    for byte in 1..=2500_u16 {
        write(&disk, 0, &[byte as u8; 512]).unwrap();
        disk.discard(0, 512).unwrap();
    }
    let clusters = file.metadata().unwrap().len() / CLUSTER;
    // The counts of a thousand clusters take some as well.
    assert!(clusters < super::LET_GO_LIMIT as u64 + 32, "{clusters} clusters for a disk of one");
    assert_eq!(read(&disk, 0, 1), [0]);
    reopened(&file);
}

#[test]
fn packed_clusters_are_read_and_unpacked_by_a_write() {
    let mut bytes = image();
    let data: Vec<u8> = (0..512).map(|at| (at / 16) as u8).collect();
    let packed = miniz(&data);
    // A second-level table at cluster 4, packed data from the middle of cluster 5 on.
    bytes.resize(8 * 512, 0);
    bytes[3 * 512..3 * 512 + 8].copy_from_slice(&((4 * CLUSTER) | (1 << 63)).to_be_bytes());
    let at = 5 * CLUSTER + 100;
    let sectors = (at + packed.len() as u64 - 1) / 512 - at / 512;
    bytes[4 * 512..4 * 512 + 8].copy_from_slice(&((1 << 62) | (sectors << 61) | at).to_be_bytes());
    bytes[at as usize..at as usize + packed.len()].copy_from_slice(&packed);
    for cluster in 4..=(5 + sectors as usize) {
        bytes[2 * 512 + cluster * 2 + 1] = 1;
    }
    let file = file(&bytes);
    let disk = open(&file, false).unwrap();
    assert_eq!(read(&disk, 0, 512), data);
    write(&disk, 10, &[0xff; 2]).unwrap();
    disk.flush().unwrap();
    let expected = [&data[..10], &[0xff; 2], &data[12..]].concat();
    assert_eq!(read(&disk, 0, 512), expected);
    assert_eq!(read(&reopened(&file), 0, 512), expected);
    // Packed data that is none is an I/O error.
    bytes[at as usize] = 0xff;
    let broken = open(&self::file(&bytes), true).unwrap();
    broken.read_at(0, &[VolatileSlice::from(&mut [0; 512][..])]).unwrap_err();
}

/// Packs bytes, without making them smaller: one stored block (RFC 1951, section 3.2.4).
fn miniz(data: &[u8]) -> Vec<u8> {
    let len = data.len() as u16;
    [&[1][..], &len.to_le_bytes(), &(!len).to_le_bytes(), data].concat()
}

#[test]
fn images_that_are_not_ours_or_contradict_themselves_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let rows: [(&str, Change); 23] = [
        ("does not begin", |b| b[0] = 0),
        ("does not begin", Vec::clear),
        ("version 4", |b| b[7] = 4),
        ("backing file", |b| b[15] = 104),
        ("encryption", |b| b[35] = 1),
        ("not closed", |b| b[79] = 1),
        ("marked as corrupt", |b| b[79] = 2),
        ("another file", |b| b[79] = 4),
        ("other than zlib", |b| b[79] = 8),
        ("later version", |b| b[72] = 0x80),
        ("not of 16 bits", |b| b[99] = 3),
        ("no size that there is", |b| b[23] = 8),
        ("no size that there is", |b| b[23] = 63),
        ("does not fit", |b| b[39] = 3),
        ("does not fit", |b| b[36] = 0xff),
        ("does not fit", |b| b[24] = 0xff),
        ("begin at clusters", |b| b[47] = 1),
        ("cut short", |b| b[44] = 1),
        // All blocks of counts that the table has room for are one: only what is kept of them is large.
        ("more reference counts than", |b| b[512..1024].as_chunks_mut::<8>().0.fill(1024_u64.to_be_bytes())),
        ("reference count is not true", |b| b[2 * 512 + 7] = 0),
        ("reference count is not true", |b| b[2 * 512 + 7] = 2),
        ("two places", |b| b[3 * 512..3 * 512 + 8].copy_from_slice(&(1024_u64 | (1 << 63)).to_be_bytes())),
        ("not in the file", |b| b[3 * 512..3 * 512 + 8].copy_from_slice(&(1_u64 << 40).to_be_bytes())),
    ];
    for (words, change) in rows {
        let mut bytes = image();
        change(&mut bytes);
        match open(&file(&bytes), false) {
            Ok(_) => panic!("opened: {words}"),
            Err(error) => assert!(error.to_string().contains(words), "no `{words}` in {error}"),
        }
    }
    let mut with_snapshots = image();
    with_snapshots[63] = 1;
    assert!(open(&file(&with_snapshots), false).unwrap_err().to_string().contains("snapshots"));
    open(&file(&with_snapshots), true).unwrap();
    // All of its first table names one table of the second level, which would be read as often.
    with_snapshots.resize(5 * 512, 0);
    with_snapshots[3 * 512..4 * 512].as_chunks_mut::<8>().0[..4].fill((2048_u64 | (1 << 63)).to_be_bytes());
    with_snapshots[2 * 512 + 9] = 2;
    assert!(open(&file(&with_snapshots), true).unwrap_err().to_string().contains("two places"));
}

/// Bytes of a large cluster.
const LARGE: u64 = 2 << 20;

/// A new image of the largest clusters there are, with the largest table of counts, and `tables` tables of the second level.
fn large_image(tables: u32) -> File {
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, at).unwrap();
    file.set_len(7 * LARGE).unwrap();
    put(0, b"QFI\xfb");
    // The table of counts from cluster 1 to 4; one block of them in 5, the first table in 6.
    for (at, value) in [(4, 3_u32), (20, 21), (36, tables), (56, 4), (96, 4), (100, 104)] {
        put(at, &value.to_be_bytes());
    }
    let size = u64::from(tables) * (LARGE / 8) * LARGE;
    for (at, value) in [(24, size), (40, 6 * LARGE), (48, LARGE), (LARGE, 5 * LARGE)] {
        put(at, &value.to_be_bytes());
    }
    for cluster in 0..7 {
        put(5 * LARGE + cluster * 2, &[0, 1]);
    }
    file
}

/// Counted one by one, the clusters of this image would keep the test busy for hours.
#[test]
fn an_image_that_could_grow_far_is_opened_at_once() {
    let file = large_image(1);
    let disk = open(&file, false).unwrap();
    write(&disk, 0, &[7; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(read(&disk, 0, 1), [7]);
    assert_eq!(file.metadata().unwrap().len(), 9 * LARGE, "a table and data, behind what was there");
}

#[test]
fn no_more_tables_are_kept_than_there_may_be_whether_they_were_there_or_are_made() {
    let most = super::TABLES_LIMIT / LARGE as usize;
    let disk = open(&large_image(most as u32 + 1), false).unwrap();
    for pass in 0..2 {
        for table in 0..=most as u64 {
            let at = table * (LARGE / 8) * LARGE;
            match pass {
                0 => write(&disk, at, &[table as u8 + 1; 2]).unwrap(),
                _ => assert_eq!(read(&disk, at, 1), [table as u8 + 1]),
            }
            assert!(disk.lock().tables.len() <= most, "{} tables of {most}", disk.lock().tables.len());
        }
    }
}

/// Cluster by cluster, this would take minutes.
#[test]
fn what_is_not_there_is_given_back_at_once() {
    let tables = 1 << 17;
    let disk = open(&large_image(tables), false).unwrap();
    write(&disk, disk.len() - 512, &[7; 512]).unwrap();
    disk.discard(0, disk.len()).unwrap();
    assert_eq!(read(&disk, disk.len() - 512, 1), [0]);
}

#[test]
fn no_byte_of_the_tables_makes_it_do_more_than_refuse() {
    let good = image();
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            if let Ok(disk) = open(&file(&bytes), false) {
                // Whatever it is now, it answers.
                let _ = disk.read_at(0, &[VolatileSlice::from(&mut [0; 1024][..])]);
                let _ = write(&disk, 0, &[1; 700]);
                let _ = disk.flush();
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Write(u64, usize, u8),
    Discard(u64, u64),
    Flush,
    Reopen,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..SIZE, 1_usize..3000, 1_u8..).prop_map(|(at, len, byte)| Deed::Write(at, len, byte)),
        1 => (0..SIZE, 0..SIZE / 4).prop_map(|(at, len)| Deed::Discard(at, len)),
        1 => Just(Deed::Flush),
        1 => Just(Deed::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// It holds what a plain disk would; whenever its process ends, the image is sound and has all that was flushed.
    #[test]
    fn it_is_a_disk_and_survives_its_process(deeds in prop::collection::vec(deed(), 1..60)) {
        let file = file(&image());
        let mut disk = open(&file, false).unwrap();
        let mut plain = vec![0; SIZE as usize];
        for deed in deeds {
            match deed {
                Deed::Write(at, len, byte) => {
                    let len = len.min((SIZE - at) as usize);
                    write(&disk, at, &vec![byte; len]).unwrap();
                    plain[at as usize..at as usize + len].fill(byte);
                }
                Deed::Discard(at, len) => {
                    let len = len.min(SIZE - at);
                    disk.discard(at, len).unwrap();
                    let (from, to) = (at.div_ceil(CLUSTER) * CLUSTER, (at + len) / CLUSTER * CLUSTER);
                    if from < to {
                        plain[from as usize..to as usize].fill(0);
                    }
                }
                Deed::Flush => {
                    disk.flush().unwrap();
                    prop_assert_eq!(&read(&reopened(&file), 0, SIZE as usize), &plain);
                }
                Deed::Reopen => {
                    drop(disk);
                    disk = open(&file, false).unwrap();
                }
            }
            prop_assert_eq!(&read(&disk, 0, SIZE as usize), &plain);
            // As another process would find it now: sound, at least.
            reopened(&file);
        }
    }
}
