//! What firmware has written on a terminal, and whether a picture of a display shows the same.
//!
//! Not here: where text and picture come from. Scenarios of firmware on emulated and on assigned cards use it.

use std::collections::{HashMap, HashSet};

use lab::Failure;

/// The pixels of a character's cell, line by line, eight columns of each.
pub(crate) type Glyph = Vec<u8>;

/// Waits until the page of UEFI's setup with `word` on it is written to its end in the file `console`: a page ends with the help
/// for what is chosen, in thirty columns at the right, line by line.
pub(crate) fn until_page(console: &str, word: &str) -> String {
    format!(
        "for i in $(seq 2400); do grep -qa '{word}' {console} && tail -c 38 {console} | grep -qaE '25;71H {{30}}$' && exit 0; \
         sleep 0.1; done; cat {console}; exit 1"
    )
}

/// Looks again for as long as what is looked at may be on its way: firmware writes on one console after the other.
pub(crate) fn agrees(mut look: impl FnMut() -> Result<Result<(), String>, Failure>) -> Result<(), Failure> {
    const LOOKS: usize = 20;
    let mut difference = String::new();
    for _ in 0..LOOKS {
        match look()? {
            Ok(()) => return Ok(()),
            Err(found) => difference = found,
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    panic!("{difference}")
}

/// The cell at a place: what has another colour than most of it is ink.
pub(crate) fn glyph(
    pixel: impl Fn(usize, usize) -> [u8; 3],
    (left, top): (usize, usize),
    height: usize,
) -> Glyph {
    let mut amounts: HashMap<[u8; 3], usize> = HashMap::new();
    for y in 0..height {
        for x in 0..8 {
            *amounts.entry(pixel(left + x, top + y)).or_default() += 1;
        }
    }
    let ground = amounts.into_iter().max_by_key(|(color, amount)| (*amount, *color)).map(|(color, _)| color);
    let ink = |x: usize, y: usize| Some(pixel(left + x, top + y)) != ground;
    (0..height).map(|y| (0..8).fold(0, |bits, x| bits << 1 | u8::from(ink(x, y)))).collect()
}

/// What stands on a terminal after some text.
pub(crate) struct Screen(Vec<Vec<char>>);

impl Screen {
    /// The largest console that OVMF offers and all pictures of at least 800x600 have room for.
    const COLUMNS: usize = 100;
    const ROWS: usize = 31;
    /// The size of a character of UEFI (UEFI 2.10, section 34.3.5, EFI_GLYPH_WIDTH and EFI_GLYPH_HEIGHT).
    const CELL: (usize, usize) = (8, 19);

    /// Reads what a terminal is told.
    pub(crate) fn of(text: &str) -> Self {
        let mut cells = vec![vec![' '; Self::COLUMNS]; Self::ROWS];
        let (mut row, mut column) = (0_usize, 0_usize);
        let mut rest = text.chars();
        while let Some(next) = rest.next() {
            match next {
                '\r' => column = 0,
                '\n' => row += 1,
                '\x08' => column = column.saturating_sub(1),
                '\x1b' => {
                    // A command: numbers between semicolons, and a letter.
                    let mut command = String::new();
                    for next in rest.by_ref() {
                        command.push(next);
                        if next.is_ascii_alphabetic() {
                            break;
                        }
                    }
                    let numbers: Vec<usize> = command
                        .trim_start_matches('[')
                        .trim_end_matches(char::is_alphabetic)
                        .split(';')
                        .map(|number| number.parse().unwrap_or(1))
                        .collect();
                    match command.chars().last() {
                        Some('H') => (row, column) = (numbers[0] - 1, numbers.get(1).map_or(0, |x| x - 1)),
                        Some('J') => cells.iter_mut().for_each(|row| row.fill(' ')),
                        _ => {}
                    }
                }
                shown => {
                    if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                        *cell = shown;
                    }
                    column += 1;
                }
            }
        }
        Self(cells)
    }

    /// Whether each of these words is in a line.
    pub(crate) fn has(&self, words: &[&str]) -> Result<(), String> {
        let lines: Vec<String> = self.0.iter().map(|row| row.iter().collect()).collect();
        match words.iter().find(|word| !lines.iter().any(|line| line.contains(**word))) {
            Some(word) => Err(format!("no `{word}` in {lines:#?}")),
            None => Ok(()),
        }
    }

    /// Whether each character stands in its place in a picture of this size: the same one always in the same shape, and no two
    /// in one.
    pub(crate) fn is_shown_by(
        &self,
        (width, height): (usize, usize),
        pixel: impl Fn(usize, usize) -> [u8; 3],
    ) -> Result<(), String> {
        let left = (width - Self::COLUMNS * Self::CELL.0) / 2;
        let top = (height - Self::ROWS * Self::CELL.1) / 2;
        let mut shapes: HashMap<char, Glyph> = HashMap::new();
        for (row, line) in self.0.iter().enumerate() {
            // OVMF cannot name a terminal's hundredth column: the right side of its frames is on displays alone.
            for (column, written) in line.iter().enumerate().take(Self::COLUMNS - 1) {
                let at = (left + column * Self::CELL.0, top + row * Self::CELL.1);
                // The last lines of a cell have the cursor.
                let found = glyph(&pixel, at, Self::CELL.1 - 4);
                let known = shapes.entry(*written).or_insert_with(|| found.clone());
                if *known != found {
                    return Err(format!("`{written}` in row {row}, column {column} looks like another one"));
                }
            }
        }
        let different: HashSet<_> = shapes.values().collect();
        if different.len() != shapes.len() || shapes.len() < 20 {
            return Err(format!("{} characters have {} shapes", shapes.len(), different.len()));
        }
        Ok(())
    }
}
