//! The licences of all dependencies against the policy in deny.toml.
//!
//! An expression is evaluated, not compared: `MIT OR GPL-3.0` is fine where MIT is. Not here: who wrote what; the
//! lock file has that. `check` calls this.

use crate::report::Findings;
use crate::workspace::{External, Workspace};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Parentheses deeper than this are refused: no honest expression comes near.
const DEEPEST: usize = 16;

#[derive(Deserialize)]
struct Policy {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

/// Checks every package in the lock file.
pub(super) fn run(workspace: &Workspace) -> Result<Findings> {
    let path = workspace.root.join("deny.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let policy: Policy = toml::from_str(&text).context("deny.toml does not state a licence policy")?;
    eprintln!("    {} packages against {} licences", workspace.externals.len(), policy.licenses.allow.len());
    Ok(Findings { problems: problems(&workspace.externals, &policy.licenses), ..Findings::default() })
}

fn problems(packages: &[External], policy: &Licences) -> Vec<String> {
    let mut problems = Vec::new();
    let mut used = BTreeSet::new();
    for package in packages {
        let exception = policy.exceptions.iter().find(|exception| exception.name == package.name);
        let also = exception.map_or(&[][..], |exception| &exception.allow);
        let mut allowed = |id: &str| {
            let listed = policy.allow.iter().find(|allowed| *allowed == id);
            used.extend(listed.map(String::as_str));
            listed.is_some() || also.iter().any(|allowed| allowed == id)
        };
        let Some(licence) = &package.licence else {
            problems.push(format!("{} states no licence", package.name));
            continue;
        };
        match evaluate(licence, &mut allowed) {
            Some(true) => {}
            Some(false) => {
                problems.push(format!("{}: `{licence}` is not allowed by deny.toml", package.name))
            }
            None => problems.push(format!("{}: `{licence}` is no SPDX expression", package.name)),
        }
    }
    for id in policy.allow.iter().filter(|id| !used.contains(id.as_str())) {
        problems.push(format!("deny.toml allows {id}, which nothing needs: remove it"));
    }
    for exception in &policy.exceptions {
        if !packages.iter().any(|package| package.name == exception.name) {
            problems.push(format!("deny.toml excepts {}, which nothing uses: remove it", exception.name));
        }
    }
    problems
}

/// Tells whether `expression` can be met with licences that are `allowed`; nothing when it is malformed.
fn evaluate(expression: &str, allowed: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
    // Before SPDX expressions a slash meant "or".
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let met = either(&mut rest, DEEPEST, allowed)?;
    rest.is_empty().then_some(met)
}

fn either(words: &mut &[&str], depth: usize, allowed: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
    let mut met = both(words, depth, allowed)?;
    while let Some(("OR" | "or", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        *words = rest;
        // Both sides are looked at: the second may be malformed.
        met |= both(words, depth, allowed)?;
    }
    Some(met)
}

fn both(words: &mut &[&str], depth: usize, allowed: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
    let mut met = one(words, depth, allowed)?;
    while let Some(("AND" | "and", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        *words = rest;
        met &= one(words, depth, allowed)?;
    }
    Some(met)
}

fn one(words: &mut &[&str], depth: usize, allowed: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    match *first {
        "(" => {
            let met = either(words, depth.checked_sub(1)?, allowed)?;
            let (")", rest) = words.split_first().map(|(first, rest)| (*first, rest))? else { return None };
            *words = rest;
            Some(met)
        }
        ")" | "OR" | "AND" | "WITH" => None,
        id => {
            let Some(("WITH", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) else {
                return Some(allowed(id));
            };
            let (exception, rest) = rest.split_first()?;
            *words = rest;
            // An exception only adds rights: the licence alone is enough.
            Some(allowed(id) || allowed(&format!("{id} WITH {exception}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], exceptions: &[(&str, &str)]) -> Licences {
        let exception =
            |(name, id): &(&str, &str)| Exception { name: (*name).into(), allow: vec![(*id).into()] };
        Licences {
            allow: allow.iter().map(|id| (*id).to_owned()).collect(),
            exceptions: exceptions.iter().map(exception).collect(),
        }
    }

    #[test]
    fn an_expression_is_evaluated() {
        let rows = [
            ("MIT", Some(true)),
            ("GPL-3.0", Some(false)),
            ("MIT OR GPL-3.0", Some(true)),
            ("GPL-3.0 OR MIT", Some(true)),
            ("MIT/GPL-3.0", Some(true)),
            ("MIT AND GPL-3.0", Some(false)),
            ("MIT OR GPL-3.0 AND GPL-2.0", Some(true)),
            ("(MIT OR GPL-3.0) AND GPL-2.0", Some(false)),
            ("(MIT OR GPL-3.0) AND Zlib", Some(true)),
            ("Zlib WITH LLVM-exception", Some(true)),
            ("GPL-3.0 WITH GCC-exception-3.1 OR MIT", Some(true)),
            ("", None),
            ("MIT OR", None),
            ("MIT Zlib", None),
            ("(MIT", None),
            ("MIT)", None),
            ("AND MIT", None),
        ];
        for (expression, expected) in rows {
            let met = evaluate(expression, &mut |id| ["MIT", "Zlib"].contains(&id));
            assert_eq!(met, expected, "{expression}");
        }
        let deep = format!("{}MIT{}", "(".repeat(DEEPEST + 1), ")".repeat(DEEPEST + 1));
        assert_eq!(evaluate(&deep, &mut |_| true), None);
    }

    #[test]
    fn a_package_keeps_to_the_policy() {
        let rows = [
            (Some("MIT"), policy(&["MIT"], &[]), 0),
            (Some("GPL-3.0 OR MIT"), policy(&["MIT"], &[]), 0),
            (Some("MPL-2.0"), policy(&[], &[("a", "MPL-2.0")]), 0),
            (Some("MPL-2.0"), policy(&[], &[]), 1),
            (None, policy(&[], &[]), 1),
            (Some("see the file"), policy(&[], &[]), 1),
            (Some("MIT"), policy(&["MIT", "Zlib"], &[]), 1),
            (Some("MIT"), policy(&["MIT"], &[("gone", "MPL-2.0")]), 1),
        ];
        for (licence, policy, expected) in rows {
            let packages = [External { name: "a".into(), licence: licence.map(str::to_owned) }];
            assert_eq!(problems(&packages, &policy).len(), expected, "{licence:?}");
        }
    }
}
