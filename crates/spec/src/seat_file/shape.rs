//! Checks the shape of a seat file against its schema: keys, types, bounds and text forms, all of them in one walk.
//!
//! Not here: what several keys say together ([`super::rules`]). Called by [`super::decode`].
//! Knows the part of JSON schema that the types of [`super::document`] print, no more.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::problem::{Problems, printable};
use super::{format, nearest::nearest};

/// The most known words that a message lists.
const MAX_LISTED: usize = 16;

/// The most characters of the user's own words that a message repeats.
const MAX_REPEATED: usize = 48;

/// Where the walk is: the key and the table around it.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// The name of the key that holds the value.
    key: &'p str,
    /// The path of the table, `seat.memory`; empty at the top.
    table: &'p str,
    /// Whether the table is one of several.
    several: bool,
    /// Whether the document could be read as a whole, so that what is not there is missing.
    whole: bool,
}

/// Checks a document; of one that is not `whole`, only what could be read of it.
pub(super) fn check(
    schema: &Value,
    document: &Spanned<DeTable<'_>>,
    whole: bool,
    problems: &mut Problems<'_>,
) {
    let top = Place { key: "", table: "", several: false, whole };
    table(schema, document.get_ref(), document.span(), top, problems);
}

fn value(schema: &Value, value: &Spanned<DeValue<'_>>, place: Place<'_>, problems: &mut Problems<'_>) {
    let span = value.span();
    match (kind(schema), value.get_ref()) {
        ("object", DeValue::Table(keys)) => table(schema, keys, span, place, problems),
        ("array", DeValue::Array(items)) => array(schema, items, span, place, problems),
        ("string", DeValue::String(text)) => string(schema, text, span, place, problems),
        ("integer", DeValue::Integer(number)) => integer(schema, number, span, place, problems),
        ("boolean", DeValue::Boolean(_)) => {}
        (wanted, found) => {
            let message = format!(
                "`{}` is {}, but must be {}",
                place.key,
                with_article(found.type_str()),
                noun(wanted)
            );
            problems.add(span, message, example(schema, place));
        }
    }
}

fn table(
    schema: &Value,
    keys: &DeTable<'_>,
    span: Range<usize>,
    place: Place<'_>,
    problems: &mut Problems<'_>,
) {
    let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
    let here = header(place);
    for (key, held) in keys {
        let name = key.get_ref().as_ref();
        let Some(inner) = known.get(name) else {
            let message = format!("unknown key `{}` {here}", repeated(name));
            problems.add(key.span(), message, Some(meant(name, known.keys().map(String::as_str))));
            continue;
        };
        let path = below(place.table, name);
        let inside = matches!(kind(inner), "object") || inner.pointer("/items/properties").is_some();
        let table = if inside { path.as_str() } else { place.table };
        let several = if inside { kind(inner) == "array" } else { place.several };
        value(inner, held, Place { key: name, table, several, ..place }, problems);
    }
    if place.whole {
        missing(schema, keys, span, place, problems);
    }
}

/// Tells of the required keys that are not there.
fn missing(
    schema: &Value,
    keys: &DeTable<'_>,
    span: Range<usize>,
    place: Place<'_>,
    problems: &mut Problems<'_>,
) {
    let here = header(place);
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str).filter(|name| !keys.contains_key(*name)) {
        let path = below(place.table, name);
        let inner = schema.pointer(&format!("/properties/{name}")).unwrap_or(&Value::Null);
        let help = match kind(inner) {
            "object" => Some(format!("add a table `[{path}]`")),
            "array" => Some(format!("add a table `[[{path}]]`")),
            _ => example(inner, Place { key: name, ..place }),
        };
        problems.add(span.clone(), format!("`{name}` is missing {here}"), help);
    }
}

fn array(
    schema: &Value,
    items: &DeArray<'_>,
    span: Range<usize>,
    place: Place<'_>,
    problems: &mut Problems<'_>,
) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    let count = items.len() as u64;
    if bound("minItems").is_some_and(|least| count < least) {
        problems.add(span, format!("`{}` is empty", place.key), example(schema, place));
    } else if let Some(most) = bound("maxItems").filter(|most| count > *most) {
        let first_beyond = usize::try_from(most).ok().and_then(|most| items.get(most));
        let at = first_beyond.map_or(span, Spanned::span);
        problems.add(at, format!("`{}` has {count} entries, but at most {most} can be", place.key), None);
    }
    let inner = schema.get("items").unwrap_or(&Value::Null);
    for item in items {
        value(inner, item, place, problems);
    }
}

