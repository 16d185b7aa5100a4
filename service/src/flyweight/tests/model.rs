//! A naive model against the real cache: after every operation of a random sequence both agree on what is resident and pinned, on
//! the version and the instance that each lease shows, and on every byte.
//!
//! The model knows the rules and none of the means: a list of pictures, an order of last uses, a number of blocks. A failing
//! sequence is shrunk, and printed with the seed that brings it back.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Blocks that there is room for, backgrounds, and the most of each sequence.
const BLOCKS: usize = 3;
const BACKGROUNDS: usize = 4;
const LEASES_MAX: usize = 5;
/// Small, so that decoding costs nothing; its block is of the smallest class all the same.
const SMALL: Size = Size::new(16, 8);

#[derive(Debug, Clone, Copy)]
enum Op {
    /// The background's first, or next, version.
    Upload(usize),
    Remove(usize),
    Lease(usize),
    /// Drops one of the leases that are held.
    Release(usize),
    Invalidate(usize),
    Evict(usize),
    /// Down to this many blocks.
    Shrink(usize),
    /// From now on loads of the present version fail.
    Break(usize),
    /// They succeed again.
    Mend(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..BACKGROUNDS;
    prop_oneof![
        12 => which.clone().prop_map(Op::Lease),
        8 => (0..LEASES_MAX).prop_map(Op::Release),
        4 => which.clone().prop_map(Op::Upload),
        1 => which.clone().prop_map(Op::Remove),
        2 => which.clone().prop_map(Op::Invalidate),
        3 => which.clone().prop_map(Op::Evict),
        2 => (0..=BLOCKS).prop_map(Op::Shrink),
        2 => which.clone().prop_map(Op::Break),
        1 => which.prop_map(Op::Mend),
    ]
}

/// A texture as the model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instance {
    index: u32,
    version: u32,
    pins: usize,
    /// Asked to go with its last lease.
    condemned: bool,
    /// May never be leased again.
    retired: bool,
    /// Where its pixels lie.
    place: usize,
}

#[derive(Debug, Clone, Copy)]
struct Background {
    index: u32,
    version: u32,
    broken: bool,
    /// A failed load is remembered.
    failed: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Hit,
    Miss,
    Exhausted,
    Failed,
    Gone,
}

#[derive(Default)]
struct Model {
    backgrounds: [Option<Background>; BACKGROUNDS],
    versions: [u32; BACKGROUNDS],
    instances: Vec<Instance>,
    idle: usize,
    last_used: HashMap<u32, u64>,
    clock: u64,
}

impl Model {
    fn resident(&self, index: u32) -> Option<usize> {
        self.instances
            .iter()
            .position(|instance| instance.index == index && !instance.retired)
    }

    fn touch(&mut self, index: u32) {
        self.clock += 1;
        self.last_used.insert(index, self.clock);
    }

    fn blocks(&self) -> usize {
        self.instances.len() + self.idle
    }

    /// The unpinned, resident instance whose turn it is.
    fn victim(&self) -> Option<usize> {
        let unpinned = self.instances.iter().enumerate();
        unpinned
            .filter(|(_, instance)| instance.pins == 0 && !instance.retired)
            .min_by_key(|(_, instance)| {
                let used = self.last_used.get(&instance.index).copied();
                (used.unwrap_or(0), instance.index)
            })
            .map(|(at, _)| at)
    }

    fn leave(&mut self, at: usize) {
        self.instances.remove(at);
        self.idle += 1;
    }

    /// A block for new pixels: an idle one, a new one, or that of a texture that is evicted.
    fn take_block(&mut self) -> bool {
        if self.idle == 0 && self.blocks() == BLOCKS {
            match self.victim() {
                Some(at) => self.leave(at),
                None => return false,
            }
        }
        self.idle = self.idle.saturating_sub(1);
        true
    }

    fn retire(&mut self, index: u32) -> bool {
        let Some(at) = self.resident(index) else {
            return false;
        };
        match self.instances[at].pins {
            0 => self.leave(at),
            _ => self.instances[at].retired = true,
        }
        true
    }

    /// True when the upload has room. Checking the picture takes a block and leaves it idle.
    fn upload(&mut self, which: usize) -> bool {
        if !self.take_block() {
            return false;
        }
        self.idle += 1;
        self.versions[which] += 1;
        true
    }

    fn shown(&mut self, which: usize, index: u32) {
        if let Some(old) = self.backgrounds[which] {
            self.retire(old.index);
        }
        self.backgrounds[which] = Some(Background {
            index,
            version: self.versions[which],
            broken: false,
            failed: false,
        });
    }

    fn remove(&mut self, which: usize) -> Option<u32> {
        let background = self.backgrounds[which].take()?;
        self.retire(background.index);
        Some(background.index)
    }

