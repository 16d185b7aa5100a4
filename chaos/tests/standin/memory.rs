//! What the stand-in keeps over its own death: uploads, and how often it has lived, by which session ids of an earlier life are known.
//! With `--lose-upload` a later life has one upload less, with `--revive` it answers to ids of an earlier one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{flag, has};

/// The background that is there from the start.
const MODEL: &str = "model";
const PICTURE: &str = "a picture";

#[derive(Debug)]
pub struct Memory {
    uploads: PathBuf,
    life: u64,
    sessions: AtomicU64,
    revives: bool,
}

impl Memory {
    pub fn of(args: &[String]) -> Self {
        let data = Path::new(flag(args, "--data").expect("--data"));
        let (uploads, lives) = (data.join("uploads"), data.join("lives"));
        fs::create_dir_all(&uploads).expect("the folder is there");
        let life = fs::read(&lives).map_or(0, |lives| lives.len());
        fs::write(&lives, vec![b'x'; life + 1]).expect("the folder is there");
        let memory = Self {
            uploads,
            life: life as u64,
            sessions: AtomicU64::new(0),
            revives: has(args, "--revive"),
        };
        if has(args, "--lose-upload")
            && let Some((id, _)) = memory.kept().pop()
        {
            fs::remove_file(memory.uploads.join(id)).expect("it is there");
        }
        memory
    }

    fn kept(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(&self.uploads).expect("the folder is there");
        let read = |entry: fs::DirEntry| {
            let id = entry.file_name().into_string().ok()?;
            Some((id, fs::read_to_string(entry.path()).ok()?))
        };
        entries.flatten().filter_map(read).collect()
    }

    /// The listing, as the service gives it.
    pub fn backgrounds(&self) -> String {
        let mut all = vec![(MODEL.to_owned(), PICTURE.to_owned())];
        all.extend(self.kept());
        let entry = |(id, picture): &(String, String)| {
            let checksum = checksum(picture);
            format!(r#"{{"id":"{id}","version":1,"width":2,"height":2,"checksum":"{checksum}"}}"#)
        };
        let entries: Vec<_> = all.iter().map(entry).collect();
        format!(
            r#"{{"epoch":"1","backgrounds":[{}],"next":null}}"#,
            entries.join(",")
        )
    }

    pub fn background(&self, id: &str) -> Option<String> {
        if id == MODEL {
            return Some(PICTURE.to_owned());
        }
        fs::read_to_string(self.uploads.join(id)).ok()
    }

    /// Keeps a picture and acknowledges it.
    pub fn put(&self, id: &str, picture: &str) -> String {
        fs::write(self.uploads.join(id), picture).expect("the folder is there");
        format!(r#"{{"checksum":"{}"}}"#, checksum(picture))
    }

    pub fn create_session(&self) -> String {
        let number = self.sessions.fetch_add(1, Ordering::Relaxed);
        format!(r#"{{"session":"{}-{number}"}}"#, self.life)
    }

    /// Whether there is a session of this id.
    pub fn session(&self, id: &str) -> bool {
        self.revives || id.starts_with(&format!("{}-", self.life))
    }
}

fn checksum(picture: &str) -> String {
    format!(
        "{:x}",
        picture
            .bytes()
            .fold(7u64, |sum, byte| sum * 31 + u64::from(byte))
    )
}
