//! What all trials of one run share: binaries, cgroup hierarchy, CPU placement, folders, seed, and the wish to stop.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use backdrop_reports::record::Binary;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::exposed::Exposed;
use crate::host::{Hierarchy, Placement, UndoLog};
use crate::progress::Progress;
use crate::rig::Stop;
use crate::scenario::BuildKind;
use crate::targets::Board;

/// See the module.
pub struct Context {
    /// Folder of the binaries.
    pub bin_dir: PathBuf,
    /// The simulator.
    pub simulator: PathBuf,
    /// Where cells are made.
    pub hierarchy: Hierarchy,
    /// Who runs where.
    pub placement: Placement,
    /// Undo log.
    pub undo: UndoLog,
    /// This program.
    pub program: PathBuf,
    /// Run folder.
    pub dir: PathBuf,
    /// Seed.
    pub seed: u64,
    /// Photographs instead of drawings.
    pub backgrounds: Option<PathBuf>,
    /// Drawings kept between runs.
    pub cache_dir: PathBuf,
    /// Keep data folders.
    pub keep_data: bool,
    /// Take the watchdog's kills for the kernel's.
    pub allow_emulated: bool,
    /// Raised by SIGINT and SIGTERM.
    pub stop: Stop,
    /// What a Prometheus is told of the run itself.
    pub exposed: Arc<Exposed>,
    /// Where it finds everybody.
    pub board: Board,
    /// For people.
    pub progress: Arc<Progress>,
}

impl Context {
    /// The service binary of this build.
    ///
    /// # Errors
    /// It is not there; in words.
    pub fn binary(&self, build: BuildKind) -> Result<PathBuf, String> {
        let path = self.bin_dir.join(build.file_name());
        if path.is_file() {
            Ok(path)
        } else {
            Err(format!(
                "there is no {}; `just chaos` builds it, or name its folder with --bin-dir",
                path.display()
            ))
        }
    }
}

#[derive(Debug, Deserialize)]
struct VersionJson {
    features: Vec<String>,
}

/// Why a binary is not the one that is needed.
#[derive(Debug, thiserror::Error)]
pub enum BinaryError {
    /// It cannot be read.
    #[error("cannot read {path}: {cause}; `just chaos` builds it, or name its folder with --bin-dir", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It does not say what it is.
    #[error("{path} version --json: {what}", path = path.display())]
    Version {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
    /// It was built with other features.
    #[error("{path} was built with features {found:?}, expected {expected:?}", path = path.display())]
    Features {
        /// Which.
        path: PathBuf,
        /// As it says.
        found: Vec<String>,
        /// As the build must be.
        expected: Vec<String>,
    },
}

/// Features (as the service tells them) and SHA-256 of one service build.
///
/// # Errors
/// Not there, mute, or built with other features than its kind demands.
pub fn inspect_service(bin_dir: &Path, build: BuildKind) -> Result<Binary, BinaryError> {
    let path = bin_dir.join(build.file_name());
    let sha256 = sha256(&path)?;
    let version = version(&path)?;
    let expected: Vec<String> = build.features().iter().map(|f| (*f).to_owned()).collect();
    let mut found = version.features;
    found.sort();
    if found != expected {
        return Err(BinaryError::Features {
            path,
            found,
            expected,
        });
    }
    Ok(Binary {
        path: path.display().to_string(),
        features: found,
        sha256,
    })
}

/// The same of the simulator, whose features decide nothing: `unknown` if it does not tell them.
///
/// # Errors
/// Not there.
pub fn inspect_simulator(path: &Path) -> Result<Binary, BinaryError> {
    Ok(Binary {
        path: path.display().to_string(),
        features: version(path).map_or_else(|_| vec!["unknown".to_owned()], |v| v.features),
        sha256: sha256(path)?,
    })
}

/// The same of this program, which is built with no feature of its own.
///
/// # Errors
/// It cannot be read.
pub fn inspect_runner(path: &Path) -> Result<Binary, BinaryError> {
    Ok(Binary {
        path: path.display().to_string(),
        features: Vec::new(),
        sha256: sha256(path)?,
    })
}

/// What a binary says of itself.
fn version(path: &Path) -> Result<VersionJson, BinaryError> {
    let fail = |what: String| BinaryError::Version {
        path: path.to_owned(),
        what,
    };
    let output = Command::new(path)
        .args(["version", "--json"])
        .output()
        .map_err(|e| fail(e.to_string()))?;
    if !output.status.success() {
        return Err(fail(output.status.to_string()));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| fail(e.to_string()))
}

fn sha256(path: &Path) -> Result<String, BinaryError> {
    let bytes = std::fs::read(path).map_err(|cause| BinaryError::Read {
        path: path.to_owned(),
        cause,
    })?;
    Ok(Sha256::digest(&bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect())
}
