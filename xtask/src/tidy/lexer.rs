//! As much of Rust's lexer as the tidy rules need: code without comments and literals, and its words.
//!
//! Not a parser. The rules about code call this.

/// Gives `source` with comments, strings and character literals blanked out and every line where it was.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Lists the words of `code` (identifiers, keywords, numbers), each with its line, counted from 1.
pub(super) fn words(code: &str) -> impl Iterator<Item = (&str, usize)> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.lines().enumerate().flat_map(move |(line, text)| {
        text.split(move |c| !word(c)).filter(|piece| !piece.is_empty()).map(move |piece| (piece, line + 1))
    })
}

/// Where the comment or literal that begins at `at` ends; `at` itself where none begins.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
    match (chars[at], next(1)) {
        ('/', '/') => find(chars, at, |i| chars[i] == '\n'),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at + 1),
        ('r', '"' | '#') if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
            raw_string_end(chars, at)
        }
        ('\'', '\\') => (find(chars, at + 3, |i| chars[i] == '\'') + 1).min(chars.len()),
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(chars: &[char], from: usize, found: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|i| found(*i)).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let quote = find(chars, at + 1, |i| chars[i] != '#');
    if chars.get(quote) != Some(&'"') {
        // A raw identifier such as r#type.
        return at;
    }
    let hashes = quote - at - 1;
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    (find(chars, quote + 1, closes) + 1 + hashes).min(chars.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let rows = [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"f("x \" y", z)"#, "f( , z)"),
            (r##"f(r#"x " y"#, z)"##, "f( , z)"),
            ("r#type", "r#type"),
            (r"['a', '\'', '\n', '\u{1f}', b]", "[ , , , , b]"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("a \"open", "a"),
            ("a /* open", "a"),
            ("a r\"open", "a"),
            ("a br\"a\" b", "a b b"),
        ];
        for (source, expected) in rows {
            let code = code_only(source);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
            assert_eq!(
                code.lines().map(str::len).collect::<Vec<_>>(),
                source.lines().map(str::len).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn words_carry_their_line() {
        let found: Vec<_> = words("fn one() {\n  two_3\n}").collect();
        assert_eq!(found, [("fn", 1), ("one", 1), ("two_3", 2)]);
    }
}
