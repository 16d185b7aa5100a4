//! Load scenarios on goose: a million sessions with a due time each, and a truth checker.
//!
//! The way of a run: [`cli`] resolves a plan, [`run`] walks through it. [`gallery`] makes pictures that say who they are
//! ([`code`]), [`catalogue`] brings them to the service, [`population`] makes the sessions, [`attack`] (goose) starts
//! one [`gateway`] per [`cohort`], the [`preview`] users (for composites with a [`participant`]), the [`herd`]s, [`churn`] and [`penetration`], [`record`] measures,
//! [`truth`] judges, [`report`] tells, and [`metrics`] tell a Prometheus meanwhile. What gateways send can be kept as a [`tape`] and replayed.

#![warn(unsafe_op_in_unsafe_fn)]

pub mod admin;
pub mod attack;
pub mod catalogue;
pub mod churn;
pub mod cli;
pub mod client;
pub mod code;
pub mod cohort;
pub mod draw;
pub mod frame;
pub mod gallery;
pub mod gateway;
pub mod herd;
#[expect(
    unsafe_code,
    reason = "the one place for system calls that std does not offer"
)]
pub mod host;
pub mod metrics;
pub mod monitor;
pub mod participant;
pub mod penetration;
pub mod picture;
pub mod population;
pub mod preview;
pub mod progress;
pub mod reader;
pub mod record;
pub mod report;
pub mod run;
pub mod schedule;
pub mod shared;
pub mod tape;
pub mod timetable;
pub mod truth;
pub mod wire;
