//! What a chaos run leaves behind: the run record, its schema, and its renderings.
//!
//! [`load`] holds what one simulator run measured, [`record`] what a whole chaos run concluded. Both are wire
//! types: they carry no behaviour beyond their invariants, and every quantity names its unit.

pub mod load;
pub mod record;
