//! The table against a naive model, its bounds, and its bytes.

use super::*;
use crate::memory::budget::BudgetConfig;
use proptest::prelude::*;
use std::collections::HashMap;

const OURS: TenantId = TenantId(1);
const THEIRS: TenantId = TenantId(2);

fn table_in(sessions_max: u32, ceiling: u64) -> (Arc<Budget>, Sessions) {
    let budget = Budget::new(BudgetConfig {
        ceiling,
        headroom_max: 0,
        ..BudgetConfig::default()
    });
    let table = Sessions::new(
        SessionsConfig { sessions_max },
        Arc::clone(&budget),
        Arc::new(Metrics::default()),
    );
    (budget, table)
}

fn table(sessions_max: u32) -> Sessions {
    table_in(sessions_max, 1 << 30).1
}

#[test]
fn a_session_costs_at_most_64_bytes_all_in() {
    let (budget, table) = table_in(200_000, 1 << 30);
    assert_eq!(table.bytes_per_session(), None);
    let mut creation = table.creation(OURS, None);
    for user in 0..200_000 {
        creation.create(user, NO_FLYWEIGHT).expect("fits");
    }
    drop(creation);
    assert_eq!(table.count(), 200_000);
    let held = budget.used_by(Purpose::Sessions);
    assert_eq!(table.bytes_per_session(), Some(held as f64 / 200_000.0));
    assert!(held <= 64 * 200_000, "{held} bytes");
}

#[test]
fn a_session_says_when_it_was_last_switched() {
    let table = table(4);
    let id = table.create(OURS, 7, 3).expect("fits");
    let created = table.read(id, OURS).expect("live").changed_unix_s;
    assert!(created >= table.start_unix_s);
    // The clock of the table may be read once for many, so the time is given.
    let later = table.now_s() + 90;
    table.switch_at(id, OURS, 4, later).expect("live");
    let switched = table.read(id, OURS).expect("live").changed_unix_s;
    assert_eq!(switched, table.start_unix_s + u64::from(later));
    table.delete(id, OURS).expect("live");
    let heir = table.create(OURS, 7, 3).expect("fits");
    assert_eq!(heir.slot(), id.slot());
    let anew = table.read(heir, OURS).expect("live").changed_unix_s;
    assert!(anew < switched, "the slot's past is not the heir's");
}

#[test]
fn a_stale_id_and_a_foreign_tenant_find_nothing() {
    let table = table(4);
    let id = table.create(OURS, 7, 3).expect("fits");
    assert_eq!(table.read(id, THEIRS), Err(SessionError::NotFound));
    assert_eq!(table.switch(id, THEIRS, 1), Err(SessionError::NotFound));
    assert_eq!(table.delete(id, THEIRS), Err(SessionError::NotFound));
    assert_eq!(table.delete(id, OURS), Ok(3));
    let heir = table.create(OURS, 8, 4).expect("fits");
    assert_eq!(heir.slot(), id.slot());
    for stale in [
        id,
        SessionId(heir.0 + (1 << 32)),
        SessionId(u64::from(heir.slot())),
        SessionId(u64::MAX),
    ] {
        assert_eq!(table.switch(stale, OURS, 9), Err(SessionError::NotFound));
    }
    assert_eq!(
        table.read(heir, OURS).map(|session| session.flyweight),
        Ok(4)
    );
}

#[test]
fn two_boots_start_from_different_generations() {
    let ids: std::collections::HashSet<u64> = (0..8)
        .map(|_| table(1).create(OURS, 0, 0).expect("fits").0)
        .collect();
    assert!(ids.len() > 1);
}

#[test]
fn the_table_is_bounded_by_configuration_and_by_budget() {
    let small = table(2);
    assert!(small.create(OURS, 0, 0).is_ok() && small.create(OURS, 1, 0).is_ok());
    assert_eq!(small.create(OURS, 2, 0), Err(SessionError::Full));

    let chunk = (CHUNK_RECORDS * size_of::<Record>()) as u64;
    let (_, table) = table_in(10_000_000, 2 * chunk);
    let mut creation = table.creation(OURS, None);
    let made = (0..)
        .take_while(|user| creation.create(*user, 0).is_ok())
        .count();
    assert_eq!(made, 2 * CHUNK_RECORDS);
    assert_eq!(creation.create(0, 0), Err(SessionError::Exhausted));
}

