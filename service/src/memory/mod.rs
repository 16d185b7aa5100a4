//! Memory: where pixels live (`arena`), who may allocate how much (`budget`), what the kernel says (`cgroup`), and what to do
//! about it (`governor`, driven by `sampler`). `heap` says who holds it, `thread` what a thread takes, and `aside` keeps what takes its time
//! off the async workers.
//!
//! Nothing here knows textures, sessions or HTTP: what must be shrunk is handed in as closures.

#[expect(
    unsafe_code,
    reason = "the allocator is called, and pixels live in what it gives"
)]
pub mod arena;
pub mod aside;
pub mod budget;
pub mod cgroup;
pub mod governor;
#[expect(unsafe_code, reason = "the allocator is told to write a dump")]
pub mod heap;
pub mod sampler;
pub mod thread;

pub use arena::{Arena, Block};
pub use budget::{Budget, BudgetConfig, Charge, Purpose, ReserveError};
pub use governor::{GovernorConfig, State};
pub use sampler::{Hooks, Memory, MemoryConfig, MemoryReport};
