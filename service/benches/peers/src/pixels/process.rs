//! A process that measures peers, and the turns that it takes.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::folder::{Folder, SETS};

/// Has glibc ask for huge pages, for these peers' buffers as for ours.
const HUGE_PAGES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

/// The process, and what it said of itself.
pub struct Process {
    talk: RefCell<Talk>,
    shown: PathBuf,
    peers: Vec<(String, String)>,
    missing: Vec<(String, String)>,
    versions: Vec<(String, String)>,
}

struct Talk {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

/// Ends with its input.
impl Drop for Talk {
    fn drop(&mut self) {
        self.to = None;
        drop(self.child.wait());
    }
}

fn pairs(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = list.as_array().into_iter().flatten();
    list.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

impl Process {
    /// Starts `command` with the folder, and hears what it has.
    pub fn start(mut command: Command, folder: &Folder) -> io::Result<Self> {
        let mut child = command
            .arg(folder.path())
            .arg(SETS.to_string())
            .env(HUGE_PAGES.0, HUGE_PAGES.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let from = BufReader::new(from.expect("piped"));
        let mut talk = Talk { child, to, from };
        let known: Value = serde_json::from_str(&talk.line()?).map_err(io::Error::other)?;
        Ok(Self {
            talk: RefCell::new(talk),
            shown: folder.path().join("shown"),
            peers: pairs(&known["peers"]),
            missing: pairs(&known["missing"]),
            versions: pairs(&known["versions"]),
        })
    }

    /// Libraries that are not there, and why.
    pub fn missing(&self) -> &[(String, String)] {
        &self.missing
    }

    /// Versions of those that say theirs.
    pub fn versions(&self) -> &[(String, String)] {
        &self.versions
    }

    /// The peers of one kind of work.
    pub fn peers<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = Peer<'a>> {
        let of_kind = self.peers.iter().filter(move |(of, _)| of == kind);
        of_kind.map(|(kind, name)| Peer {
            process: self,
            kind,
            name,
        })
    }
}

impl Talk {
    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.from.read_line(&mut line)? {
            0 => Err(io::Error::other(
                "its process ended: its error stands above",
            )),
            _ => Ok(line),
        }
    }

    fn ask(&mut self, command: &str, kind: &str, name: &str) -> io::Result<f64> {
        let to = self.to.as_mut().expect("open while it lives");
        writeln!(to, "{command}\t{kind}\t{name}")?;
        to.flush()?;
        let line = self.line()?;
        match line.trim().split_once(' ') {
            Some(("failed", why)) => Err(io::Error::other(why)),
            _ => line.trim().parse().map_err(io::Error::other),
        }
    }
}

/// One way of one library: how to have it work once, and how to see what it made.
pub struct Peer<'a> {
    process: &'a Process,
    kind: &'a str,
    pub name: &'a str,
}

impl Peer<'_> {
    fn ask(&self, command: &str) -> io::Result<f64> {
        let mut talk = self.process.talk.borrow_mut();
        talk.ask(command, self.kind, self.name)
    }

    /// Milliseconds of one run, by its own clock.
    pub fn run(&self) -> io::Result<f64> {
        Ok(self.ask("run")? / 1e6)
    }

    /// What a run makes, after one with every set of buffers: RGBA8 or RGB8, or a JPEG file.
    pub fn show(&self) -> io::Result<Vec<u8>> {
        self.ask("show")?;
        std::fs::read(&self.process.shown)
    }
}
