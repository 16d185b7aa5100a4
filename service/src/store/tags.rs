//! Tags: an immutable set of short words on a background.
//!
//! A set is never changed. [`Tags::with`] makes a new one that shares everything with the old one: the new word is put before a
//! list that both then end in, so it costs one small allocation however many tags there are. Number and length are bounded,
//! because each identity, sidecar and page of the list carries them.

use std::sync::Arc;

/// Most tags of one background.
pub const TAGS_MAX: usize = 8;
/// Most bytes of one tag.
pub const TAG_BYTES_MAX: usize = 32;

/// Why a tag was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// Not of the form `[a-z0-9][a-z0-9._-]{0,31}`.
    #[error("a tag is of the form [a-z0-9][a-z0-9._-]{{0,31}}")]
    Bad,
    /// More than [`TAGS_MAX`].
    #[error("a background has at most {TAGS_MAX} tags")]
    TooMany,
}

#[derive(Debug)]
struct Node {
    tag: [u8; TAG_BYTES_MAX],
    len: u8,
    /// Tags from here to the end of the list.
    count: u8,
    rest: Tags,
}

impl Node {
    fn as_str(&self) -> &str {
        // Made of ASCII only, so this never fails; the empty word stands for what cannot be.
        std::str::from_utf8(&self.tag[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// A set of tags, in the order in which they were given, newest first. Copying it is one count.
#[derive(Debug, Clone, Default)]
pub struct Tags(Option<Arc<Node>>);

/// `[a-z0-9][a-z0-9._-]{0,31}`: needs no escape in a URL or in JSON.
fn valid_tag(tag: &str) -> bool {
    tag.len() <= TAG_BYTES_MAX && super::valid_id(tag)
}

impl Tags {
    /// These tags and one more. The same set when it has that tag already.
    ///
    /// # Errors
    /// A tag that is not well formed, or one too many.
    pub fn with(&self, tag: &str) -> Result<Self, TagError> {
        if !valid_tag(tag) {
            return Err(TagError::Bad);
        }
        if self.contains(tag) {
            return Ok(self.clone());
        }
        if self.len() == TAGS_MAX {
            return Err(TagError::TooMany);
        }
        let mut bytes = [0; TAG_BYTES_MAX];
        bytes[..tag.len()].copy_from_slice(tag.as_bytes());
        Ok(Self(Some(Arc::new(Node {
            tag: bytes,
            len: tag.len() as u8,
            count: self.len() as u8 + 1,
            rest: self.clone(),
        }))))
    }

    /// A set of all of `tags`.
    ///
    /// # Errors
    /// As [`Tags::with`].
    pub fn of<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Self, TagError> {
        tags.into_iter()
            .try_fold(Self::default(), |all, tag| all.with(tag))
    }

    /// Number of tags.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |node| usize::from(node.count))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `tag` is one of them.
    pub fn contains(&self, tag: &str) -> bool {
        self.newest_first().any(|known| known == tag)
    }

    fn newest_first(&self) -> impl Iterator<Item = &str> {
        let mut next = self.0.as_deref();
        std::iter::from_fn(move || {
            let node = next?;
            next = node.rest.0.as_deref();
            Some(node.as_str())
        })
    }

    /// Bytes that the tags take in a JSON list: each its own, two quotes and a comma.
    pub fn json_bytes(&self) -> usize {
        self.newest_first().map(|tag| tag.len() + 3).sum()
    }

    /// The tags in alphabetical order: the same set always reads the same.
    pub fn sorted(&self) -> Vec<&str> {
        let mut tags: Vec<&str> = self.newest_first().collect();
        tags.sort_unstable();
        tags
    }
}

impl PartialEq for Tags {
    /// As sets: the order of giving does not count.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.newest_first().all(|tag| other.contains(tag))
    }
}

impl Eq for Tags {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_tag_makes_a_new_set_that_shares_the_old_one() {
        let old = Tags::of(["beach", "warm"]).expect("well formed");
        let new = old.with("evening").expect("room");
        assert_eq!(old.sorted(), ["beach", "warm"]);
        assert_eq!(new.sorted(), ["beach", "evening", "warm"]);
        let shared = &new.0.as_ref().expect("a node").rest;
        assert!(
            Arc::ptr_eq(
                shared.0.as_ref().expect("nodes"),
                old.0.as_ref().expect("nodes")
            ),
            "nothing was copied"
        );
    }

    #[test]
    fn a_tag_is_in_a_set_once_and_order_does_not_count() {
        let tags = Tags::of(["a", "b", "a"]).expect("well formed");
        assert_eq!(tags.len(), 2);
        assert_eq!(tags, Tags::of(["b", "a"]).expect("well formed"));
        assert_ne!(tags, Tags::of(["b", "c"]).expect("well formed"));
        assert_ne!(tags, Tags::default());
    }

    #[test]
    fn number_form_and_length_are_bounded() {
        let many: Vec<String> = (0..=TAGS_MAX).map(|number| format!("t{number}")).collect();
        let all = Tags::of(many[..TAGS_MAX].iter().map(String::as_str)).expect("as many as fit");
        assert_eq!(all.len(), TAGS_MAX);
        assert_eq!(all.with(&many[TAGS_MAX]), Err(TagError::TooMany));
        assert_eq!(all.with("t0").as_ref(), Ok(&all), "it is there already");
        let longest = "x".repeat(TAG_BYTES_MAX);
        assert!(Tags::of([longest.as_str()]).is_ok());
        for bad in [
            "",
            "A",
            "a b",
            "ä",
            "a\"",
            "-a",
            &"x".repeat(TAG_BYTES_MAX + 1),
        ] {
            assert_eq!(Tags::default().with(bad), Err(TagError::Bad), "{bad}");
        }
    }
}
