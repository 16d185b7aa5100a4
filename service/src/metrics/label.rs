//! Labels with a closed set of values each, and one handle for every value.

use std::marker::PhantomData;

/// One value out of a label's closed set.
pub trait Label: Copy + 'static {
    /// The label's key.
    const KEY: &'static str;
    /// Every value, in the order of their indices.
    const ALL: &'static [Self];
    /// The value as it is exposed.
    fn name(self) -> &'static str;
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident($key:literal) { $($variant:ident = $value:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = concat!("`", $value, "`")] $variant,)+ }
        impl $crate::metrics::Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn name(self) -> &'static str { match self { $(Self::$variant => $value,)+ } }
            fn index(self) -> usize { self as usize }
        }
    )+};
}
pub(super) use labels;

/// One handle for each value of a label.
#[derive(Debug)]
pub struct By<L, M> {
    handles: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> By<L, M> {
    /// `handles` in the order of [`Label::ALL`].
    pub(super) fn new(handles: Box<[M]>) -> Self {
        Self {
            handles,
            label: PhantomData,
        }
    }

    /// The handle of one label value.
    #[must_use]
    pub fn of(&self, label: L) -> &M {
        &self.handles[label.index()]
    }
}
