//! Blocks that come, fall idle and go, and what the books say of them meanwhile.

use super::*;
use crate::memory::budget::BudgetConfig;

const FULL_HD: u64 = 1920 * 1080 * 4;
const MIB: u64 = 1 << 20;

fn pool(ceiling: u64, blocks_max: usize) -> (Arc<Pool>, Arc<Budget>, Arc<Arena>) {
    let budget = Budget::new(BudgetConfig {
        ceiling,
        headroom_max: 0,
        ..BudgetConfig::default()
    });
    let arena = Arena::new().expect("arena");
    let pool = Pool::new(
        Arc::clone(&arena),
        Arc::clone(&budget),
        Arc::new(Metrics::default()),
        PoolConfig { blocks_max },
    );
    (pool, budget, arena)
}

fn take(pool: &Arc<Pool>, bytes: u64) -> Option<PoolBlock> {
    pool.attempt(bytes)
        .expect("never too large")
        .map(|ticket| ticket.realise().expect("memory"))
}

#[test]
fn full_hd_takes_the_8_mib_class_and_a_charge_moves_but_never_doubles() {
    let (pool, budget, arena) = pool(32 * MIB, 256);
    let block = take(&pool, FULL_HD).expect("room");
    assert_eq!(
        (block.size(), block.bytes(FULL_HD as usize).len() as u64),
        (8 * MIB, FULL_HD)
    );
    assert_eq!(
        (
            budget.used_by(Purpose::Textures),
            budget.used_by(Purpose::PoolIdle)
        ),
        (8 * MIB, 0)
    );
    drop(block);
    assert_eq!(
        (
            budget.used_by(Purpose::Textures),
            budget.used_by(Purpose::PoolIdle)
        ),
        (0, 8 * MIB)
    );
    let again = take(&pool, FULL_HD).expect("room");
    assert_eq!((budget.used(), pool.counts()), (8 * MIB, (0, 1)));
    assert_eq!(arena.drift_bytes().expect("statistics"), 0);
    drop(again);
    assert_eq!(pool.trim(1), 8 * MIB);
    assert_eq!(
        (budget.used(), arena.ledger_bytes(), pool.counts()),
        (0, 0, (0, 0))
    );
}

#[test]
fn idle_blocks_of_another_class_make_room() {
    let (pool, budget, _) = pool(8 * MIB, 256);
    drop(take(&pool, 4 * MIB).expect("room"));
    assert!(take(&pool, 8 * MIB).is_some());
    assert!(budget.used() <= 8 * MIB);
}

#[test]
fn textures_are_evicted_one_by_one_and_only_until_it_fits() {
    let (pool, _, _) = pool(24 * MIB, 256);
    let held: Arc<Mutex<Vec<PoolBlock>>> = Arc::default();
    for _ in 0..3 {
        held.lock().push(take(&pool, FULL_HD).expect("room"));
    }
    let victims = Arc::clone(&held);
    pool.set_make_room(move || {
        let victim = victims.lock().pop();
        victim.is_some()
    });
    let fourth = take(&pool, FULL_HD).expect("made room");
    assert_eq!(held.lock().len(), 2, "one went");
    assert_eq!(pool.counts(), (0, 3), "its block was reused");
    drop(fourth);
    assert!(
        take(&pool, 20 * MIB).is_some(),
        "larger than any class: from the arena"
    );
    assert_eq!(pool.counts().0, 0, "idle blocks went before textures");
}

#[test]
fn the_number_of_blocks_is_bounded_and_the_rest_is_direct() {
    let (pool, budget, arena) = pool(64 * MIB, 2);
    let blocks: Vec<PoolBlock> = (0..4)
        .map(|_| take(&pool, FULL_HD).expect("room"))
        .collect();
    assert_eq!(pool.counts().1, 2);
    drop(blocks);
    assert_eq!(
        (pool.counts(), budget.used(), arena.ledger_bytes()),
        ((2, 2), 16 * MIB, 16 * MIB)
    );
}

#[test]
fn a_dropped_ticket_gives_everything_back() {
    let (pool, budget, _) = pool(64 * MIB, 2);
    drop(pool.attempt(FULL_HD).expect("fits"));
    assert_eq!((budget.used(), pool.counts()), (0, (0, 0)));
}

#[test]
fn figures_are_settled_when_they_are_read() {
    let (pool, budget, _) = pool(64 * MIB, 256);
    let first = take(&pool, FULL_HD).expect("room");
    drop(take(&pool, MIB).expect("room"));
    drop(take(&pool, MIB).expect("an idle one"));
    pool.settle();
    let acquires = |result| pool.metrics.pool.acquires_total.of(result).get();
    let blocks = |state| pool.metrics.pool.blocks.of(state).get();
    let populates = |result| pool.metrics.pool.populates_total.of(result).get();
    let (grown, reused) = (AcquireResult::Grown, AcquireResult::Reused);
    assert_eq!((acquires(grown), acquires(reused)), (2, 1));
    assert_eq!((blocks(BlockState::Used), blocks(BlockState::Idle)), (1, 1));
    let asked = populates(PopulateResult::Populated) + populates(PopulateResult::Refused);
    assert_eq!(asked, 2, "once for each new block");
    let by_purpose = || {
        let by = |purpose| budget.used_by(purpose);
        (by(Purpose::Textures), by(Purpose::PoolIdle))
    };
    assert_eq!(by_purpose(), (8 * MIB, MIB));
    let again = take(&pool, MIB).expect("the settled one");
    assert_eq!(by_purpose(), (9 * MIB, 0));
    drop((first, again));
    assert_eq!(by_purpose(), (0, 9 * MIB));
}

#[test]
fn a_block_that_comes_back_to_a_closed_pool_is_freed() {
    let (pool, budget, arena) = pool(64 * MIB, 256);
    let late = take(&pool, FULL_HD).expect("room");
    drop(take(&pool, MIB).expect("room"));
    pool.close();
    assert_eq!((budget.used(), arena.ledger_bytes()), (8 * MIB, 8 * MIB));
    drop(late);
    assert_eq!((budget.used(), arena.ledger_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_a_block_falls_idle_or_time_runs_out() {
    let (pool, budget, _) = pool(8 * MIB, 256);
    let held = take(&pool, FULL_HD).expect("room");
    let waiter = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move {
            pool.acquire(FULL_HD, Duration::from_secs(5))
                .await
                .map(drop)
        }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert_eq!(waiter.await.expect("task"), Ok(()));
    let _held = take(&pool, FULL_HD).expect("room");
    let refused = pool
        .acquire(FULL_HD, Duration::from_secs(1))
        .await
        .map(drop);
    assert!(matches!(refused, Err(ReserveError::Exhausted { .. })));
    assert!(matches!(
        pool.acquire(FULL_HD * 10, Duration::ZERO).await.map(drop),
        Err(ReserveError::TooLarge { .. })
    ));
    assert_eq!(budget.used(), 8 * MIB);
}