fn string(schema: &Value, text: &str, span: Range<usize>, place: Place<'_>, problems: &mut Problems<'_>) {
    let words: Vec<&str> = choices(schema).collect();
    if !words.is_empty() {
        if !words.contains(&text) {
            let message = format!("`{}` cannot be `{}`", place.key, repeated(text));
            problems.add(span, message, Some(meant(text, words)));
        }
        return;
    }
    let characters = text.chars().count() as u64;
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    if bound("minLength").is_some_and(|least| characters < least) {
        problems.add(span, format!("`{}` is empty", place.key), example(schema, place));
    } else if let Some(most) = bound("maxLength").filter(|most| characters > *most) {
        let message = format!("`{}` has {characters} characters, but at most {most} can be", place.key);
        problems.add(span, message, None);
    } else if let Some(form) = schema.get("format").and_then(Value::as_str)
        && let Err(right) = format::check(form, text)
    {
        let message = format!("`{}` cannot be `{}`", place.key, repeated(text));
        let right: String = right.chars().map(printable).take(MAX_REPEATED * 4).collect();
        problems.add(span, message, Some(right));
    }
}

fn integer(
    schema: &Value,
    number: &DeInteger<'_>,
    span: Range<usize>,
    place: Place<'_>,
    problems: &mut Problems<'_>,
) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    let least = bound("minimum").unwrap_or(0);
    let most = bound("maximum").unwrap_or(i64::MAX);
    let read = i64::from_str_radix(number.as_str(), number.radix()).ok();
    if read.is_none_or(|number| !(least..=most).contains(&number)) {
        let message =
            format!("`{}` is {}, but must be {least} to {most}", place.key, repeated(number.as_str()));
        problems.add(span, message, None);
    }
}

/// The type that a schema wants.
fn kind(schema: &Value) -> &str {
    match schema.get("type").and_then(Value::as_str) {
        Some(kind) => kind,
        None if choices(schema).next().is_some() => "string",
        None => "",
    }
}

/// The words that a schema admits, when it admits only some.
fn choices(schema: &Value) -> impl Iterator<Item = &str> {
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    let described = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let described = described.flat_map(|choice| {
        let several = choice.get("enum").and_then(Value::as_array).into_iter().flatten();
        choice.get("const").into_iter().chain(several)
    });
    listed.chain(described).filter_map(Value::as_str)
}

/// What would be right instead of `word`.
fn meant<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let listed: Vec<String> = known.iter().take(MAX_LISTED).map(|word| format!("`{word}`")).collect();
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", listed.join(", ")),
    }
}

/// A line that would be right, from the schema's own example.
fn example(schema: &Value, place: Place<'_>) -> Option<String> {
    let written = match kind(schema) {
        "object" => return Some(format!("write it as a table: `[{}]`", place.table)),
        "array" if schema.pointer("/items/properties").is_some() => {
            return Some(format!("write each as a table: `[[{}]]`", place.table));
        }
        _ => schema.pointer("/examples/0")?,
    };
    Some(format!("for example `{} = {written}`", place.key))
}

/// Says which table is meant, as it is written in the file.
fn header(place: Place<'_>) -> String {
    match place {
        Place { table: "", .. } => "at the top of the file".to_owned(),
        Place { table, several: true, .. } => format!("in `[[{table}]]`"),
        Place { table, several: false, .. } => format!("in `[{table}]`"),
    }
}

fn below(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

fn repeated(word: &str) -> String {
    let shown: String = word.chars().map(printable).take(MAX_REPEATED).collect();
    if shown.chars().count() < word.chars().count() { format!("{shown}...") } else { shown }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// The TOML word for a type of the schema.
fn noun(kind: &str) -> &'static str {
    match kind {
        "object" => "a table",
        "array" => "an array",
        "string" => "a string",
        "integer" => "an integer",
        _ => "true or false",
    }
}
