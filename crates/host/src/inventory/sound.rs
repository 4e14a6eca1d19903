//! Sound cards that play or record now.

use spec::inventory::{HoldKind, HoldStrength};

use super::holders::Holders;
use super::open_nodes;
use super::reader::Reader;

const CARDS: &str = "/proc/asound";
/// The most streams of one card that are looked at.
const MOST_STREAMS: usize = 256;

/// Adds a hold for each card with a stream that is not closed.
pub(super) fn hold(reader: &Reader<'_>, holders: &mut Holders) {
    for card in reader.list(CARDS) {
        let number = card.strip_prefix("card").and_then(|number| number.parse::<u32>().ok());
        if number.is_none() {
            continue;
        }
        let device = format!("/sys/class/sound/{card}/device");
        let Some(function) = reader.tree().exists(&device).then(|| reader.function_of(&device)).flatten()
        else {
            continue;
        };
        for process in streams(reader, &card) {
            holders.add(function, HoldStrength::InUse, HoldKind::Sound { card: card.clone(), process });
        }
    }
}

/// The owners of the streams that are open, by the `status` file of each substream.
fn streams(reader: &Reader<'_>, card: &str) -> Vec<Option<String>> {
    let directories =
        reader.list(&format!("{CARDS}/{card}")).into_iter().filter(|name| name.starts_with("pcm"));
    let substreams = directories.flat_map(|pcm| {
        let directory = format!("{CARDS}/{card}/{pcm}");
        let subs = reader.list(&directory).into_iter().filter(|name| name.starts_with("sub"));
        subs.map(|sub| format!("{directory}/{sub}/status")).collect::<Vec<_>>()
    });
    let open =
        substreams.take(MOST_STREAMS).filter_map(|path| reader.text(&path)).filter(|text| text != "closed");
    open.map(|text| {
        let owner = text.lines().find_map(|line| line.strip_prefix("owner_pid"));
        let owner = owner.and_then(|rest| rest.trim_start_matches([' ', ':']).parse::<u32>().ok());
        owner.map(|pid| open_nodes::process_name(reader.tree(), &pid.to_string()))
    })
    .collect()
}
