//! The rules of the budget.

use proptest::prelude::*;

use super::*;

fn budget(ceiling: u64) -> Arc<Budget> {
    Budget::new(BudgetConfig {
        ceiling,
        ..BudgetConfig::default()
    })
}

#[test]
fn purposes_stand_in_the_order_of_their_numbers() {
    for (number, purpose) in Purpose::ALL.iter().enumerate() {
        assert_eq!(*purpose as usize, number);
    }
}

#[test]
fn a_charge_is_given_back_when_dropped_and_splits_and_merges_without_loss() {
    let budget = budget(1000);
    let mut charge = budget.try_reserve(Purpose::Decode, 600).expect("fits");
    let mut part = charge.split(200);
    assert_eq!(
        (charge.bytes(), part.bytes(), budget.used()),
        (400, 200, 600)
    );
    part.resize(300).expect("fits");
    assert_eq!(budget.used(), 700);
    assert!(part.resize(700).is_err());
    assert_eq!(
        (part.bytes(), budget.used()),
        (300, 700),
        "a refused growth changes nothing"
    );
    charge.merge(part);
    assert_eq!(charge.bytes(), 700);
    charge.resize(100).expect("shrinks");
    let moved = charge.transfer(Purpose::Encode);
    assert_eq!(
        (
            budget.used_by(Purpose::Decode),
            budget.used_by(Purpose::Encode)
        ),
        (0, 100)
    );
    drop(moved);
    assert_eq!(budget.used(), 0);
}

