//! Where the cgroup filesystems are mounted and where this process stands in them; whether the host swaps.

use std::path::{Path, PathBuf};

use super::cgroup::Swap;
use super::error::HostError;
use super::files;

/// One line of /proc/self/mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Folder inside the filesystem that is mounted.
    pub root: String,
    /// Where.
    pub at: PathBuf,
    /// Filesystem type.
    pub kind: String,
    /// Options of the filesystem: on cgroup v1 its controllers.
    pub options: Vec<String>,
}

/// All mounts of /proc/self/mountinfo's text; lines of another form are left out.
pub fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, at) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?.to_owned();
    let options = right
        .nth(1)
        .unwrap_or("")
        .split(',')
        .map(str::to_owned)
        .collect();
    Some(Mount {
        root: unescape(root),
        at: PathBuf::from(unescape(at)),
        kind,
        options,
    })
}

/// Blanks in paths are written as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// This process's folder below `mount`, from /proc/self/cgroup's text and a choice of line by its controllers. None if it
/// lies outside of what is mounted.
pub fn own_folder(
    mount: &Mount,
    self_cgroup: &str,
    wanted: impl Fn(&str) -> bool,
) -> Option<PathBuf> {
    let path = self_cgroup.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        if wanted(controllers) {
            parts.next()
        } else {
            None
        }
    })?;
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    let escapes = below
        .components()
        .any(|c| !matches!(c, std::path::Component::Normal(_)));
    (!escapes).then(|| mount.at.join(below))
}

/// The weaker proof where the cgroup itself cannot forbid swap: the host has none. Swap that is on is no error: the run goes
/// on, and its verdict says that the limit may not have bound.
pub fn no_swap_anywhere(why: &str) -> Result<Swap, HostError> {
    Ok(no_swap(why, &swap_devices()?))
}

fn no_swap(why: &str, devices: &[String]) -> Swap {
    let list = match devices {
        [] => "no swap".to_owned(),
        devices => devices.join(", "),
    };
    Swap {
        off: devices.is_empty(),
        how: format!("{why}, and /proc/swaps lists {list}"),
    }
}

/// Swap devices in use; a kernel without swap has none.
pub fn swap_devices() -> Result<Vec<String>, HostError> {
    let path = Path::new("/proc/swaps");
    if !path.exists() {
        return Ok(vec![]);
    }
    let text = files::read(path)?;
    Ok(text
        .lines()
        .skip(1)
        .filter_map(|l| l.split_ascii_whitespace().next())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "31 24 0:27 /docker/ab /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory";

    #[test]
    fn swap_that_is_on_is_told_and_is_no_error() {
        let swap = no_swap("no memsw", &["/dev/sda2".to_owned()]);
        assert!(!swap.off && swap.how.contains("/dev/sda2"), "{swap:?}");
        assert!(no_swap("no memsw", &[]).off);
    }

    #[test]
    fn a_mount_has_root_place_type_and_controllers() {
        let mounts = parse(&format!("nonsense\n{LINE}\n"));
        let expected = Mount {
            root: "/docker/ab".to_owned(),
            at: "/sys/fs/cgroup/memory".into(),
            kind: "cgroup".to_owned(),
            options: vec!["rw".to_owned(), "memory".to_owned()],
        };
        assert_eq!(mounts, [expected]);
    }

    #[test]
    fn the_own_folder_is_taken_below_the_mounted_root() {
        let mount = &parse(LINE)[0];
        let own = |text| own_folder(mount, text, |c| c == "memory");
        assert_eq!(
            own("5:cpu:/x\n4:memory:/docker/ab/leaf\n"),
            Some("/sys/fs/cgroup/memory/leaf".into())
        );
        assert_eq!(
            own("4:memory:/docker/ab\n"),
            Some("/sys/fs/cgroup/memory/".into())
        );
        assert_eq!(
            own("4:memory:/elsewhere\n"),
            None,
            "outside of what is mounted"
        );
        assert_eq!(own("4:memory:/docker/ab/../../up\n"), None);
    }
}
