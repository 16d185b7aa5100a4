//! Links from a page to what lies beside it: relative, so that a folder of runs may be moved as a whole.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The page of a run, in its folder.
pub const REPORT_FILE: &str = "index.html";

/// The folder that a file lies in; the working directory for a bare name.
#[must_use]
pub fn home(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The way from a page in the folder `home` to the report in a run's folder; none if that has none.
#[must_use]
pub fn to_report(home: &Path, run: &Path) -> Option<String> {
    let page = run.join(REPORT_FILE);
    page.is_file().then(|| relative(home, &page))
}

/// The way from the folder `home` to a file.
#[must_use]
pub fn relative(home: &Path, target: &Path) -> String {
    let full = |path: &Path| -> PathBuf { path.canonicalize().unwrap_or_else(|_| path.into()) };
    let (home, target) = (full(home), full(target));
    let (from, to): (Vec<_>, Vec<_>) = (home.components().collect(), target.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(OsStr::new(".."), from.len() - common);
    let down = to[common..].iter().map(|part| part.as_os_str());
    let parts: Vec<_> = up.chain(down).map(OsStr::to_string_lossy).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_to_the_page() {
        let (home, run) = (Path::new("/o/scorecard"), Path::new("/o/run/index.html"));
        assert_eq!(relative(home, run), "../run/index.html");
        assert_eq!(relative(Path::new("/o"), run), "run/index.html");
    }

    #[test]
    fn a_run_without_a_page_is_no_link() {
        let out = tempfile::tempdir().expect("a folder");
        let run = out.path().join("run");
        std::fs::create_dir(&run).expect("a folder");
        assert_eq!(to_report(out.path(), &run), None);
        std::fs::write(run.join(REPORT_FILE), "").expect("written");
        assert_eq!(
            to_report(out.path(), &run).as_deref(),
            Some("run/index.html")
        );
    }

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        assert_eq!(home(Path::new("a.html")), Path::new("."));
        assert_eq!(home(Path::new("b/a.html")), Path::new("b"));
    }
}