#[test]
fn covered_bytes_are_charged_until_their_last_clone_is_gone() {
    let budget = budget(1000);
    let charge = budget.try_reserve(Purpose::Body, 100).expect("fits");
    let bytes = charge.cover(vec![7; 100]);
    let part = bytes.slice(10..20);
    drop(bytes);
    assert_eq!((&part[..], budget.used()), (&[7; 10][..], 100));
    drop(part);
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_never_fits_is_told_from_what_does_not_fit_now() {
    let budget = budget(1000);
    let held = budget.try_reserve(Purpose::Body, 900).expect("fits");
    assert_eq!(
        budget.try_reserve(Purpose::Body, 200).err(),
        Some(ReserveError::Exhausted {
            purpose: Purpose::Body,
            requested: 200,
            available: 100
        })
    );
    assert!(matches!(
        budget.try_reserve(Purpose::Body, 1001),
        Err(ReserveError::TooLarge { ceiling: 1000, .. })
    ));
    drop(held);
    budget.set_ceiling(500);
    assert!(
        matches!(
            budget.try_reserve(Purpose::Body, 600),
            Err(ReserveError::Exhausted { .. })
        ),
        "it fits without pressure"
    );
    budget.set_nominal(500);
    assert!(matches!(
        budget.try_reserve(Purpose::Body, 600),
        Err(ReserveError::TooLarge { .. })
    ));
    assert_eq!(budget.report().sheds, 4);
}

#[test]
fn what_stays_leaves_a_headroom_to_what_passes() {
    let budget = budget(800);
    assert!(budget.try_reserve(Purpose::Textures, 701).is_err());
    let _textures = budget
        .try_reserve(Purpose::Textures, 700)
        .expect("up to seven eighths");
    assert!(budget.try_reserve(Purpose::Sessions, 1).is_err());
    let _scratch = budget
        .try_reserve(Purpose::Decode, 100)
        .expect("the headroom");
    assert!(budget.try_reserve(Purpose::Decode, 1).is_err());
}

#[test]
fn the_reclaimer_is_asked_for_exactly_what_is_lacking() {
    let budget = budget(800);
    let held = Arc::new(Mutex::new(vec![
        budget.try_reserve(Purpose::Body, 400).expect("fits"),
        budget.try_reserve(Purpose::Body, 300).expect("fits"),
    ]));
    let (asked, victims) = (Arc::new(AtomicU64::new(0)), Arc::clone(&held));
    let seen = Arc::clone(&asked);
    budget.set_reclaimer(move |lacking| {
        seen.store(lacking, Ordering::Relaxed);
        let victim = victims.lock().pop();
        victim.map_or(0, |charge| charge.bytes())
    });
    let _charge = budget
        .try_reserve(Purpose::Encode, 350)
        .expect("room was made");
    assert_eq!((asked.load(Ordering::Relaxed), held.lock().len()), (250, 1));
}

#[test]
fn closed_growth_refuses_loads_and_uploads_but_not_what_serves() {
    let budget = budget(1000);
    budget.set_reclaimer(|_| panic!("nothing is evicted for what is refused anyway"));
    budget.set_growth_open(false);
    for purpose in [Purpose::Textures, Purpose::Decode, Purpose::Upload] {
        assert!(matches!(
            budget.try_reserve(purpose, 1),
            Err(ReserveError::Exhausted { .. })
        ));
    }
    assert!(budget.try_reserve(Purpose::Render, 1).is_ok());
    budget.set_growth_open(true);
    assert!(budget.try_reserve(Purpose::Textures, 1).is_ok());
}

#[test]
fn without_enforcement_it_only_counts() {
    let budget = Budget::new(BudgetConfig {
        ceiling: 10,
        enforce: false,
        ..BudgetConfig::default()
    });
    budget.set_growth_open(false);
    let charge = budget
        .try_reserve(Purpose::Textures, 1 << 40)
        .expect("never refused");
    assert_eq!(budget.used(), 1 << 40);
    drop(charge);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_first_come_first_served_and_time_out() {
    let budget = budget(100);
    let held = budget.try_reserve(Purpose::Body, 100).expect("fits");
    let order = Arc::new(Mutex::new(Vec::new()));
    let waiters: Vec<_> = (0..3)
        .map(|number| {
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            tokio::spawn(async move {
                let charge = budget
                    .reserve(Purpose::Body, 60, Duration::from_secs(5))
                    .await;
                order.lock().push(number);
                tokio::task::yield_now().await;
                charge.map(drop)
            })
        })
        .collect();
    tokio::task::yield_now().await;
    drop(held);
    for waiter in waiters {
        assert_eq!(waiter.await.expect("task"), Ok(()));
    }
    assert_eq!(*order.lock(), [0, 1, 2]);
    let _held = budget.try_reserve(Purpose::Body, 100).expect("fits");
    let late = budget
        .reserve(Purpose::Body, 1, Duration::from_secs(5))
        .await;
    assert!(matches!(late, Err(ReserveError::Exhausted { .. })));
    assert_eq!(budget.waiting.load(Ordering::Relaxed), 0);
}

/// Eviction unmaps memory, which takes milliseconds that no worker has.
#[tokio::test]
async fn the_reclaimer_runs_on_no_async_worker() {
    let budget = budget(800);
    let held = Arc::new(Mutex::new(vec![
        budget.try_reserve(Purpose::Body, 700).expect("fits"),
    ]));
    let victims = Arc::clone(&held);
    budget.set_reclaimer(move |_| {
        assert!(!aside::on_worker());
        let victim = victims.lock().pop();
        victim.map_or(0, |charge| charge.bytes())
    });
    let refused = budget.try_reserve(Purpose::Encode, 300);
    assert!(refused.is_err(), "nothing is evicted where it would block");
    let mut charge = budget
        .reserve(Purpose::Encode, 300, Duration::ZERO)
        .await
        .expect("room was made elsewhere");
    held.lock()
        .push(budget.try_reserve(Purpose::Body, 500).expect("fits"));
    assert!(charge.resize(600).is_err());
    charge
        .grow(600, Duration::ZERO)
        .await
        .expect("room was made");
    assert_eq!((charge.bytes(), budget.used()), (600, 600));
    charge.grow(100, Duration::ZERO).await.expect("no growth");
    assert_eq!(charge.bytes(), 600);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_goes_away_leaves_nothing_and_blocks_nobody() {
    let budget = budget(100);
    let held = budget.try_reserve(Purpose::Body, 100).expect("fits");
    let gone = tokio::spawn({
        let budget = Arc::clone(&budget);
        async move {
            budget
                .reserve(Purpose::Body, 50, Duration::from_secs(60))
                .await
                .map(drop)
        }
    });
    tokio::task::yield_now().await;
    gone.abort();
    assert!(gone.await.is_err());
    let next = tokio::spawn({
        let budget = Arc::clone(&budget);
        async move {
            budget
                .reserve(Purpose::Body, 100, Duration::from_secs(1))
                .await
                .map(drop)
        }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert_eq!(next.await.expect("task"), Ok(()));
    assert_eq!(
        (budget.used(), budget.waiting.load(Ordering::Relaxed)),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_number_of_waiters_is_bounded() {
    let budget = Budget::new(BudgetConfig {
        ceiling: 10,
        waiters_max: 1,
        ..BudgetConfig::default()
    });
    let _held = budget.try_reserve(Purpose::Body, 10).expect("fits");
    let first = budget.reserve(Purpose::Body, 1, Duration::from_secs(9));
    let second = budget.reserve(Purpose::Body, 1, Duration::from_secs(9));
    let started = tokio::time::Instant::now();
    let (first, second) = tokio::join!(first, async {
        let refused = second.await;
        (refused, started.elapsed())
    });
    assert!(first.is_err() && second.0.is_err());
    assert_eq!(second.1, Duration::ZERO, "refused without waiting");
}

/// Many tasks on few bytes over real threads: if a wake-up were lost, one of them would run into its (long) limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wake_up_is_lost() {
    let budget = budget(64);
    let tasks: Vec<_> = (0..64u64)
        .map(|number| {
            let budget = Arc::clone(&budget);
            tokio::spawn(async move {
                for round in 0..50u64 {
                    let bytes = 1 + (number * 7 + round * 13) % 64;
                    let charge = budget
                        .reserve(Purpose::Encode, bytes, Duration::from_secs(600))
                        .await
                        .expect("in time");
                    assert!(budget.used() <= 64);
                    tokio::task::yield_now().await;
                    drop(charge);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
    assert_eq!((budget.used(), budget.report().sheds), (0, 0));
}

#[derive(Debug, Clone)]
enum Op {
    Reserve(usize, u64),
    Resize(usize, u64),
    Split(usize, u64),
    Merge(usize, usize),
    Transfer(usize, usize),
    Drop(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (charge, bytes, purpose) = (0usize..8, 0u64..600, 0..Purpose::COUNT);
    prop_oneof![
        (purpose.clone(), bytes.clone()).prop_map(|(purpose, bytes)| Op::Reserve(purpose, bytes)),
        (charge.clone(), bytes.clone()).prop_map(|(charge, bytes)| Op::Resize(charge, bytes)),
        (charge.clone(), bytes).prop_map(|(charge, bytes)| Op::Split(charge, bytes)),
        (charge.clone(), charge.clone()).prop_map(|(one, other)| Op::Merge(one, other)),
        (charge.clone(), purpose).prop_map(|(charge, purpose)| Op::Transfer(charge, purpose)),
        charge.prop_map(Op::Drop),
    ]
}

proptest! {
    #[test]
    fn never_above_the_ceiling_always_the_sum_of_its_charges_and_zero_at_the_end(
        ops in prop::collection::vec(op(), 1..120),
        ceiling in 100u64..1500,
    ) {
        let budget = budget(ceiling);
        let mut charges: Vec<Charge> = Vec::new();
        for op in ops {
            let at = |index: usize| if charges.is_empty() { None } else { Some(index % charges.len()) };
            match op {
                Op::Reserve(purpose, bytes) => charges.extend(budget.try_reserve(Purpose::ALL[purpose], bytes).ok()),
                Op::Resize(index, bytes) => if let Some(index) = at(index) { drop(charges[index].resize(bytes)) },
                Op::Split(index, bytes) => if let Some(index) = at(index) {
                    let part = charges[index].split(bytes);
                    charges.push(part);
                },
                Op::Merge(one, other) => if let (Some(one), Some(other)) = (at(one), at(other)) && one != other {
                    let other = std::mem::replace(&mut charges[other], budget.try_reserve(Purpose::Body, 0).expect("nothing"));
                    charges[one].merge(other);
                },
                Op::Transfer(index, purpose) => if let Some(index) = at(index) {
                    let charge = charges.swap_remove(index);
                    charges.push(charge.transfer(Purpose::ALL[purpose]));
                },
                Op::Drop(index) => if let Some(index) = at(index) { drop(charges.swap_remove(index)) },
            }
            let report = budget.report();
            prop_assert!(report.used <= ceiling);
            prop_assert_eq!(report.used, charges.iter().map(Charge::bytes).sum::<u64>());
            prop_assert_eq!(report.used, report.by_purpose.iter().sum::<u64>());
        }
        drop(charges);
        prop_assert_eq!(budget.used(), 0);
    }
}
