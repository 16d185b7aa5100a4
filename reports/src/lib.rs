//! What a chaos run leaves behind: the run record, its schema, and its renderings.
//!
//! [`load`] holds what one simulator run measured, [`record`] what a whole chaos run concluded. Both are wire
//! types: they carry no behaviour beyond their invariants, and every quantity names its unit.
//! [`read`] takes a record from disk, [`schema`] is its JSON Schema, [`render`] turns it into HTML, JUnit, CTRF and
//! Markdown. [`compare`] holds two runs against each other, [`history`] follows a scenario over many,
//! [`scorecard`] holds what they measured beside the naive way.
//! [`steal`] measures the one figure that both programs write, [`scrape`] answers the Prometheus of either. Nothing here judges:
//! verdicts are the runner's, and every rendering repeats the record's own.

pub mod alike;
pub mod command;
pub mod compare;
pub mod error;
pub mod format;
pub mod history;
pub mod load;
pub mod read;
pub mod record;
pub mod render;
pub mod schema;
pub mod scorecard;
pub mod scrape;
pub mod statistics;
pub mod steal;
