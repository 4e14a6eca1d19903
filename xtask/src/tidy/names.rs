//! The rule about names: a name says what a thing does, so the words that say nothing are not used.
//!
//! Not here: what names should be instead. `tidy` calls this.

use super::{Project, Violation, lexer};

/// Words that say nothing, in singular and plural.
const EMPTY_WORDS: &[&str] =
    &["common", "helper", "helpers", "manager", "managers", "misc", "util", "utils", "utilities", "utility"];

/// Empty words that the field uses for things, so that an item (not a file) may carry them: the common configuration
/// of a virtio device, the register IA32_MISC_ENABLE.
const FIELD_WORDS: &[&str] = &["common", "misc"];

/// Keywords after which the next word is a name that the file gives.
const DECLARES: &[&str] = &["const", "enum", "fn", "mod", "static", "struct", "trait", "type", "union"];

/// Finds files, folders and items whose names hold an empty word.
pub(super) fn say_something(project: &Project) -> Vec<Violation> {
    const RULE: &str = "no-managers";
    let mut found = Vec::new();
    for place in &project.places {
        let name = place.rsplit('/').next().unwrap_or_default();
        if let Some(word) = empty_word(name) {
            found.push(Violation::new(RULE, place, format!("`{word}` says nothing about what it does")));
        }
    }
    for file in project.files.iter().filter(|file| file.path.ends_with(".rs")) {
        let code = lexer::code_only(&file.text);
        let mut before = "";
        for (word, line) in lexer::words(&code) {
            if DECLARES.contains(&before)
                && let Some(empty) = empty_word(word).filter(|empty| !FIELD_WORDS.contains(empty))
            {
                let says = format!("`{word}`: `{empty}` says nothing about what it does");
                found.push(Violation::at(RULE, file, line, says));
            }
            before = word;
        }
    }
    found
}

/// The empty word in `name`, whichever way its words are joined.
fn empty_word(name: &str) -> Option<&'static str> {
    let mut spaced = String::new();
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() {
            spaced.push(' ');
        }
        spaced.push(c.to_ascii_lowercase());
    }
    let upper = name.to_lowercase();
    let mut words =
        spaced.split(|c: char| !c.is_alphanumeric()).chain(upper.split(|c: char| !c.is_alphanumeric()));
    words.find_map(|word| EMPTY_WORDS.iter().find(|empty| **empty == word).copied())
}

#[cfg(test)]
mod tests {
    use super::super::{file, project};
    use super::*;

    #[test]
    fn an_empty_word_is_found_however_it_is_joined() {
        let rows = [
            ("DeviceManager", Some("manager")),
            ("device_manager", Some("manager")),
            ("DEVICE_MANAGER", Some("manager")),
            ("utils.rs", Some("utils")),
            ("misc-things", Some("misc")),
            ("managed", None),
            ("uncommon", None),
            ("Utilisation", None),
            ("io_bus", None),
        ];
        for (name, expected) in rows {
            assert_eq!(empty_word(name), expected, "{name}");
        }
    }

    #[test]
    fn only_names_that_the_file_gives_count() {
        let rows = [
            ("crates/a/src/lib.rs", "struct BusManager;", 1),
            ("crates/a/src/lib.rs", "use vmm_sys_util::eventfd;\n// a helper\nfn f() { vm.manager() }", 0),
            ("crates/a/src/lib.rs", "pub const fn helper() {}", 1),
            ("crates/a/src/lib.rs", "struct CommonHeader; const MISC_ENABLE: u32 = 0x1a0;", 0),
            ("crates/a/src/misc.rs", "", 1),
            ("crates/util/src/lib.rs", "", 1),
            ("crates/a/src/common.rs", "", 1),
        ];
        for (path, text, expected) in rows {
            assert_eq!(say_something(&project(&[], &[file(path, text)])).len(), expected, "{path} {text}");
        }
    }
}
