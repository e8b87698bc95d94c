//! What the types of the machine file say of its fields: the JSON schema, and the fields by their paths.

mod examples;
mod fields;
mod json_schema;

pub use fields::{Field, Fields};
pub use json_schema::schema;