    fn lease(&mut self, which: usize) -> Expected {
        let Some(background) = self.backgrounds[which] else {
            return Expected::Gone;
        };
        if let Some(at) = self.resident(background.index) {
            self.touch(background.index);
            self.instances[at].pins += 1;
            self.instances[at].condemned = false;
            return Expected::Hit;
        }
        if background.failed {
            return Expected::Failed;
        }
        self.touch(background.index);
        if background.broken {
            self.backgrounds[which] = Some(Background {
                failed: true,
                ..background
            });
            return Expected::Failed;
        }
        if !self.take_block() {
            return Expected::Exhausted;
        }
        self.instances.push(Instance {
            index: background.index,
            version: background.version,
            pins: 1,
            condemned: false,
            retired: false,
            place: 0,
        });
        Expected::Miss
    }

    fn release(&mut self, place: usize) {
        let held = |instance: &Instance| instance.place == place && instance.pins > 0;
        let at = self.instances.iter().position(held);
        let at = at.expect("a lease is of an instance");
        self.instances[at].pins -= 1;
        let Instance {
            pins,
            condemned,
            retired,
            ..
        } = self.instances[at];
        if pins == 0 && (condemned || retired) {
            self.leave(at);
        }
    }

    fn evict(&mut self, index: u32) -> bool {
        match self.resident(index) {
            Some(at) if self.instances[at].pins == 0 => {
                self.leave(at);
                true
            }
            Some(at) => {
                self.instances[at].condemned = true;
                false
            }
            None => false,
        }
    }

    /// Evicted, freed, pinned.
    fn shrink(&mut self, blocks: usize) -> (usize, usize, usize) {
        let trimmed = self.idle.min(self.blocks().saturating_sub(blocks));
        self.idle -= trimmed;
        let excess = self.blocks().saturating_sub(blocks);
        if excess == 0 {
            return (0, trimmed, 0);
        }
        let pinned = self.instances.iter().filter(|instance| instance.pins > 0);
        let pinned = pinned.count();
        let mut evicted = 0;
        while evicted < excess
            && let Some(at) = self.victim()
        {
            self.instances.remove(at);
            evicted += 1;
        }
        (evicted, trimmed + evicted, pinned)
    }
}

struct Pair {
    world: World,
    model: Model,
    leases: Vec<(Lease, usize)>,
    gone: Vec<u32>,
    images: HashMap<(usize, u32), Bytes>,
}

impl Pair {
    fn new() -> Self {
        let config = FlyweightsConfig {
            negative_ttl: Duration::from_secs(3600),
            reserve_wait: Duration::ZERO,
            ..config()
        };
        let dir = tempfile::tempdir().expect("directory");
        Self {
            world: World::with(config, budget_for(BLOCKS as u64), dir),
            model: Model::default(),
            leases: Vec::new(),
            gone: Vec::new(),
            images: HashMap::new(),
        }
    }

    async fn apply(&mut self, op: Op) {
        let index = |which: usize| self.model.backgrounds[which].map(|shown| shown.index);
        match op {
            Op::Upload(which) => self.upload(which).await,
            Op::Remove(which) => {
                let id = format!("b{which}");
                let removed = self.world.flyweights.delete(&id, Precondition::None).await;
                let expected = self.model.remove(which);
                assert_eq!(removed.ok(), expected);
                self.gone.extend(expected);
            }
            Op::Lease(which) => self.lease(which).await,
            Op::Release(at) => {
                if !self.leases.is_empty() {
                    let (lease, place) = self.leases.remove(at % self.leases.len());
                    drop(lease);
                    self.model.release(place);
                }
            }
            Op::Invalidate(which) => {
                if let Some(index) = index(which) {
                    let there = self.world.flyweights.invalidate(index);
                    assert_eq!(there, self.model.retire(index));
                    let shown = self.model.backgrounds[which].as_mut();
                    shown.expect("shown").failed = false;
                }
            }
            Op::Evict(which) => {
                if let Some(index) = index(which) {
                    let went = self.world.flyweights.evict(index);
                    assert_eq!(went, self.model.evict(index));
                }
            }
            Op::Shrink(blocks) => {
                let report = self.world.flyweights.shrink_to(blocks as u64 * TEXTURE);
                let (evicted, freed, pinned) = self.model.shrink(blocks);
                assert_eq!(
                    (report.evicted, report.freed_bytes, report.pinned),
                    (evicted as u64, freed as u64 * TEXTURE, pinned as u64)
                );
                assert_eq!(report.skipped, 0, "nobody else is about");
            }
            Op::Break(which) => self.write(which, true),
            Op::Mend(which) => self.write(which, false),
        }
    }

