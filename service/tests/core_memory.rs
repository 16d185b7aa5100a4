//! What only a process of its own can show: that pages really come and leave.

use backdrop_service::memory::Arena;
use backdrop_service::memory::arena::{HUGE_PAGE, allocator_stats};
use backdrop_service::memory::cgroup::Probe;

const MIB: u64 = 1 << 20;
const BLOCK: usize = 8 << 20;

fn rss() -> u64 {
    let probe = Probe::detect(None).expect("this host can be read");
    probe.read().expect("reading").rss
}

#[test]
fn a_populated_block_is_resident_and_a_freed_one_is_not() {
    let arena = Arena::new().expect("arena");
    let before = rss();
    let block = |_| arena.allocate(BLOCK, HUGE_PAGE).expect("block");
    let mut blocks: Vec<_> = (0..8).map(block).collect();
    for block in &mut blocks {
        // A kernel without MADV_POPULATE_WRITE says no; the pages are then touched instead.
        if !block.populate() {
            block.as_mut_slice().fill(1);
        }
    }
    let held = rss();
    assert!(
        held >= before + 60 * MIB,
        "64 MiB of blocks raised RSS from {before} to {held}"
    );
    assert_eq!(arena.drift_bytes().expect("statistics"), 0);
    assert!(allocator_stats().expect("statistics").allocated >= 64 * MIB);
    drop(blocks);
    arena.purge().expect("purge");
    let after = rss();
    assert!(
        after <= held - 60 * MIB,
        "freeing 64 MiB lowered RSS only from {held} to {after}"
    );
    assert_eq!(arena.drift_bytes().expect("statistics"), 0);
}