#[test]
fn a_new_life_starts_with_a_fresh_view_and_counter() {
    let table = table(1);
    let id = table.create(OURS, 1, 0).expect("fits");
    let patch = ViewPatch {
        alpha: Some(0.25),
        ..ViewPatch::default()
    };
    assert!(matches!(table.patch_view(id, OURS, &patch), Ok(Ok(view)) if view.alpha == 64));
    let bad = ViewPatch {
        scale: Some(99.0),
        ..ViewPatch::default()
    };
    assert_eq!(table.patch_view(id, OURS, &bad), Ok(Err(ViewError::Scale)));
    assert_eq!(table.read(id, OURS).expect("live").view.alpha, 64);
    assert_eq!(
        table.patch_view(id, THEIRS, &patch),
        Err(SessionError::NotFound)
    );
    table.switch(id, OURS, 5).expect("live");
    assert_eq!(table.peek(id, OURS), Ok((5, 1)));
    table.delete(id, OURS).expect("live");
    let heir = table.create(OURS, 2, 0).expect("fits");
    let session = table.read(heir, OURS).expect("live");
    assert_eq!(
        (session.view, session.switches, session.user),
        (View::default(), 0, 2)
    );
}

#[test]
fn concurrent_switches_and_deletions_never_hit_another_life() {
    let table = table(8);
    std::thread::scope(|scope| {
        for worker in 0..4_u32 {
            let table = &table;
            scope.spawn(move || {
                let tenant = TenantId(worker as u16);
                for round in 0..5_000_u32 {
                    let Ok(id) = table.create(tenant, u64::from(round), worker) else {
                        continue;
                    };
                    assert_eq!(table.switch(id, tenant, worker), Ok(worker));
                    let seen = table.read(id, tenant).expect("live");
                    assert_eq!((seen.flyweight, seen.user), (worker, u64::from(round)));
                    assert_eq!(table.delete(id, tenant), Ok(worker));
                    assert_eq!(table.switch(id, tenant, 99), Err(SessionError::NotFound));
                }
            });
        }
    });
    assert_eq!(table.count(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Create(u32),
    Delete(usize),
    Switch(usize, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..9_u32).prop_map(Step::Create),
        (0..40_usize).prop_map(Step::Delete),
        (0..40_usize, 0..9_u32).prop_map(|(at, flyweight)| Step::Switch(at, flyweight)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn behaves_like_a_map(steps in steps()) {
        let table = table(16);
        let mut model: HashMap<u64, (u32, u32)> = HashMap::new();
        let mut known = vec![SessionId(0)];
        for step in steps {
            match step {
                Step::Create(flyweight) => match table.create(OURS, 0, flyweight) {
                    Ok(id) => {
                        prop_assert!(model.insert(id.0, (flyweight, 0)).is_none());
                        known.push(id);
                    }
                    Err(error) => prop_assert_eq!((error, model.len()), (SessionError::Full, 16)),
                },
                Step::Delete(at) => {
                    let id = known[at % known.len()];
                    let had = model.remove(&id.0).map(|(flyweight, _)| flyweight);
                    prop_assert_eq!(table.delete(id, OURS).ok(), had);
                }
                Step::Switch(at, flyweight) => {
                    let id = known[at % known.len()];
                    let had = model.get_mut(&id.0).map(|entry| {
                        entry.1 += 1;
                        std::mem::replace(&mut entry.0, flyweight)
                    });
                    prop_assert_eq!(table.switch(id, OURS, flyweight).ok(), had);
                }
            }
            for id in &known {
                prop_assert_eq!(table.peek(*id, OURS).ok(), model.get(&id.0).copied());
            }
        }
    }
}
