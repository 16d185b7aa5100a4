//! The conditions under which a trial is broken off.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::Spanned;

use super::check::{Checked, Source};
use super::raw::RawAbort;
use super::{Abort, LiveFigure};
use crate::units;

/// Longest time that a condition may have to be met.
const FOR_MAX: Duration = Duration::from_secs(600);

impl Source<'_> {
    pub(super) fn aborts(&self, raw: &[Spanned<RawAbort>]) -> Checked<Vec<Abort>> {
        let mut names = BTreeSet::new();
        let mut aborts = Vec::new();
        for entry in raw {
            let abort = entry.get_ref();
            let name = self.name(&abort.name, "abort condition")?;
            if !names.insert(name.clone()) {
                return self.wrong(
                    abort.name.span(),
                    "another abort condition has this name",
                    "a name of its own",
                );
            }
            let known = LiveFigure::ALL.map(|figure| (figure.word(), figure));
            let figure = self.choice(&abort.figure, "figure of the last second", &known)?;
            if abort.unit.get_ref() != figure.unit() {
                let message = format!("`{}` is not in `{}`", figure.word(), abort.unit.get_ref());
                let mend = format!("unit = \"{}\"", figure.unit());
                return self.wrong(abort.unit.span(), message, mend);
            }
            let seconds = match &abort.lasts {
                None => 1,
                Some(text) => {
                    let lasts = self.duration(text)?;
                    let whole = lasts.subsec_nanos() == 0 && !lasts.is_zero();
                    if !whole || lasts > FOR_MAX {
                        let mend =
                            format!("whole seconds, 1s to {}", units::show_duration(FOR_MAX));
                        return self.wrong(
                            text.span(),
                            "a condition is looked at once a second",
                            mend,
                        );
                    }
                    lasts.as_secs() as u32
                }
            };
            aborts.push(Abort {
                name,
                figure,
                above: self.at_least_zero(&abort.above)?,
                seconds,
            });
        }
        Ok(aborts)
    }
}
