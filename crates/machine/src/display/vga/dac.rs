//! The palette of 256 colours behind ports 0x3C7 to 0x3C9.

/// The palette and how far an access to one of its colours has come.
#[derive(Clone, Debug)]
pub(crate) struct Dac {
    colors: [[u8; 3]; 256],
    reading: bool,
    read_index: u8,
    write_index: u8,
    component: usize,
    written: [u8; 3],
}

impl Default for Dac {
    fn default() -> Self {
        Self {
            colors: [[0; 3]; 256],
            reading: false,
            read_index: 0,
            write_index: 0,
            component: 0,
            written: [0; 3],
        }
    }
}

impl Dac {
    /// Port 0x3C7 read: what the next access to the data port is expected to be.
    pub(super) fn state(&self) -> u8 {
        if self.reading { 3 } else { 0 }
    }

    pub(super) fn write_index(&self) -> u8 {
        self.write_index
    }

    pub(super) fn begin_read(&mut self, index: u8) {
        (self.reading, self.read_index, self.component) = (true, index, 0);
    }

    pub(super) fn begin_write(&mut self, index: u8) {
        (self.reading, self.write_index, self.component) = (false, index, 0);
    }

    pub(super) fn read_data(&mut self) -> u8 {
        let [red, green, blue] = self.color(self.read_index);
        let value = [red, green, blue].get(self.component).copied().unwrap_or(0);
        self.component += 1;
        if self.component == 3 {
            self.component = 0;
            self.read_index = self.read_index.wrapping_add(1);
        }
        value
    }

    pub(super) fn write_data(&mut self, value: u8) {
        if let Some(place) = self.written.get_mut(self.component) {
            *place = value;
        }
        self.component += 1;
        if self.component == 3 {
            self.component = 0;
            if let Some(color) = self.colors.get_mut(usize::from(self.write_index)) {
                *color = self.written;
            }
            self.write_index = self.write_index.wrapping_add(1);
        }
    }

    /// Red, green and blue as they were written.
    pub(crate) fn color(&self, index: u8) -> [u8; 3] {
        self.colors.get(usize::from(index)).copied().unwrap_or_default()
    }
}
