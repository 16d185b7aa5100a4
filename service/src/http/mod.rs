//! HTTP.

pub mod admission;
pub mod auth;
pub mod batch;
pub mod io;
pub mod limits;
pub mod problem;
pub mod respond;
pub mod routes;
pub mod server;

/// The API document, as `/openapi.json` serves it.
pub const OPENAPI: &str = include_str!("openapi.json");
