//! An endpoint for the tests of this crate: every kind of BAR, MSI and MSI-X.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

use crate::{
    Bar, BarIndex, BarKind, BarRange, Change, ConfigSize, ConfigSpace, Function, Identity, Msi, MsiShape,
    Msix, MsixLayout, Pin,
};

/// Shorthand for a BAR's declaration.
pub(crate) fn bar(index: u8, kind: BarKind, size: u64) -> Bar {
    let index = if kind == BarKind::Rom { BarIndex::ROM } else { BarIndex::bar(index).unwrap() };
    Bar { index, kind, size, prefetchable: kind == BarKind::Memory64 }
}

/// A display 1234:5678, subsystem abcd:ef01.
pub(crate) fn identity() -> Identity {
    Identity {
        vendor: 0x1234,
        device: 0x5678,
        revision: 1,
        class: 0x03_0000,
        subsystem_vendor: 0xabcd,
        subsystem: 0xef01,
    }
}

/// An express endpoint without BARs or capabilities.
pub(crate) fn endpoint() -> ConfigSpace {
    ConfigSpace::endpoint(ConfigSize::Express, &identity())
}

/// Runs `cases` of a property from one seed, so that a failure comes again; it keeps no file.
pub(crate) fn seeded(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0xa110d),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// An endpoint that does nothing but keep its registers.
pub(crate) struct TestFunction {
    pub(crate) config: ConfigSpace,
    msi: Msi,
    msix: Msix,
    msix_offset: u16,
    vga: bool,
}

impl TestFunction {
    pub(crate) fn new(bars: &[Bar]) -> Self {
        let mut config = endpoint();
        config.add_bars(bars).unwrap();
        config.set_interrupt_pin(Some(Pin::A));
        let msi = Msi::add(&mut config, MsiShape { log2_vectors: 5, wide: true, maskable: true }).unwrap();
        let msix = Msix::new(MsixLayout::own_bar(BarIndex::bar(0).unwrap(), 8).0);
        let msix_offset = msix.add_capability(&mut config).unwrap();
        Self { config, msi, msix, msix_offset, vga: false }
    }

    pub(crate) fn with_vga(self) -> Self {
        Self { vga: true, ..self }
    }

    fn follow(&mut self) -> Vec<Change> {
        let msi = self.msi.follow(&mut self.config).map(Change::Msi);
        let msix = self.msix.set_control(self.config.u16(self.msix_offset + 2)).map(Change::Msix);
        msi.into_iter().chain(msix).collect()
    }
}

impl Function for TestFunction {
    fn name(&self) -> &str {
        "test function"
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset).is_multiple_of(data.len()));
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) -> Vec<Change> {
        assert!(matches!(data.len(), 1 | 2 | 4) && usize::from(offset).is_multiple_of(data.len()));
        self.config.write(offset, data);
        self.follow()
    }

    fn bars(&self) -> Vec<BarRange> {
        let mut bars = self.config.bars();
        if self.vga {
            bars.extend(BarRange::legacy_vga(self.config.command()));
        }
        bars
    }

    fn reset(&mut self) -> Vec<Change> {
        self.config.reset();
        let mut changes: Vec<_> = self.msix.reset().map(Change::Msix).into_iter().collect();
        changes.append(&mut self.follow());
        changes
    }
}
