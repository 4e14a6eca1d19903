//! The few shapes that the picture is made of, written as SVG 1.1.
//!
//! Not here: what is drawn.

use std::fmt::Write;

/// A picture that grows downwards.
pub(super) struct Svg {
    body: String,
    width: u32,
}

impl Svg {
    /// Begins an empty picture.
    pub(super) fn new(width: u32) -> Self {
        Self { body: String::new(), width }
    }

    /// Plain text; `y` is its base line.
    pub(super) fn text(&mut self, x: u32, y: u32, colour: &str, text: &str) {
        self.put(format_args!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{}</text>", escaped(text)));
    }

    /// Text of fixed width, for addresses and numbers.
    pub(super) fn code(&mut self, x: u32, y: u32, colour: &str, text: &str) {
        let text = escaped(text);
        self.put(format_args!("<text class=\"c\" x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{text}</text>"));
    }

    /// Strong text.
    pub(super) fn bold(&mut self, x: u32, y: u32, size: u32, text: &str) {
        let text = escaped(text);
        self.put(format_args!("<text class=\"b\" x=\"{x}\" y=\"{y}\" font-size=\"{size}\">{text}</text>"));
    }

    /// A filled rectangle.
    pub(super) fn filled(&mut self, x: u32, y: u32, width: u32, height: u32, fill: &str) {
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"2\" fill=\"{fill}\"/>"
        ));
    }

    /// A box with an edge.
    pub(super) fn boxed(
        &mut self,
        (x, y): (u32, u32),
        (width, height): (u32, u32),
        (edge, fill): (&str, &str),
    ) {
        self.put(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" stroke=\"{edge}\"/>"
        ));
    }

    /// A line from point to point to point.
    pub(super) fn path(&mut self, colour: &str, points: &[(u32, u32)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x},{y}")).collect();
        let points = points.join(" ");
        self.put(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        ));
    }

    /// Ends the picture at `height`.
    pub(super) fn finish(self, height: u32) -> String {
        let Self { body, width } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"Inter, 'DejaVu Sans', Arial, sans-serif\" \
             font-size=\"13\">\n<style>.c {{ font-family: 'DejaVu Sans Mono', Consolas, monospace; font-size: 12px }} \
             .b {{ font-weight: 600; fill: #1b1e24 }}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        )
    }

    fn put(&mut self, shape: std::fmt::Arguments<'_>) {
        // A string takes everything; the result is only there for other writers.
        let _ = writeln!(self.body, "{shape}");
    }
}

/// The first characters of a text that is longer than there is room for.
pub(super) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// Text as XML admits it: names come from devices and may hold anything.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            // XML 1.0, section 2.2: what is no character there would break the whole file.
            _ if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                safe.push(char::REPLACEMENT_CHARACTER);
            }
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{Svg, cut, escaped};

    #[test]
    fn no_text_can_leave_its_place() {
        assert_eq!(escaped("<b a=\"&\">\u{0}\u{1b}"), "&lt;b a=&quot;&amp;&quot;&gt;\u{fffd}\u{fffd}");
        let mut svg = Svg::new(10);
        svg.text(1, 2, "#000", "</text><script>");
        assert!(!svg.finish(5).contains("<script>"));
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!((cut("abcdef", 4), cut("äöü", 3)), ("abc\u{2026}".to_owned(), "äöü".to_owned()));
    }
}
