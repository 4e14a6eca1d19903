//! The page of a demo: one HTML file with everything in it, pictures too. What came of it and what was on the monitors is
//! seen first; what was typed and said is there for who wants to read it. Pure.

use super::story::{Chapter, Command, Monitor, Story, Table};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// The look of the page.
const STYLE: &str = include_str!("page.css");

/// What it is about.
const ABOUT: &str = "Each has a machine of their own, in which the hardware is real: a graphics card, a USB controller with \
keyboard and pointer, a disk, a part of the network card. Carl's machine beside them is an ordinary one.";
/// The same on a host of the reader's own, where there are cards only.
const ABOUT_A_HOST: &str =
    "Each seat is a machine of its own that has a graphics card of this host for itself.";

/// What a reader of the figures has to know, of a demo in the lab and of one on a host.
const IN_THE_LAB: &str = "This ran in the lab: a PC played by an emulator, with an IOMMU and emulated cards. Everything above the \
hardware is the real thing: a stock Debian kernel with KVM and VFIO, and Allod. Times on this page are the emulator's and say \
nothing about speed on hardware.";
const ON_A_HOST: &str = "This ran on this very host, with its own cards; what was seen is on their monitors, of which nobody \
takes pictures.";

/// Writes the page of a story.
pub(super) fn html(story: &Story) -> String {
    let mut page = String::new();
    let style = STYLE.trim();
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Allod: two people at one computer</title>\n<style>\n{style}\n</style></head><body><main>\n"
    )
    .ok();
    header(&mut page, story);
    monitors(&mut page, story);
    let note = if story.on_a_host { ON_A_HOST } else { IN_THE_LAB };
    writeln!(page, "<p class=\"soft\">{note}</p>").ok();
    contents(&mut page, story);
    story.chapters.iter().enumerate().for_each(|(number, part)| chapter(&mut page, number, part));
    page.push_str(
        "<footer>Everything here is in files beside this page too; story.json has all of it for programs.</footer>\n\
         </main></body></html>\n",
    );
    page
}

/// Says what it is about and what came of it.
fn header(page: &mut String, story: &Story) {
    let (all, well) = story.counts();
    let about = if story.on_a_host { ABOUT_A_HOST } else { ABOUT };
    let verdict = match (story.is_well(), story.broke_off.is_some()) {
        (true, _) => format!("<p class=\"verdict well\">✓ {well} of {all} checks passed</p>"),
        (false, false) => format!("<p class=\"verdict ill\">✗ {well} of {all} checks passed</p>"),
        (false, true) => {
            format!("<p class=\"verdict ill\">✗ It broke off; {well} of {all} checks passed</p>")
        }
    };
    write!(page, "<header>\n<h1>Two people at one computer</h1>\n<p>{about}</p>\n{verdict}\n<dl>\n").ok();
    let hung = (story.hangs > 0)
        .then(|| format!(", with an emulator that hung and was started anew {} times", story.hangs));
    let duration = [("took", story.duration() + hung.as_deref().unwrap_or_default())];
    let facts = story.facts.iter().map(|(what, fact)| (*what, fact.clone()));
    for (what, fact) in duration.into_iter().chain(facts) {
        writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(what), escaped(&fact)).ok();
    }
    page.push_str("</dl>\n</header>\n");
    if !story.is_well() {
        page.push_str("<div class=\"trouble\">\n");
        let end = story.broke_off.iter().map(|why| format!("It broke off: {why}"));
        for trouble in end.chain(story.problems()) {
            writeln!(page, "<p>{}</p>", escaped(&trouble)).ok();
        }
        page.push_str("</div>\n");
    }
}

/// Shows each monitor once, with all its pictures in turn.
fn monitors(page: &mut String, story: &Story) {
    let pictures: Vec<&Monitor> = story.chapters.iter().flat_map(|chapter| &chapter.monitors).collect();
    let mut shown: Vec<&str> = Vec::new();
    page.push_str("<div class=\"monitors\">\n");
    for first in &pictures {
        if shown.contains(&first.title.as_str()) {
            continue;
        }
        shown.push(&first.title);
        let (title, caption) = (escaped(&first.title), escaped(&first.caption));
        page.push_str("<figure><div class=\"screen\">");
        for picture in pictures.iter().filter(|picture| picture.title == first.title) {
            let png = STANDARD.encode(&picture.png);
            write!(page, "<img alt=\"{title}\" src=\"data:image/png;base64,{png}\">").ok();
        }
        writeln!(
            page,
            "</div><div class=\"stand\"></div><figcaption><b>{title}</b><span>{caption}</span></figcaption></figure>"
        )
        .ok();
    }
    page.push_str("</div>\n");
}

fn contents(page: &mut String, story: &Story) {
    page.push_str("<nav>\n");
    for (number, chapter) in story.chapters.iter().enumerate() {
        writeln!(page, "<a href=\"#part-{number}\">{}</a>", escaped(&chapter.title)).ok();
    }
    page.push_str("</nav>\n");
}

