//! The frame pool: blocks of a few sizes that textures live in and leave behind.
//!
//! A texture *is* its block: eviction returns the block, a load takes one, and no page changes hands with the kernel. Idle blocks
//! stay charged, as `pool_idle`: the charge changes its purpose, never its size, so nothing is counted twice. They are freed when
//! memory presses and when a reservation needs the room. It knows no textures and no slots; who makes room is a closure.
//!
//! To take an idle block, and to give it back, is one short lock: that of its class. What only a reader of figures needs (that idle
//! blocks' charges are `pool_idle`, and the metrics of blocks) is made up for when somebody reads, see [`Pool::settle`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::memory::arena::{Arena, ArenaError, Block, HUGE_PAGE};
use crate::memory::aside;
use crate::memory::budget::{Budget, Charge, Purpose, ReserveError};
use crate::metrics::{AcquireResult, BlockState, Metrics, PopulateResult};

/// Size classes in bytes. The last is exactly right for 1920×1080 RGBA (8,294,400 bytes).
pub const CLASSES: [usize; 7] = [
    512 << 10,
    1 << 20,
    2 << 20,
    3 << 20,
    4 << 20,
    6 << 20,
    8 << 20,
];

/// Settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Most blocks, idle and used together; what comes after is taken straight from the arena.
    pub blocks_max: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { blocks_max: 256 }
    }
}

/// A class's idle blocks.
#[derive(Debug, Default)]
struct Idle {
    /// Their charges may still be as `textures`.
    #[expect(
        clippy::vec_box,
        reason = "a block keeps its box while it is in use: only a pointer moves"
    )]
    blocks: Vec<Box<Held>>,
    /// Blocks taken from here, ever.
    reused: u64,
}

type MakeRoom = Box<dyn Fn() -> bool + Send + Sync>;

/// See the file's description. It lives as long as the process, so make one.
pub struct Pool {
    /// Itself, for its blocks: to count how many refer to it would be half the cost of taking one.
    me: OnceLock<&'static Arc<Pool>>,
    arena: Arc<Arena>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    config: PoolConfig,
    idle: [Mutex<Idle>; CLASSES.len()],
    /// Idle blocks and those in use.
    blocks: AtomicUsize,
    /// Blocks that come back are freed.
    closed: AtomicBool,
    /// No lock: what it evicts is dropped while it runs.
    make_room: OnceLock<MakeRoom>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

#[inline]
fn class_of(bytes: u64) -> Option<usize> {
    CLASSES.iter().position(|&class| bytes <= class as u64)
}

fn alignment(bytes: usize) -> usize {
    if bytes >= HUGE_PAGE { HUGE_PAGE } else { 4096 }
}

/// The right to one block, with its bytes charged. Made without touching memory; [`Ticket::realise`] does that.
#[derive(Debug)]
pub struct Ticket {
    /// An idle block, or one without memory yet: a place in the count and a charge. Dropped, it gives back what it has.
    block: PoolBlock,
}

impl Ticket {
    /// Takes the block. A new one is faulted in here, which takes about a millisecond: not on an async worker.
    #[inline]
    pub fn realise(mut self) -> Result<PoolBlock, ArenaError> {
        if let Some(held) = &mut self.block.held
            && held.block.is_none()
        {
            self.block.pool.make(held)?;
        }
        Ok(self.block)
    }
}

/// What a block consists of.
#[derive(Debug)]
struct Held {
    /// `None`: not one of the pool's.
    class: Option<usize>,
    /// `None`: not made yet.
    block: Option<Block>,
    charge: Charge,
}

/// A block in use, charged as `textures`. Dropped, it becomes idle, or is freed when it was no pool block.
#[derive(Debug)]
pub struct PoolBlock {
    pool: &'static Arc<Pool>,
    /// Boxed, so that to take a block and to give it back moves a pointer. Only drop takes it out.
    held: Option<Box<Held>>,
}

impl PoolBlock {
    fn block(&self) -> Option<&Block> {
        self.held.as_ref()?.block.as_ref()
    }

    /// The first `bytes` of it. Panics when it is shorter, which its caller has seen to.
    pub fn bytes(&self, bytes: usize) -> &[u8] {
        &self.block().map_or(&[][..], Block::as_slice)[..bytes]
    }

    /// The same for writing.
    pub fn bytes_mut(&mut self, bytes: usize) -> &mut [u8] {
        let block = self.held.as_mut().and_then(|held| held.block.as_mut());
        &mut block.map_or(&mut [][..], Block::as_mut_slice)[..bytes]
    }

    /// Whether it falls idle when it is dropped, rather than being freed.
    pub(super) fn is_pooled(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.class.is_some())
    }

    /// Bytes that it takes, and that are charged for it.
    pub fn size(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.charge.bytes())
    }
}

impl Drop for PoolBlock {
    #[inline]
    fn drop(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        match (held.class, &held.block) {
            (Some(class), Some(_)) => self.pool.put_idle(class, held),
            _ => self.pool.discard(*held),
        }
    }
}