    async fn upload(&mut self, which: usize) {
        let version = self.model.versions[which] + 1;
        let image = stamped(SMALL, which as u8, version as u8);
        self.images.insert((which, version), image.clone());
        let id = format!("b{which}");
        let uploaded = self
            .world
            .flyweights
            .upload(&id, image, Precondition::None)
            .await;
        if self.model.upload(which) {
            let registered = uploaded.expect("there is room");
            assert_eq!(registered.version, version);
            let known = self.model.backgrounds[which].map(|shown| shown.index);
            assert_eq!(registered.created, known.is_none());
            assert!(known.is_none_or(|index| index == registered.index));
            assert!(
                !self.gone.contains(&registered.index),
                "an index never comes back"
            );
            self.model.shown(which, registered.index);
        } else {
            assert!(matches!(
                uploaded,
                Err(UploadError::Load(LoadError::Reserve(
                    ReserveError::Exhausted { .. }
                )))
            ));
        }
    }

    async fn lease(&mut self, which: usize) {
        if self.leases.len() == LEASES_MAX {
            return;
        }
        let index = self.model.backgrounds[which].map(|shown| shown.index);
        let Some(index) = index.or(self.gone.last().copied()) else {
            return;
        };
        let outcome = self.world.lease(index).await;
        let expected = self.model.lease(which);
        let seen = match &outcome {
            Ok((_, Access::Hit)) => Expected::Hit,
            Ok(_) => Expected::Miss,
            Err(LeaseError::Exhausted) => Expected::Exhausted,
            Err(LeaseError::Load(_)) => Expected::Failed,
            Err(LeaseError::Unavailable(Unavailable::Gone)) => Expected::Gone,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(seen, expected);
        if let Ok((lease, access)) = outcome {
            let place = lease.pixels().data().as_ptr() as usize;
            let at = self.model.resident(index).expect("leased");
            let instance = &mut self.model.instances[at];
            if access == Access::Miss {
                instance.place = place;
            }
            assert_eq!(instance.place, place, "the same instance");
            self.leases.push((lease, place));
        }
    }

    /// Writes the present version's source, sound or not.
    fn write(&mut self, which: usize, broken: bool) {
        let Some(shown) = &mut self.model.backgrounds[which] else {
            return;
        };
        shown.broken = broken;
        let file = format!("backgrounds/b{which}/{:010}.image", shown.version);
        let sound = &self.images[&(which, shown.version)];
        let bytes: &[u8] = if broken { b"no picture" } else { sound };
        std::fs::write(self.world.dir.path().join(file), bytes).expect("write");
    }

    /// Both sides, compared.
    fn compare(&self) {
        let (flyweights, model) = (&self.world.flyweights, &self.model);
        let count = |wanted: fn(&Instance) -> bool| {
            model
                .instances
                .iter()
                .filter(|instance| wanted(instance))
                .count() as u64
        };
        let resident = count(|instance| !instance.retired);
        assert_eq!(flyweights.resident(), resident);
        assert_eq!(flyweights.resident_bytes(), resident * TEXTURE);
        let pinned = count(|instance| instance.pins > 0);
        assert_eq!(flyweights.pinned_bytes(), pinned * TEXTURE);
        assert_eq!(flyweights.held_bytes(), model.blocks() as u64 * TEXTURE);
        let used = |purpose| self.world.budget.used_by(purpose);
        assert_eq!(
            (
                used(Purpose::Textures),
                used(Purpose::PoolIdle),
                used(Purpose::Decode),
                used(Purpose::Upload)
            ),
            (count(|_| true) * TEXTURE, model.idle as u64 * TEXTURE, 0, 0)
        );
        for shown in model.backgrounds.iter().flatten() {
            assert_eq!(flyweights.check(shown.index), Ok(shown.version));
            let slot = flyweights.catalogue.slot(shown.index).expect("slot");
            let there = slot.cell().look().resident;
            assert_eq!(there, model.resident(shown.index).is_some());
        }
        for (lease, place) in &self.leases {
            let shows = |instance: &&Instance| instance.place == *place && instance.pins > 0;
            let instance = model.instances.iter().find(shows).expect("an instance");
            assert_eq!(
                (lease.index(), lease.version()),
                (instance.index, instance.version)
            );
            let (_, version) = stamp(lease.pixels()).expect("whole");
            assert_eq!(u32::from(version), instance.version);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_leaves_the_cache_as_the_model_says(ops in prop::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let mut pair = Pair::new();
            for op in ops {
                pair.apply(op).await;
                pair.compare();
            }
            pair.leases.clear();
            pair.world.flyweights.shrink_to(0);
            assert_eq!((pair.world.arena.ledger_bytes(), pair.world.arena.drift_bytes().expect("statistics")), (0, 0));
        });
    }
}
