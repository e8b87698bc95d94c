//! The lab: lab hosts to run tests in. See `tests/lab/README.md`.

pub mod agent;
pub mod answers;
pub mod argv;
pub mod boot;
pub mod cache;
pub mod console;
pub mod cpus;
pub mod folder;
pub mod host;
pub mod images;
pub mod job;
pub mod keys;
pub mod l0;
pub mod lab;
pub mod picture;
pub mod plug;
pub mod qmp;
pub mod slots;
pub mod snapshot;
pub mod stuck;
pub mod template;
pub mod thorough;
pub mod tools;
pub mod variants;