impl Pool {
    /// An empty pool.
    pub fn new(
        arena: Arc<Arena>,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        config: PoolConfig,
    ) -> Arc<Self> {
        let pool = Arc::new(Self {
            me: OnceLock::new(),
            arena,
            budget,
            metrics,
            config,
            idle: Default::default(),
            blocks: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            make_room: OnceLock::new(),
        });
        let me: &'static Arc<Self> = Box::leak(Box::new(Arc::clone(&pool)));
        pool.me.get_or_init(|| me);
        pool.budget.set_settler(|| me.settle());
        pool
    }

    fn me(&self) -> &'static Arc<Self> {
        self.me
            .get()
            .unwrap_or_else(|| unreachable!("set before anybody has the pool"))
    }

    /// Frees all idle blocks, and from now on every block that comes back.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.trim(u64::MAX);
    }

    /// Sets what is called when a block is wanted and there is no room: it makes one texture go and says whether one went.
    /// The first one stays.
    pub fn set_make_room(&self, make_room: impl Fn() -> bool + Send + Sync + 'static) {
        let set = self.make_room.set(Box::new(make_room));
        debug_assert!(set.is_ok(), "a pool has one owner");
    }

    /// A block for `bytes`, waiting up to `wait` for room. Takes an idle block, else reserves a new one, else has textures evicted, one
    /// at a time and only until this one fits.
    #[inline]
    pub async fn acquire(
        self: &Arc<Self>,
        bytes: u64,
        wait: Duration,
    ) -> Result<Ticket, ReserveError> {
        match self.take(bytes) {
            Err(ReserveError::Exhausted { .. }) => {}
            taken => return taken,
        }
        // Boxed, so that whoever finds a block at once carries no room for the way to another one.
        Box::pin(self.make_room_for(bytes, wait)).await
    }

    async fn make_room_for(
        self: &Arc<Self>,
        bytes: u64,
        wait: Duration,
    ) -> Result<Ticket, ReserveError> {
        if let Some(ticket) = self.attempt_aside(bytes).await? {
            return Ok(ticket);
        }
        let exhausted = || {
            let available = self.budget.available(Purpose::Textures);
            ReserveError::Exhausted {
                purpose: Purpose::Textures,
                requested: bytes,
                available,
            }
        };
        if wait.is_zero() || !self.budget.growth_open() {
            return Err(exhausted());
        }
        let waiting = async {
            let Some(turn) = self.budget.turn(Purpose::Textures).await else {
                return Err(exhausted());
            };
            loop {
                if let Some(ticket) = self.attempt_aside(bytes).await? {
                    return Ok(ticket);
                }
                turn.changed().await;
            }
        };
        tokio::time::timeout(wait, waiting)
            .await
            .unwrap_or_else(|_| Err(exhausted()))
    }

    /// One try that keeps no async worker: what must be evicted first is evicted elsewhere. `None`: no room now.
    async fn attempt_aside(self: &Arc<Self>, bytes: u64) -> Result<Option<Ticket>, ReserveError> {
        match self.take(bytes) {
            Err(ReserveError::Exhausted { .. }) => {}
            taken => return taken.map(Some),
        }
        let pool = Arc::clone(self);
        aside::run(move || pool.attempt(bytes))
            .await
            .unwrap_or(Ok(None))
    }

    /// An idle block or the right to a new one, if there is room as it is.
    #[inline]
    fn take(self: &Arc<Self>, bytes: u64) -> Result<Ticket, ReserveError> {
        let class = class_of(bytes);
        if self.budget.growth_open()
            && let Some(block) = class.and_then(|class| self.take_idle(class))
        {
            return Ok(Ticket { block });
        }
        self.take_new(bytes, class)
    }

    /// The right to a new block, if there is room as it is.
    fn take_new(
        self: &Arc<Self>,
        bytes: u64,
        class: Option<usize>,
    ) -> Result<Ticket, ReserveError> {
        let size = class.map_or_else(
            || Arena::usable_size(bytes as usize, alignment(bytes as usize)),
            |class| CLASSES[class],
        );
        let charge = self
            .budget
            .try_reserve_free(Purpose::Textures, size as u64)?;
        Ok(self.ticket(class, charge))
    }

    /// One try, without waiting, evicting what must go: not on an async worker. `None`: no room now.
    fn attempt(self: &Arc<Self>, bytes: u64) -> Result<Option<Ticket>, ReserveError> {
        // Every round frees a block or a texture, or ends; the bound is for rounds whose gain another load took.
        for _ in 0..self.config.blocks_max + 64 {
            let lacking = match self.take(bytes) {
                // Refused for another reason than room: evicting would not help.
                Err(ReserveError::Exhausted {
                    available,
                    requested,
                    ..
                }) if available >= requested || !self.budget.growth_open() => return Ok(None),
                Err(ReserveError::Exhausted {
                    available,
                    requested,
                    ..
                }) => requested - available,
                taken => return taken.map(Some),
            };
            if self.trim(lacking) == 0 && !self.evict_one() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// A block without memory yet: one of the pool's if there is a place left.
    fn ticket(self: &Arc<Self>, class: Option<usize>, charge: Charge) -> Ticket {
        let fits = |blocks: usize| (blocks < self.config.blocks_max).then_some(blocks + 1);
        let counted = |_: &usize| {
            self.blocks
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
                .is_ok()
        };
        let held = Held {
            class: class.filter(counted),
            block: None,
            charge,
        };
        Ticket {
            block: PoolBlock {
                pool: self.me(),
                held: Some(Box::new(held)),
            },
        }
    }

    /// Takes the memory that a block's charge is for.
    fn make(&self, held: &mut Held) -> Result<(), ArenaError> {
        let bytes = held.charge.bytes() as usize;
        let mut block = self.arena.allocate(bytes, alignment(bytes))?;
        self.populate(&mut block);
        held.block = Some(block);
        let origin = match held.class {
            Some(_) => AcquireResult::Grown,
            None => AcquireResult::Direct,
        };
        self.metrics.pool.acquires_total.of(origin).inc();
        self.publish();
        Ok(())
    }

    fn populate(&self, block: &mut Block) {
        let result = match block.populate() {
            true => PopulateResult::Populated,
            false => PopulateResult::Refused,
        };
        self.metrics.pool.populates_total.of(result).inc();
    }

    fn evict_one(&self) -> bool {
        self.make_room.get().is_some_and(|make_room| make_room())
    }

    #[inline]
    fn take_idle(self: &Arc<Self>, class: usize) -> Option<PoolBlock> {
        let mut held = {
            let mut idle = self.idle[class].lock();
            let held = idle.blocks.pop()?;
            idle.reused += 1;
            held
        };
        // Nothing to do, unless somebody read the figures since it fell idle.
        held.charge.transfer_to(Purpose::Textures);
        Some(PoolBlock {
            pool: self.me(),
            held: Some(held),
        })
    }

    /// What is no idle block: a place in the count, or a block of none of the classes.
    #[cold]
    fn discard(&self, held: Held) {
        let Held {
            class,
            block,
            charge,
        } = held;
        match block {
            // A large one, which takes its time to unmap: a tuple drops in order, so memory goes before its charge.
            Some(block) => aside::discard((block, charge)),
            None => {
                if class.is_some() {
                    self.blocks.fetch_sub(1, Ordering::Relaxed);
                }
                drop(charge);
            }
        }
    }

    #[inline]
    fn put_idle(&self, class: usize, held: Box<Held>) {
        self.idle[class].lock().blocks.push(held);
        // Looked at after the block was put there: either the end of the pool finds the block, or we find the end.
        if self.closed.load(Ordering::SeqCst) {
            self.trim(u64::MAX);
        }
        // A load that waits for room can take this one, though nothing was released.
        self.budget.poke();
    }

    /// Frees idle blocks until `bytes` are freed or none is left; returns the bytes freed. Largest first: fewest frees.
    pub fn trim(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        for class in (0..CLASSES.len()).rev() {
            while freed < bytes {
                let Some(held) = self.idle[class].lock().blocks.pop() else {
                    break;
                };
                let Held { block, charge, .. } = *held;
                freed += charge.bytes();
                self.blocks.fetch_sub(1, Ordering::Relaxed);
                drop(block);
                drop(charge);
            }
        }
        if freed > 0 {
            self.publish();
        }
        freed
    }

    /// Bytes of blocks in use and idle, straight ones included.
    pub fn held_bytes(&self) -> u64 {
        self.arena.ledger_bytes()
    }

    /// Idle blocks, and all blocks of the pool.
    pub fn counts(&self) -> (usize, usize) {
        let idle = self.idle.iter().map(|idle| idle.lock().blocks.len());
        (idle.sum(), self.blocks.load(Ordering::Relaxed))
    }

    /// Has the charges of idle blocks be `pool_idle`, and brings the metrics up to date.
    pub fn settle(&self) {
        for idle in &self.idle {
            for held in &mut idle.lock().blocks {
                held.charge.transfer_to(Purpose::PoolIdle);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let reused: u64 = self.idle.iter().map(|idle| idle.lock().reused).sum();
        let counter = self.metrics.pool.acquires_total.of(AcquireResult::Reused);
        // Upwards only: of two who publish at the same time, the one who looked first may come last.
        counter.inner().fetch_max(reused, Ordering::Relaxed);
        let (idle, blocks) = self.counts();
        self.metrics
            .pool
            .blocks
            .of(BlockState::Idle)
            .set(idle as i64);
        self.metrics
            .pool
            .blocks
            .of(BlockState::Used)
            .set(blocks.saturating_sub(idle) as i64);
    }
}

#[cfg(test)]
mod tests;
