//! `allod lab profiles`: what hosts there are.

use lab::profile::{Card, Iommu, Port};
use lab::{Failure, Profile};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let profiles = Profile::all()?;
    if arguments.json {
        let text =
            serde_json::to_string_pretty(&profiles).map_err(|cause| Failure::Request(cause.to_string()))?;
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    for profile in &profiles {
        println!("{}: {}", profile.name, profile.description);
        let iommu = match profile.iommu {
            Iommu::Intel => "Intel VT-d",
            Iommu::Amd => "AMD-Vi",
            Iommu::None => "no IOMMU",
        };
        println!("    {iommu}, {} MiB of memory, processors: {}", profile.memory_mib, profile.cpus);
        for card in &profile.cards {
            println!("    {:12} {:16} {}", card.id, card.device, place(card));
            for part in &card.plugged {
                println!("      {:10} {:16} plugged into {}", part.id, part.device, card.id);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn place(card: &Card) -> String {
    match &card.port {
        Port::RootBus => "on the root bus".to_owned(),
        Port::OwnRootPort => "in a slot of its own".to_owned(),
        Port::WithCard(other) => format!("in the slot of {other}"),
        Port::Bridge(bridge) => format!("behind {bridge}"),
    }
}
