//! The heap profile: what the allocator's sampling knows about who holds memory, as `pprof` reads it.
//!
//! Sampling is compiled in and off, which costs a branch. It is turned on at the process's start (see [`SETTING`]), since the
//! allocator must see all allocations or none. A dump goes through a file, because that is all that the allocator offers; one at a
//! time, and its size is bounded. This file talks to the allocator; what it says is read in `pprof`.

use std::ffi::CString;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tikv_jemalloc_ctl::profiling;
use tikv_jemalloc_sys as je;

mod pprof;

/// The environment variable that turns sampling on, with one sample in 512 KiB.
pub const SETTING: &str = "MALLOC_CONF=prof:true,lg_prof_sample:19";

/// Most bytes of a dump. A backtrace takes about a kilobyte in it.
const DUMP_BYTES_MAX: u64 = 4 << 20;

/// What making a profile may take: the dump, what is read out of it, and the profile.
pub const PROFILE_BYTES_MAX: u64 = 4 * DUMP_BYTES_MAX;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum HeapError {
    /// Sampling is off.
    #[error("heap profiling is off; start the service with {SETTING}")]
    Off,
    /// One is being made.
    #[error("another heap profile is being made")]
    Busy,
    /// The dump is larger than it may be.
    #[error("the dump has more than {DUMP_BYTES_MAX} bytes; sample less often")]
    TooLarge,
    /// The allocator refused.
    #[error("the allocator refused to dump: {0}")]
    Refused(std::io::Error),
    /// The dump's file.
    #[error("heap dump: {0}")]
    Io(std::io::Error),
    /// The dump is of another form than expected.
    #[error("the dump holds no {0}")]
    Format(&'static str),
}

/// Whether sampling was turned on at the start.
pub fn is_on() -> bool {
    profiling::prof::read().unwrap_or(false)
}

static ONE: Mutex<()> = Mutex::new(());

/// A file that goes with its guard.
struct Dump(PathBuf);

impl Dump {
    /// An empty file that nobody else can read and that was not there before.
    fn new(dir: &Path) -> std::io::Result<Self> {
        let unique = rand::random::<u64>();
        let path = dir.join(format!(
            "backdrop-heap-{}-{unique:016x}",
            std::process::id()
        ));
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self(path))
    }

    fn read(&self) -> Result<String, HeapError> {
        let file = std::fs::File::open(&self.0).map_err(HeapError::Io)?;
        let mut text = String::new();
        let mut file = file.take(DUMP_BYTES_MAX + 1);
        let read = file.read_to_string(&mut text).map_err(HeapError::Io)?;
        if read as u64 > DUMP_BYTES_MAX {
            return Err(HeapError::TooLarge);
        }
        Ok(text)
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "heap dump not removed");
        }
    }
}

/// The memory in use by where it was allocated, as an uncompressed `profile.proto`. Takes tens of milliseconds: not on an async worker.
/// The caller has reserved [`PROFILE_BYTES_MAX`].
pub fn profile() -> Result<Vec<u8>, HeapError> {
    if !is_on() {
        return Err(HeapError::Off);
    }
    let _one = ONE.try_lock().ok_or(HeapError::Busy)?;
    let dump = Dump::new(&std::env::temp_dir()).map_err(HeapError::Io)?;
    write_dump(&dump.0)?;
    let text = dump.read()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    pprof::from_dump(&text, now)
}

fn write_dump(path: &Path) -> Result<(), HeapError> {
    let path = CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|error| HeapError::Refused(error.into()))?;
    let mut name = path.as_ptr();
    // SAFETY: `prof.dump` reads a `const char *` from where the value points, which lives until the call returns, as does the text that
    // it points to; nothing is read back.
    let code = unsafe {
        je::mallctl(
            c"prof.dump".as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            (&raw mut name).cast(),
            size_of_val(&name),
        )
    };
    match code {
        0 => Ok(()),
        code => Err(HeapError::Refused(std::io::Error::from_raw_os_error(code))),
    }
}
