//! The page of a demo: one HTML file with everything in it, pictures too. Pure.

use super::story::{Chapter, Story, Table};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// The look of the page: readable, narrow, light or dark as the reader's system is.
const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.8rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; } figure img { height: 16rem; border: 6px solid #333; border-radius: 6px; }
pre { background: #8882; padding: .7rem; overflow-x: auto; max-height: 24rem; font-size: 13px; line-height: 1.35; }
.yes::before { content: '✓ '; color: #2a2; } .no::before { content: '✗ '; color: #c22; font-weight: bold; }
table { border-collapse: collapse; } th, td { border: 1px solid #8886; padding: .3rem .6rem; text-align: left; }
li { list-style: none; } .drawing { max-width: 100%; height: auto; background: #fff; } small { opacity: .7; }
";

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
    let note = if story.on_a_host { ON_A_HOST } else { IN_THE_LAB };
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>Allod: two people at one computer</title>\n\
         <style>\n{style}\n</style></head><body>\n<h1>Two people at one computer</h1>\n<p>{note}</p>\n{}",
        verdict(story)
    )
    .ok();
    story.chapters.iter().for_each(|part| chapter(&mut page, part));
    page.push_str("</body></html>\n");
    page
}

/// Says in one line what came of it.
fn verdict(story: &Story) -> String {
    let (all, well) = story.counts();
    let class = if story.is_well() { "yes" } else { "no" };
    let end =
        story.broke_off.as_deref().map_or(String::new(), |why| format!("; it broke off: {}", escaped(why)));
    format!("<p class=\"{class}\">{well} of {all} checks passed in {}{end}</p>\n", story.duration())
}

fn chapter(page: &mut String, chapter: &Chapter) {
    writeln!(page, "<h2>{}</h2>", escaped(&chapter.title)).ok();
    for monitor in &chapter.monitors {
        let title = escaped(&format!("{}, {}", monitor.title, monitor.caption));
        let png = STANDARD.encode(&monitor.png);
        writeln!(
            page,
            "<figure><img alt=\"{title}\" src=\"data:image/png;base64,{png}\"><figcaption>{title}</figcaption></figure>"
        )
        .ok();
    }
    if !chapter.checks.is_empty() {
        page.push_str("<ul>\n");
        for check in &chapter.checks {
            let class = if check.problem.is_none() { "yes" } else { "no" };
            let why = check.problem.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            writeln!(page, "<li class=\"{class}\">{}{}</li>", escaped(&check.what), escaped(&why)).ok();
        }
        page.push_str("</ul>\n");
    }
    if let Some(drawing) = &chapter.drawing {
        let title = escaped(&drawing.title);
        // As a picture, so that nothing in it reaches the page: neither its styles, nor what a host's words would do.
        let svg = STANDARD.encode(&drawing.svg);
        writeln!(page, "<img class=\"drawing\" alt=\"{title}\" src=\"data:image/svg+xml;base64,{svg}\">")
            .ok();
    }
    if let Some(figures) = &chapter.table {
        table(page, figures);
    }
    for command in &chapter.commands {
        let (line, said) = (escaped(&command.line), escaped(command.said.trim_end()));
        writeln!(page, "<pre><b>$ {line}</b>\n{said}</pre><small>{:.1} s</small>", command.seconds).ok();
    }
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

fn table(page: &mut String, table: &Table) {
    writeln!(page, "<p>{}</p>\n<table>", escaped(&table.note)).ok();
    for (number, row) in table.rows.iter().enumerate() {
        let kind = if number == 0 { "th" } else { "td" };
        let cells: String = row.iter().map(|cell| format!("<{kind}>{}</{kind}>", escaped(cell))).collect();
        writeln!(page, "<tr>{cells}</tr>").ok();
    }
    page.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::story::{Check, Command};

    #[test]
    fn words_of_a_guest_never_become_markup() {
        let mut story = Story::default();
        let chapter = story.begin("a <b> & \"c\"");
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
    fn a_story_that_broke_off_says_so_and_why() {
        let whole = Story { seconds: 220.4, ..Story::default() };
        let broken = Story { broke_off: Some("no <lab>".into()), ..whole.clone() };
        let (whole, broken) = (html(&whole), html(&broken));
        assert!(whole.contains("3 min 40 s") && !whole.contains("broke off"), "{whole}");
        assert!(broken.contains("broke off: no &lt;lab&gt;") && broken.contains("class=\"no\""), "{broken}");
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
