//! A picture of the host as SVG: the tree of functions with their groups, and what each seat has of it.
//!
//! Not here: any decision; the picture shows a plan or a refusal that was made. Called by `cli` and `daemon`.

mod resources;
mod svg;
mod tree;

use spec::inventory::HostInventory;
use spec::plan::{Plan, Refusal};

use self::svg::Svg;

/// The width of the picture in pixels.
const WIDTH: u32 = 1120;

/// The space around everything.
const MARGIN: u32 = 24;

/// The height of a line of text.
const LINE: u32 = 22;

/// What tells seats apart, in the file's order: (strong, pale). The eight colours that colour-blind people keep apart
/// (Okabe and Ito, "Color Universal Design"), without black and the yellow that no text is readable on.
const SEATS: [(&str, &str); 6] = [
    ("#0072b2", "#d6e8f4"),
    ("#d55e00", "#fbe3d1"),
    ("#009e73", "#d3f0e6"),
    ("#cc79a7", "#f6e2ed"),
    ("#56b4e9", "#e0f2fc"),
    ("#e69f00", "#fcefd0"),
];

/// What belongs to the host.
const HOST: (&str, &str) = ("#8a8f98", "#f1f2f4");

/// What stands in the way.
const REFUSED: (&str, &str) = ("#c0182b", "#fdecee");

/// Draws the host with what a plan gives to each seat, or with what a refusal names.
pub fn picture(inventory: &HostInventory, answer: Result<&Plan, &Refusal>) -> String {
    let mut svg = Svg::new(WIDTH);
    let name = inventory.host.name.as_deref().unwrap_or("host");
    let product = inventory.host.product.as_deref().or(inventory.cpus.model.as_deref()).unwrap_or("");
    svg.bold(MARGIN, MARGIN + 14, 18, name);
    svg.text(
        MARGIN + 14 + 11 * name.chars().count().min(60) as u32,
        MARGIN + 14,
        "#5c6370",
        &svg::cut(product, 70),
    );
    let mut y = MARGIN + 40;
    if let Err(refusal) = answer {
        let count = refusal.reasons.len();
        let text =
            format!("refused for {count} reason{}; what they name is red", if count == 1 { "" } else { "s" });
        svg.text(MARGIN, y, REFUSED.0, &text);
        y += LINE;
    }
    if let Ok(plan) = answer {
        y = legend(&mut svg, y, plan);
    }
    y = tree::draw(&mut svg, y, inventory, answer);
    y = resources::draw(&mut svg, y + LINE, inventory, answer);
    svg.finish(y + MARGIN)
}

/// The colour of a seat.
const fn colour(seat: usize) -> (&'static str, &'static str) {
    SEATS[seat % SEATS.len()]
}

/// One line for each seat, the host last.
fn legend(svg: &mut Svg, mut y: u32, plan: &Plan) -> u32 {
    for (index, seat) in plan.seats.iter().enumerate() {
        svg.filled(MARGIN, y - 12, 14, 14, colour(index).0);
        svg.bold(MARGIN + 22, y, 13, &svg::cut(&seat.name, 32));
        let cards: usize = seat.slots.len();
        let text = format!(
            "{} processors, {}, {cards} card{}",
            seat.cpus.count,
            seat.memory.size,
            if cards == 1 { "" } else { "s" }
        );
        svg.text(MARGIN + 260, y, "#30343b", &text);
        y += LINE;
    }
    svg.filled(MARGIN, y - 12, 14, 14, HOST.0);
    svg.text(MARGIN + 22, y, "#30343b", "stays with the host");
    y + LINE + 8
}
