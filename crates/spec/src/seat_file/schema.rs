//! The JSON schema of the seat file, printed from its types.
//!
//! Not here: checking a file against it ([`super::shape`]). Called by that check, by `allod` to print it and by the
//! generator of the reference pages.

use std::sync::LazyLock;

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::SeatFile;

/// The schema with everything in its place, as the check walks it.
static INLINED: LazyLock<Value> = LazyLock::new(|| print(true).to_value());

impl SeatFile {
    /// Prints the JSON schema (2020-12) of the seat file.
    pub fn schema() -> Schema {
        print(false)
    }
}

/// The schema without references.
pub(super) fn inlined() -> &'static Value {
    &INLINED
}

fn print(inline: bool) -> Schema {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = inline;
    settings
        .with_transform(RecursiveTransform(without_null))
        .into_generator()
        .into_root_schema_for::<SeatFile>()
}

/// Takes `null` out: TOML has no such value, a key is there or it is not.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    object.retain(|key, value| !(key == "default" && value.is_null()));
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if choices.len() == 1
        && let Some(Value::Object(only)) = choices.pop()
    {
        object.remove("anyOf");
        for (key, value) in only {
            // The words at the key say more about this place than those at the type.
            object.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{SeatFile, inlined};
    use crate::seat_file::{MAX_DEVICES_PER_SEAT, MAX_SEATS};

    /// Calls `visit` for each schema below `value`, the name of its key with it.
    fn walk(name: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
        visit(name, value);
        if let Some(items) = value.get("items") {
            walk(name, items, visit);
        }
        for (key, property) in value.get("properties").and_then(Value::as_object).into_iter().flatten() {
            walk(key, property, visit);
        }
    }

    #[test]
    fn every_key_is_described_and_every_plain_one_has_an_example() {
        walk("", inlined(), &mut |name, schema| {
            assert!(schema.get("anyOf").is_none() && schema.get("$ref").is_none(), "{name}: {schema}");
            let plain = schema.get("properties").is_none() && schema.get("items").is_none();
            if name.is_empty() || !plain {
                return;
            }
            let inner = schema.get("description").is_none() && schema.get("minimum").is_some();
            assert!(inner || schema["description"].is_string(), "{name}: {schema}");
            assert!(inner || schema["examples"].is_array(), "{name}: {schema}");
        });
    }

    #[test]
    fn the_bounds_in_the_schema_are_the_named_ones() {
        let seats = &inlined()["properties"]["seat"];
        assert_eq!(seats["maxItems"], MAX_SEATS);
        assert_eq!(seats["items"]["properties"]["device"]["maxItems"], MAX_DEVICES_PER_SEAT);
    }

    #[test]
    fn the_printed_schema_knows_no_null() {
        let printed = SeatFile::schema().to_value().to_string();
        assert!(!printed.contains("null"), "{printed}");
    }
}
