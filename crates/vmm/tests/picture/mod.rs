//! Pictures of machines' displays, taken in the lab's host and read here.

use lab::{Failure, Host};
use scene::judge::Picture;

/// Takes a picture of the machine that listens on the socket `control`.
pub(crate) fn take(host: &Host, control: &str) -> Result<Picture, Failure> {
    let output = host.run_within(
        &format!("allod screenshot {control} -o {control}.png > /dev/null && od -An -v -tx1 {control}.png"),
        super::LIMIT,
    )?;
    assert!(output.is_success(), "{output:?}");
    let file: Vec<u8> =
        output.stdout.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut bytes).unwrap();
    assert_eq!(frame.color_type, png::ColorType::Rgb);
    Ok(Picture { width: frame.width, height: frame.height, bytes })
}
