//! A small picture of a picture. It is made anew from the pixels, so nothing that the original says besides goes along:
//! no place, no camera, no time.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, metadata::Orientation};
use poste_protocol::limits;

/// Pixels of the largest picture that is decoded: about what a camera of the better kind writes. In memory that is 4
/// bytes each, once.
const MOST_PIXELS: u64 = 25_000_000;

/// Bytes that decoding may take in all.
const MOST_BYTES: u64 = 128 * 1024 * 1024;

/// Bytes of the longest file that is looked into: some formats are read as a whole before they are decoded.
const MOST_FILE: u64 = 32 * 1024 * 1024;

/// The longer side and the quality that are tried, one after the other, until the thumbnail is small enough.
const SIZES: [(u32, u8); 6] = [(320, 60), (320, 40), (240, 40), (160, 40), (96, 30), (48, 30)];

/// One picture at a time is decoded, so that many files at once take no more memory than one.
static ONE: Mutex<()> = Mutex::new(());

/// What was found out about a picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Its media type.
    pub(super) kind: &'static str,
    /// Its width and height as it is to be seen.
    pub(super) pixels: (u32, u32),
    /// The thumbnail in base64, if one could be made.
    pub(super) jpeg: Option<String>,
}

/// Looks at a file. What is no picture, or one of a format that is not known, gives nothing.
pub(super) fn of(file: &mut File) -> Option<Picture> {
    if file.metadata().ok()?.len() > MOST_FILE {
        return None;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format().ok()?;
    let kind = match reader.format()? {
        ImageFormat::Gif => "image/gif",
        ImageFormat::Jpeg => "image/jpeg",
        ImageFormat::Png => "image/png",
        ImageFormat::WebP => "image/webp",
        _ => return None,
    };
    let mut bounds = Limits::default();
    bounds.max_alloc = Some(MOST_BYTES);
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let sideways = matches!(
        turned,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let pixels = if sideways { (height, width) } else { (width, height) };
    let small_enough = u64::from(width) * u64::from(height) <= MOST_PIXELS && decoder.total_bytes() <= MOST_BYTES;
    let jpeg = if small_enough { DynamicImage::from_decoder(decoder).ok() } else { None };
    Some(Picture { kind, pixels, jpeg: jpeg.and_then(|picture| shrink(picture, turned)) })
}

fn shrink(picture: DynamicImage, turned: Orientation) -> Option<String> {
    let mut small = scaled(picture, SIZES[0].0);
    small.apply_orientation(turned);
    let mut small = on_white(&small);
    for (side, quality) in SIZES {
        small = scaled(small, side);
        let mut jpeg = Vec::new();
        small.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, quality)).ok()?;
        if jpeg.len().div_ceil(3) * 4 <= limits::THUMBNAIL_BYTES {
            return Some(STANDARD.encode(jpeg));
        }
    }
    None
}

/// Not longer than so many pixels, and never larger than it is.
fn scaled(picture: DynamicImage, side: u32) -> DynamicImage {
    if picture.width().max(picture.height()) <= side { picture } else { picture.thumbnail(side, side) }
}

/// JPEG knows nothing that can be seen through: that is shown on white.
fn on_white(picture: &DynamicImage) -> DynamicImage {
    let seen_through = picture.to_rgba8();
    let mut seen = image::RgbImage::new(picture.width(), picture.height());
    for (on, of) in seen.pixels_mut().zip(seen_through.pixels()) {
        let alpha = u32::from(of[3]);
        let mix = |value: u8| u8::try_from((u32::from(value) * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX);
        *on = image::Rgb([mix(of[0]), mix(of[1]), mix(of[2])]);
    }
    DynamicImage::ImageRgb8(seen)
}
