//! What strangers send, and what must hold of every answer to it. Each check is a target of the fuzzer, and is run by the ordinary suite
//! over the seeds and their neighbours (`service/tests/fuzz.rs`), which compiles this file as a module.

pub mod batch_binary;
pub mod batch_json;
pub mod decode;
#[path = "../../tests/support/peak.rs"]
mod peak;
