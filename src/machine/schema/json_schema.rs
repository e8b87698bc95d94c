//! The machine file's JSON schema: for editors and generators, and for what help, manual and errors say of a field.

use serde_json::{Value, json};

use crate::machine::file::Machine;

/// The JSON schema of a machine file, in the dialect of 2020-12.
///
/// RON has no schema language of its own. What a person writes in RON stands to this schema as follows, which the
/// schema's `$comment` repeats: `(a: 1)` is an object, `Name` is the string `"Name"`, `Name(a: 1)` is an object of one
/// key, `{"Name": {"a": 1}}`, and a field that is left out is absent.
pub fn schema() -> Value {
    let mut schema =
        schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Machine>();
    let schema = schema.ensure_object();
    schema.insert("title".into(), json!("vfio-run machine file"));
    schema.insert(
        "$comment".into(),
        json!(
            "The file is RON. An object is written (field: value), the string of an enum is a bare name, and an \
             object with one key of an enum is that name with the value in parentheses: {\"Vnc\": {\"port\": 5900}} \
             is Vnc(port: 5900)."
        ),
    );
    let mut schema = Value::Object(std::mem::take(schema));
    // The name's own default is the file's, not the empty text that stands for it in the types.
    if let Some(Value::Object(name)) = schema.pointer_mut("/properties/name") {
        name.remove("default");
    }
    drop_nulls(&mut schema);
    schema
}

/// Takes `null` out: what is left out of a machine file is left out, nobody writes it as nothing.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(map) => {
            map.values_mut().for_each(drop_nulls);
            for key in ["anyOf", "type", "enum"] {
                if let Some(Value::Array(items)) = map.get_mut(key) {
                    items
                        .retain(|item| *item != json!({ "type": "null" }) && *item != json!("null") && !item.is_null());
                    if let ("anyOf", [Value::Object(only)]) = (key, items.as_slice()) {
                        let only = only.clone();
                        map.remove("anyOf");
                        map.extend(only);
                    } else if let ("type", [Value::String(only)]) = (key, items.as_slice()) {
                        let only = json!(only);
                        map.insert("type".into(), only);
                    }
                }
            }
            if let Some(default) = map.get_mut("default") {
                strip_nulls(default);
                if default.is_null() {
                    map.remove("default");
                }
            }
        }
        _ => {}
    }
}

fn strip_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(strip_nulls);
        map.retain(|_, value| !value.is_null());
    }
}
