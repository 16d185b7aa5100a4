//! The peers of `pixel-peers` that are Rust crates: `image`, fast_image_resize and tiny-skia.
//!
//! It reads the same folder as `../pixels.py`, has the same names for what is measured, and speaks as it does: one line of JSON, then an
//! answer for each line on standard input. One thread.

mod peers;

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

pub const WIDTH: u32 = 1920;
pub const HEIGHT: u32 = 1080;

/// One frame's buffers.
pub struct Set {
    pub background: Vec<u8>,
    pub over: Vec<u8>,
    pub mask: Vec<u8>,
}

/// What all peers work on.
pub struct Folder {
    path: PathBuf,
    pub sets: Vec<Set>,
    pub picture: Vec<u8>,
    pub jpeg: Vec<u8>,
}

impl Folder {
    fn read(path: &Path, sets: usize) -> io::Result<Self> {
        let file = |name: String| std::fs::read(path.join(name));
        let set = |number| {
            Ok(Set {
                background: file(format!("background-{number}"))?,
                over: file(format!("over-{number}"))?,
                mask: file(format!("mask-{number}"))?,
            })
        };
        Ok(Self {
            path: path.to_owned(),
            sets: (0..sets).map(set).collect::<io::Result<_>>()?,
            picture: file("picture".to_owned())?,
            jpeg: file("picture.jpg".to_owned())?,
        })
    }
}

/// Works with the set of a number, into a buffer that is kept.
type Work<'a> = dyn FnMut(usize, &mut Vec<u8>) + 'a;

/// A way to do one kind of work.
pub struct Peer<'a> {
    pub kind: &'static str,
    pub name: &'static str,
    pub work: Box<Work<'a>>,
    pub made: Vec<u8>,
}

/// Nanoseconds of one run, or bytes that were shown.
fn answer(folder: &Folder, peer: &mut Peer<'_>, command: &str, turn: usize) -> io::Result<usize> {
    if command == "run" {
        let start = Instant::now();
        (peer.work)(turn % folder.sets.len(), &mut peer.made);
        std::hint::black_box(&peer.made);
        return Ok(start.elapsed().as_nanos() as usize);
    }
    for turn in (0..folder.sets.len()).rev() {
        (peer.work)(turn, &mut peer.made);
    }
    std::fs::write(folder.path.join("shown"), &peer.made)?;
    Ok(peer.made.len())
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(Ok(sets))) = (args.next(), args.next().map(|sets| sets.parse())) else {
        return Err(io::Error::other("usage: FOLDER SETS"));
    };
    let folder = Folder::read(Path::new(&path), sets)?;
    let mut peers = peers::all(&folder);
    let known: Vec<_> = peers.iter().map(|peer| [peer.kind, peer.name]).collect();
    println!(
        "{}",
        json!({ "peers": known, "missing": [], "versions": [] })
    );
    for (turn, line) in io::stdin().lock().lines().enumerate() {
        let line = line?;
        let mut words = line.split('\t');
        let (command, kind, name) = (words.next(), words.next(), words.next());
        let peer = peers
            .iter_mut()
            .find(|peer| Some(peer.kind) == kind && Some(peer.name) == name);
        let (Some(command), Some(peer)) = (command, peer) else {
            return Err(io::Error::other(format!("nobody does {line:?}")));
        };
        println!("{}", answer(&folder, peer, command, turn)?);
        io::stdout().flush()?;
    }
    Ok(())
}