fn chapter(page: &mut String, number: usize, chapter: &Chapter) {
    let (title, words) = (escaped(&chapter.title), escaped(chapter.words));
    writeln!(page, "<section id=\"part-{number}\">\n<h2>{title}</h2>\n<p class=\"soft\">{words}</p>").ok();
    if !chapter.checks.is_empty() {
        page.push_str("<ul>\n");
        for check in &chapter.checks {
            let class = if check.problem.is_none() { "yes" } else { "no" };
            let why = check.problem.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            writeln!(page, "<li class=\"{class}\">{}{}</li>", worded(&check.what), escaped(&why)).ok();
        }
        page.push_str("</ul>\n");
    }
    if let Some(figures) = &chapter.table {
        table(page, figures);
    }
    if let Some(drawing) = &chapter.drawing {
        let title = escaped(&drawing.title);
        // As a picture, so that nothing in it reaches the page: neither its styles, nor what a host's words would do.
        let svg = STANDARD.encode(&drawing.svg);
        writeln!(page, "<img class=\"drawing\" alt=\"{title}\" src=\"data:image/svg+xml;base64,{svg}\">")
            .ok();
    }
    chapter.commands.iter().for_each(|said| command(page, said));
    page.push_str("</section>\n");
}

/// Shows a command, with what it said folded away.
fn command(page: &mut String, command: &Command) {
    let (line, said) = (escaped(&command.line), escaped(command.said.trim_end()));
    let took = format!("{:.1} s", command.seconds);
    writeln!(
        page,
        "<details><summary><code>$ {line}</code> <small>{took}</small></summary>\n<pre>{said}</pre></details>"
    )
    .ok();
}

/// Replaces what HTML would read as its own; words out of a host or a guest are never markup.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter if letter.is_control() && letter != '\n' => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

/// The same for our own words, in which a command or what was typed stands between grave accents.
fn worded(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return escaped(text);
    }
    let part = |(number, part): (usize, &&str)| match number % 2 {
        0 => escaped(part),
        _ => format!("<code>{}</code>", escaped(part)),
    };
    parts.iter().enumerate().map(part).collect()
}

fn table(page: &mut String, table: &Table) {
    writeln!(page, "<div class=\"wide\"><table>").ok();
    for (number, row) in table.rows.iter().enumerate() {
        let kind = if number == 0 { "th" } else { "td" };
        // A figure stays with its unit and its spread where a line is broken.
        let joined = |cell: &String| worded(cell).replace(" %", "\u{a0}%").replace(" ±", "\u{a0}±");
        let cells: String = row.iter().map(|cell| format!("<{kind}>{}</{kind}>", joined(cell))).collect();
        writeln!(page, "<tr>{cells}</tr>").ok();
    }
    writeln!(page, "</table></div>\n<p class=\"soft\">{}</p>", worded(&table.note)).ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::story::{Check, Command};

    #[test]
    fn words_of_a_guest_never_become_markup() {
        let mut story = Story::default();
        let chapter = story.begin("a <b> & \"c\"", "");
        let said = "<script>alert(1)</script>\u{1b}[31m".to_owned();
        chapter.commands.push(Command { line: "allod logs".into(), said, seconds: 1.0 });
        chapter.checks.push(Check { what: "x".into(), problem: Some("<img src=y>".into()) });
        let rows = vec![vec!["h".to_owned()], vec!["<img src=y>".to_owned()]];
        chapter.table = Some(Table { note: "of <script>alert".into(), rows });
        let page = html(&story);
        assert!(page.contains("<th>h</th>") && page.contains("<td>&lt;img src=y&gt;</td>"), "{page}");
        for forbidden in ["<script>alert", "<img src=y>", "a <b>", "\u{1b}"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
    }

    #[test]
    fn words_between_grave_accents_are_code_and_still_no_markup() {
        let rows = [
            ("with `left` typed", "with <code>left</code> typed"),
            ("`<b>` & `c`", "<code>&lt;b&gt;</code> &amp; <code>c</code>"),
            ("one ` alone", "one ` alone"),
            ("none", "none"),
        ];
        for (text, expected) in rows {
            assert_eq!(worded(text), expected);
        }
    }

    #[test]
    fn a_monitor_is_shown_once_with_all_its_pictures() {
        let mut story = Story::default();
        for title in ["left", "right", "left"] {
            let monitor =
                Monitor { title: title.into(), caption: "c".into(), file: "f".into(), png: vec![1] };
            story.begin("", "").monitors.push(monitor);
        }
        let page = html(&story);
        assert_eq!(page.matches("<figure>").count(), 2, "{page}");
        assert_eq!(page.matches("<img alt=\"left\"").count(), 2, "{page}");
    }

    #[test]
    fn a_story_that_broke_off_says_so_and_why() {
        let whole = Story { seconds: 220.4, ..Story::default() };
        let broken = Story { broke_off: Some("no <lab>".into()), ..whole.clone() };
        let (whole, broken) = (html(&whole), html(&broken));
        assert!(whole.contains("3 min 40 s") && !whole.contains("broke off"), "{whole}");
        assert!(broken.contains("broke off: no &lt;lab&gt;") && broken.contains("verdict ill"), "{broken}");
    }

    #[test]
    fn a_page_of_a_real_host_speaks_of_no_emulator() {
        for on_a_host in [false, true] {
            let page = html(&Story { on_a_host, ..Story::default() });
            assert_eq!(page.contains("played by an emulator"), !on_a_host);
            assert_eq!(page.contains("this very host"), on_a_host);
        }
    }
}
